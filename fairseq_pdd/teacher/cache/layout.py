"""Layout of a teacher cache on disk.

::

    DIR/cache.json                  settings, inputs and checksums of all files; written last
    DIR/<subset>/00000.tokens.npy   one record per target token, sentence by sentence
    DIR/<subset>/00000.samples.npy  one record per sentence: its number of tokens and its digest
    DIR/<subset>/00000.json         checksums of the two files; written when both are complete

Sentences are numbered as in their data set; a shard holds ``SHARD_SENTENCES`` of them. A sentence
that is too long for the teacher has no tokens.
"""

import hashlib
import io
import json
import os
import zlib
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
from fairseq.data import FairseqDataset
from torch import Tensor

from ...errors import UsageError
from ...records.files import replace_file, write_text
from ...speech.augmentation import augmentations
from .content import input_paths, inputs_sha256, transforms

FORMAT = 2
MANIFEST = "cache.json"
SHARD_SENTENCES = 4096

SAMPLE = np.dtype([("tokens", "<i4"), ("digest", "<u4")])


def token_dtype(topk: int, num_classes: int, probs: str) -> np.dtype:
    """Return the type of the record of a target token.

    Args:
        topk: number of listed classes; more than ``num_classes`` means all.
        num_classes: size of the target dictionary.
        probs: type of the listed probabilities, ``float16`` or ``float32``.
    """
    k = min(topk, num_classes)
    classes = "<u2" if num_classes <= 1 << 16 else "<u4"
    return np.dtype(
        [
            ("classes", classes, (k,)),
            ("probs", {"float16": "<f2", "float32": "<f4"}[probs], (k,)),
            *((name, "<f4") for name in ("rest", "inverse_precision", "total", "data")),
        ]
    )


def shard_path(folder: Path, subset: str, shard: int, kind: str) -> Path:
    """Return the path of a shard's ``tokens.npy``, ``samples.npy`` or ``json``."""
    return folder / subset / f"{shard:05d}.{kind}"


def sample_digests(sample: Dict[str, Any], mask: Tensor, pad: int) -> np.ndarray:
    """Compute a checksum of each sentence of a batch, ``[B]``.

    It covers the target and the source, without padding; of speech only the number of frames,
    since features change with the floating type.
    """
    target, mask_array = sample["target"].cpu().numpy(), mask.cpu().numpy()
    sources = sample["net_input"].get("src_tokens")
    has_text = sources is not None and not sources.is_floating_point() and sources.dim() == 2
    source = sources.cpu().numpy() if has_text else None
    lengths = sample["net_input"]["src_lengths"].cpu().numpy().astype("<i4")
    digests = np.empty(len(target), dtype=SAMPLE["digest"])
    for i, (row, counts) in enumerate(zip(target, mask_array)):
        digest = zlib.crc32(row[counts].astype("<i4").tobytes())
        if source is not None:
            digest = zlib.crc32(source[i][source[i] != pad].astype("<i4").tobytes(), digest)
        else:
            digest = zlib.crc32(lengths[i].tobytes(), digest)
        digests[i] = digest
    return digests


def require_fixed(subset: str, dataset: FairseqDataset) -> None:
    """Raise :class:`UsageError` if sentences differ from epoch to epoch."""
    found = augmentations(dataset)
    if found:
        raise UsageError(
            f"subset '{subset}' is augmented ({', '.join(found)}): its inputs change in every "
            "epoch, so a teacher cache cannot fit them; give --teacher-paths, or switch "
            "augmentation off in the config yaml"
        )


def describe_dataset(dataset: FairseqDataset) -> Dict[str, Any]:
    """Describe the sentences of a data set that is not joined of several, as JSON.

    It holds their number, a checksum of their lengths and, for speech, a checksum of the inputs
    with the transforms of their features. All inputs are read for it
    (:func:`~.content.inputs_sha256`).
    """
    return describe_part(dataset, 0, len(dataset))


def describe_part(dataset: FairseqDataset, start: int, stop: int) -> Dict[str, Any]:
    """Describe sentences ``start`` to ``stop`` like a whole data set (:func:`describe_dataset`)."""
    sizes = np.ascontiguousarray(np.asarray(dataset.sizes)[start:stop], dtype="<i8")
    described: Dict[str, Any] = {
        "sentences": stop - start,
        "lengths": hashlib.sha256(sizes.tobytes()).hexdigest(),
    }
    paths = input_paths(dataset)[start:stop]
    if paths:
        described["inputs"] = inputs_sha256(paths)
        described["transforms"] = transforms(dataset)
    return described


def differences(ours: Any, theirs: Any, name: str = "") -> List[str]:
    """List the differences of two descriptions, such as ``topk (64, not 32)``."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        found = []
        for key in (*ours, *(key for key in theirs if key not in ours)):
            found += differences(ours.get(key), theirs.get(key), f"{name} {key}".strip())
        return found
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        return [d for i, (a, b) in enumerate(zip(ours, theirs), 1)
                for d in differences(a, b, f"{name} {i}")]  # fmt: skip
    if ours == theirs:
        return []
    is_short = all(not isinstance(v, (dict, list)) and len(str(v)) < 64 for v in (ours, theirs))
    return [f"{name} ({theirs}, not {ours})" if is_short else name]


def require_subset_name(name: str, option: str) -> None:
    """Raise :class:`UsageError` if a name of a subset cannot be the name of a file."""
    if not name or name != os.path.basename(name) or name.startswith(".") or "\0" in name:
        raise UsageError(
            f"{option}: '{name}' is no name of a subset: give names such as train, joined with ','"
        )


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically: completely or not at all.

    Raises:
        UsageError: the file cannot be written.
    """
    write_text(path, json.dumps(value, indent=1) + "\n")


def write_array(path: Path, array: np.ndarray) -> str:
    """Write an array file atomically and return its checksum.

    Raises:
        UsageError: the file cannot be written.
    """
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    data = content.getbuffer()
    with replace_file(path) as stream:
        stream.write(data)
    return hashlib.sha256(data).hexdigest()
