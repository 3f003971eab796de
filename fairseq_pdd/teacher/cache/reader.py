"""Reader of a teacher cache: the cached teacher."""

import json
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import numpy as np
import torch
from fairseq.data import FairseqDataset
from fairseq.tasks import FairseqTask
from torch import Tensor
from tqdm import tqdm

from ...core import TopKProbs, UncertaintyMeasures
from ...errors import UsageError
from .layout import (
    FORMAT,
    MANIFEST,
    SHARD_SENTENCES,
    describe_dataset,
    describe_dictionaries,
    differences,
    file_sha256,
    require_fixed,
    sample_digests,
    shard_path,
)

# Number of sentences to compare before training starts. Each batch is compared when it is read.
_COMPARED_SENTENCES = 1000


class CachedStatistics:
    """Cached statistics of an ensemble at N target tokens.

    Args:
        mean_probs: the k largest probabilities of π̂, ``[N, k]``.
        inverse_precision: λ, ``[N]``.
        total: entropy of the complete π̂, ``[N]``.
        data: mean member entropy, ``[N]``.
        num_classes: K.
    """

    def __init__(
        self,
        mean_probs: TopKProbs,
        inverse_precision: Tensor,
        total: Tensor,
        data: Tensor,
        num_classes: int,
    ) -> None:
        self.mean_probs, self.inverse_precision = mean_probs, inverse_precision
        self._total, self._data, self._num_classes = total, data, num_classes

    @property
    def mean_log_probs(self) -> Tensor:
        """Mean log-probability of the members, which a cache does not hold.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            "a teacher cache does not hold the members' probabilities, which this criterion "
            "needs: give --teacher-paths instead of --teacher-cache"
        )

    def measures(self) -> UncertaintyMeasures:
        """Return the measures of the whole distributions, each ``[N]``, in nats."""
        rmi = self.inverse_precision * ((self._num_classes - 1) / 2)  # Eq. 16, solved for MKL
        information = (self._total - self._data).clamp(min=0)
        return UncertaintyMeasures(
            total=self._total,
            data=self._data,
            mutual_information=information,
            epkl=information + rmi,
            rmi=rmi,
        )


class CachedTeacher:
    """Statistics of an ensemble, read from disk, as a :class:`~fairseq_pdd.teacher.Teacher`.

    Args:
        folder: output folder of ``fairseq-pdd teacher-cache``.
        task: the student's task, whose dictionaries must be those of the cache.

    Raises:
        UsageError: the cache is missing, incomplete, damaged or for other dictionaries.
    """

    def __init__(self, folder: str, task: FairseqTask) -> None:
        self.folder = Path(folder)
        manifest = _read_manifest(self.folder)
        theirs, ours = manifest["made_of"]["dictionaries"], describe_dictionaries(task)
        found = differences(ours, theirs, "dictionary")
        if found:
            raise UsageError(
                f"teacher cache {folder} is for another {' and '.join(_sides(found))} dictionary: "
                "give the data that it was built from, or build it again (fairseq-pdd "
                "teacher-cache)"
            )
        _verify(self.folder, manifest)
        self._made_of = manifest["made_of"]
        self._pad = task.target_dictionary.pad()
        self._num_classes = len(task.target_dictionary)
        self.topk = self._made_of["topk"]
        self.subsets = {
            name: _Subset(self.folder, name, len(entry["shards"]))
            for name, entry in manifest["subsets"].items()
        }
        self._current: Optional[_Subset] = None

    def check(self, subset: str, dataset: FairseqDataset) -> None:
        """Compare a data set with the cached one.

        Raises:
            UsageError: the subset is not cached, or its sentences differ.
        """
        if subset not in self.subsets:
            raise UsageError(
                f"teacher cache {self.folder} has no subset '{subset}', only "
                f"{', '.join(self.subsets)}: build it with --subset "
                f"{','.join([*self.subsets, subset])} (or train with --disable-validation)"
            )
        require_fixed(subset, dataset)
        found = differences(describe_dataset(dataset), self._made_of["data"][subset])
        step = max(1, len(dataset) // _COMPARED_SENTENCES)
        cached = self.subsets[subset]
        if not found:
            for i in range(0, len(dataset), step):
                sample = dataset.collater([dataset[i]])
                digest = sample_digests(sample, self._mask(sample), self._pad)[0]
                if cached.samples["tokens"][i] and digest != cached.samples["digest"][i]:
                    found = [f"text (of sentence {i})"]
                    break
        if found:
            raise UsageError(
                f"teacher cache {self.folder} does not fit subset '{subset}': it differs in "
                f"{', '.join(found)}; give the data that it was built from, or build it again"
            )

    def statistics(self, sample: Dict[str, Any], mask: Tensor) -> CachedStatistics:
        """Read the statistics of a batch.

        Args:
            sample: fairseq batch.
            mask: its target tokens, booleans ``[B, T]``; N of them are true.

        Raises:
            UsageError: a sentence of the batch differs from the cached one of its number.
        """
        ids = sample["id"].tolist()
        lengths = mask.sum(1).tolist()
        digests = sample_digests(sample, mask, self._pad)
        rows = self._find(ids, digests).rows(ids, lengths)
        return _statistics(rows, self._num_classes, mask.device)

    def _mask(self, sample: Dict[str, Any]) -> Tensor:
        mask: Tensor = sample["target"].ne(self._pad)
        return mask

    def _find(self, ids: Sequence[int], digests: np.ndarray) -> "_Subset":
        """Find the subset of a batch by its text, since fairseq's batches do not name it."""
        candidates = [self._current] if self._current is not None else []
        for subset in (*candidates, *self.subsets.values()):
            if max(ids) < len(subset.samples) and not subset.differ(ids, digests).any():
                self._current = subset
                return subset
        raise self._no_such_batch(ids, digests)

    def _no_such_batch(self, ids: Sequence[int], digests: np.ndarray) -> UsageError:
        for name, subset in self.subsets.items():
            if max(ids) >= len(subset.samples):
                continue
            different = subset.differ(ids, digests)
            absent = subset.samples["tokens"][ids] == 0
            if (different == absent).all():
                return UsageError(
                    f"teacher cache {self.folder} lacks sentence {np.asarray(ids)[absent][0]} of "
                    f"'{name}', which was too long for the teacher: give "
                    "--max-source-positions and --max-target-positions of the teacher"
                )
        return UsageError(
            f"teacher cache {self.folder} does not hold the sentences of a batch ({ids[:5]}…): "
            "the data changed since the cache was built; build it again"
        )


