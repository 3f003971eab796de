"""Checksums of files, by which derived data knows what it was made of."""

import hashlib
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Sequence

from fairseq.data import FairseqDataset
from fairseq.data.audio.audio_utils import parse_path
from tqdm import tqdm

from ...errors import UsageError
from ...speech.augmentation import TRANSFORMS, manifest_datasets

_BLOCK = 1 << 22


def file_sha256(path: Path) -> str:
    """Compute the checksum of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while True:
            block = stream.read(_BLOCK)
            if not block:
                return digest.hexdigest()
            digest.update(block)


def files_sha256(files: Mapping[str, Path], desc: str) -> Dict[str, str]:
    """Compute the checksums of files by name, with a progress bar.

    Raises:
        UsageError: a file cannot be read.
    """
    try:
        return {
            name: file_sha256(path)
            for name, path in tqdm(files.items(), desc=desc, disable=None, leave=False)
        }
    except OSError as error:
        raise UsageError(f"cannot read {error.filename}: {error.strerror}") from error


def checkpoints_sha256(paths: Sequence[str]) -> List[str]:
    """Compute the checksums of checkpoints, in order."""
    found = files_sha256({path: Path(path) for path in paths}, "reading checkpoints")
    return [found[path] for path in paths]


def inputs_sha256(paths: Iterable[str]) -> str:
    """Compute one checksum of audio or features that a manifest lists, in order.

    It reads each input once: about a minute per 50 GB on a fast disk. Neither the paths nor the
    positions in archives matter.

    Args:
        paths: files, or ``zip:offset:length`` as in fairseq's manifests.

    Raises:
        UsageError: an input does not exist or is cut short.
    """
    digest = hashlib.sha256()
    for path in tqdm(list(paths), desc="reading inputs", disable=None, leave=False):
        try:
            file, place = parse_path(path)
            offset, length = place or (0, Path(file).stat().st_size)
            digest.update(length.to_bytes(8, "little"))
            with open(file, "rb") as stream:
                stream.seek(offset)
                while length > 0:
                    block = stream.read(min(length, _BLOCK))
                    if not block:
                        raise ValueError("it is cut short")
                    digest.update(block)
                    length -= len(block)
        except (OSError, ValueError, OverflowError, AssertionError) as error:
            raise UsageError(
                f"input {path} cannot be read: {error}; create it again, or fix the manifest"
            ) from error
    return digest.hexdigest()


def input_paths(dataset: FairseqDataset) -> List[str]:
    """Return the inputs of a speech data set in order, those of joined manifests too.

    A text data set has none.
    """
    paths: List[str] = []
    for part in manifest_datasets(dataset):
        paths += getattr(part, "audio_paths", None) or getattr(part, "aud_paths", [])
    return paths


def transforms(dataset: FairseqDataset) -> List[str]:
    """Describe the transforms between the inputs of a speech data set and its features."""
    found = {
        str(getattr(part, name, None)) for part in manifest_datasets(dataset) for name in TRANSFORMS
    }
    return sorted(found - {"None"})


def referenced_files(value: Any, root: Path) -> Dict[str, Path]:
    """Find the files that strings in a configuration name, such as vocabulary and tokenizer.

    Args:
        value: content of a config yaml: nested lists and dictionaries.
        root: folder to which relative names belong.

    Returns:
        Files by their string.
    """
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return {k: v for item in value for k, v in referenced_files(item, root).items()}
    if isinstance(value, str) and value:
        # fairseq looks in the current folder first
        for path in (Path(value), root / value):
            try:
                if path.is_file():
                    return {value: path}
            except OSError:  # a text too long for a file name
                pass
    return {}