class _Subset:
    """Random access to the tokens of a subset by sentence number."""

    def __init__(self, folder: Path, name: str, shards: int) -> None:
        self._folder, self._name = folder, name
        samples = [np.load(shard_path(folder, name, i, "samples.npy")) for i in range(shards)]
        self.samples = np.concatenate(samples)
        starts = [np.cumsum(part["tokens"]) - part["tokens"] for part in samples]
        self._starts = np.concatenate(starts)
        self._tokens: List[Optional[np.ndarray]] = [None] * shards

    def differ(self, ids: Sequence[int], digests: np.ndarray) -> np.ndarray:
        """Mark the sentences that differ from the cached ones or are absent, ``[B]``."""
        cached = self.samples[ids]
        return (cached["digest"] != digests) | (cached["tokens"] == 0)

    def rows(self, ids: Sequence[int], lengths: Sequence[int]) -> np.ndarray:
        """Return the records of all tokens of the sentences, in order, ``[N]``."""
        parts = []
        for i, length in zip(ids, lengths):
            start = self._starts[i]
            parts.append(self._shard(i // SHARD_SENTENCES)[start : start + length])
        return np.concatenate(parts)

    def _shard(self, shard: int) -> np.ndarray:
        tokens = self._tokens[shard]
        if tokens is None:
            path = shard_path(self._folder, self._name, shard, "tokens.npy")
            tokens = self._tokens[shard] = np.load(path, mmap_mode="r")
        return tokens


def _statistics(rows: np.ndarray, num_classes: int, device: torch.device) -> CachedStatistics:
    def tensor(name: str, dtype: Any) -> Tensor:
        return torch.from_numpy(rows[name].astype(dtype)).to(device, non_blocking=True)

    probs, rest = tensor("probs", np.float32), tensor("rest", np.float32)
    if rows.dtype["probs"].base == np.float16:
        # the remaining mass is float32, so the sum is known more precisely than each probability
        probs *= ((1 - rest) / probs.sum(-1)).unsqueeze(-1)
    return CachedStatistics(
        mean_probs=TopKProbs(probs, tensor("classes", np.int64), rest),
        inverse_precision=tensor("inverse_precision", np.float32),
        total=tensor("total", np.float32),
        data=tensor("data", np.float32),
        num_classes=num_classes,
    )


def _read_manifest(folder: Path) -> Dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        version = manifest["format"]
    except FileNotFoundError as error:
        if folder.is_dir() and any(folder.iterdir()):
            state = "is not finished: run fairseq-pdd teacher-cache again to complete it"
        else:
            state = "does not exist: build it with fairseq-pdd teacher-cache"
        raise UsageError(f"teacher cache {folder} {state}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} is damaged: remove it and run fairseq-pdd teacher-cache again"
        ) from error
    if version != FORMAT:
        raise UsageError(
            f"teacher cache {folder} has format {version}, this version reads {FORMAT}: build it "
            "again (fairseq-pdd teacher-cache)"
        )
    result: Dict[str, Any] = manifest
    return result


def _verify(folder: Path, manifest: Dict[str, Any]) -> None:
    """Compare every file with its checksum.

    Raises:
        UsageError: a file is damaged or missing.
    """
    files = [
        (shard_path(folder, name, i, kind), checksum)
        for name, entry in manifest["subsets"].items()
        for i, shard in enumerate(entry["shards"])
        for kind, checksum in shard["sha256"].items()
    ]
    for path, checksum in tqdm(files, desc="checking the teacher cache", disable=None):
        if not path.is_file() or file_sha256(path) != checksum:
            raise UsageError(
                f"{path} of the teacher cache is {'damaged' if path.exists() else 'missing'}: "
                f"remove {folder / MANIFEST} and run fairseq-pdd teacher-cache again; intact "
                "parts are kept"
            )


def _sides(found: Sequence[str]) -> List[str]:
    return [side for side in ("source", "target") if any(f"dictionary {side}" in d for d in found)]
