"""Reader of a teacher cache: the cached teacher."""

import json
import logging
from abc import ABC, abstractmethod
from functools import lru_cache
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np
import torch
from fairseq.data import FairseqDataset
from fairseq.tasks import FairseqTask
from torch import Tensor
from tqdm import tqdm

from ...checkpoints.dictionaries import describe_dictionaries
from ...core import TopKProbs, UncertaintyMeasures
from ...errors import UsageError
from .content import file_sha256
from .layout import (
    FORMAT,
    MANIFEST,
    SAMPLE,
    SHARD_SENTENCES,
    describe_part,
    differences,
    require_fixed,
    require_subset_name,
    sample_digests,
    shard_path,
    token_dtype,
)

logger = logging.getLogger(__name__)

# Number of parts of a subset that stay open: each takes an open file, of which many systems allow
# a process 1,024.
OPEN_PARTS = 256
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
        dtype = token_dtype(self.topk, self._num_classes, self._made_of["dtype"])
        self.subsets = {
            name: _Subset(self.folder, name, self._made_of["data"][name]["sentences"], dtype)
            for name in manifest["subsets"]
        }
        # data sets that were checked: subsets, or several of them joined
        self._checked: Dict[str, _Sentences] = {}
        self._current: Optional[_Sentences] = None

    def check(self, subset: str, dataset: FairseqDataset) -> None:
        """Compare a data set with the cached one.

        fairseq joins subsets whose names are joined with ',' and, in training, train1, train2 and
        so on to train. All of them must be cached.

        The inputs of speech are read for it, each once; see
        :func:`~fairseq_pdd.teacher.cache.content.inputs_sha256`.

        Raises:
            UsageError: the subset is not cached, or its sentences differ.
        """
        require_fixed(subset, dataset)
        names = self._parts(subset, dataset)
        cached = _Joined([self.subsets[name] for name in names])
        found = self._differences(dataset, cached, names)
        if found:
            raise UsageError(
                f"teacher cache {self.folder} does not fit subset '{subset}': it differs in "
                f"{', '.join(found)}; give the data that it was built from, or build it again"
            )
        absent = int((cached.samples["tokens"] == 0).sum())
        if absent:
            logger.warning(
                "teacher cache %s lacks %d of %d sentences of '%s', which were too long for the "
                "teacher: training fails if --max-source-positions and --max-target-positions do "
                "not skip them",
                self.folder,
                absent,
                len(dataset),
                subset,
            )
        self._checked[subset] = cached

    def _parts(self, subset: str, dataset: FairseqDataset) -> List[str]:
        """Return the cached subsets that a data set consists of, in order."""
        names = subset.split(",")
        # text: fairseq repeats the first one and adds train1, train2 and so on
        ratios = getattr(getattr(dataset, "src", None), "sample_ratios", [1])
        if len(names) == 1:
            names = names * ratios[0] + [f"{subset}{i}" for i in range(1, len(ratios))]
        missing = dict.fromkeys(name for name in names if name not in self.subsets)
        if missing:
            wanted = dict.fromkeys([*self.subsets, *names])
            raise UsageError(
                f"teacher cache {self.folder} has no subset '{', '.join(missing)}', only "
                f"{', '.join(self.subsets)}: build it with --subset {','.join(wanted)} (or train "
                "with --disable-validation)"
            )
        return names

    def _sentences(self, names: Sequence[str]) -> int:
        return sum(len(self.subsets[name].samples) for name in names)

    def _differences(
        self, dataset: FairseqDataset, cached: "_Sentences", names: Sequence[str]
    ) -> List[str]:
        if len(dataset) != self._sentences(names):
            joined = " + ".join(names)
            return [f"sentences ({self._sentences(names)} of {joined}, not {len(dataset)})"]
        start = 0
        for name in names:
            theirs = self._made_of["data"][name]
            ours = describe_part(dataset, start, start + theirs["sentences"])
            start += theirs["sentences"]
            found = differences(ours, {key: theirs.get(key) for key in ours})
            if found:
                return found
        for i in range(0, len(dataset), max(1, len(dataset) // _COMPARED_SENTENCES)):
            sample = dataset.collater([dataset[i]])
            digest = sample_digests(sample, self._mask(sample), self._pad)[0]
            if cached.samples["tokens"][i] and digest != cached.samples["digest"][i]:
                return [f"text (of sentence {i})"]
        return []

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

    def _find(self, ids: Sequence[int], digests: np.ndarray) -> "_Sentences":
        """Find the subset of a batch by its text, since fairseq's batches do not name it."""
        candidates = [self._current] if self._current is not None else []
        for subset in (*candidates, *self._candidates().values()):
            if max(ids) < len(subset.samples) and not subset.differ(ids, digests).any():
                self._current = subset
                return subset
        raise self._no_such_batch(ids, digests)

    def _candidates(self) -> "Mapping[str, _Sentences]":
        return self._checked or self.subsets

    def _no_such_batch(self, ids: Sequence[int], digests: np.ndarray) -> UsageError:
        for name, subset in self._candidates().items():
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


class _Sentences(ABC):
    """Cached sentences, numbered from 0."""

    samples: np.ndarray
    """Number of tokens and digest of each sentence."""

    @abstractmethod
    def record(self, index: int, length: int) -> np.ndarray:
        """Return the records of the ``length`` tokens of a sentence."""

    def differ(self, ids: Sequence[int], digests: np.ndarray) -> np.ndarray:
        """Mark the sentences that differ from the cached ones or are absent, ``[B]``."""
        cached = self.samples[ids]
        return (cached["digest"] != digests) | (cached["tokens"] == 0)

    def rows(self, ids: Sequence[int], lengths: Sequence[int]) -> np.ndarray:
        """Return the records of all tokens of the sentences, in order, ``[N]``."""
        return np.concatenate([self.record(i, length) for i, length in zip(ids, lengths)])


class _Subset(_Sentences):
    """A cached subset.

    Raises:
        UsageError: its files do not belong to this cache.
    """

    def __init__(self, folder: Path, name: str, sentences: int, dtype: np.dtype) -> None:
        self._folder, self._name, self._dtype = folder, name, dtype
        shards = range(-(-sentences // SHARD_SENTENCES))
        samples = [np.load(shard_path(folder, name, i, "samples.npy")) for i in shards]
        sizes = [min(SHARD_SENTENCES, sentences - i * SHARD_SENTENCES) for i in shards]
        if [(part.dtype, part.shape) for part in samples] != [(SAMPLE, (n,)) for n in sizes]:
            raise _mixed(folder)
        self.samples = np.concatenate(samples)
        starts = [np.cumsum(part["tokens"]) - part["tokens"] for part in samples]
        self._starts = np.concatenate(starts)
        self._tokens = lru_cache(maxsize=OPEN_PARTS)(self._load)
        for i, part in enumerate(samples):
            tokens = self._load(i)
            if tokens.dtype != dtype or tokens.shape != (part["tokens"].sum(),):
                raise _mixed(folder)

    def record(self, index: int, length: int) -> np.ndarray:
        start, shard = self._starts[index], index // SHARD_SENTENCES
        return self._tokens(shard)[start : start + length]

    def _load(self, shard: int) -> np.ndarray:
        path = shard_path(self._folder, self._name, shard, "tokens.npy")
        tokens: np.ndarray = np.load(path, mmap_mode="r")
        return tokens


class _Joined(_Sentences):
    """Several subsets, one after the other."""

    def __init__(self, parts: Sequence[_Subset]) -> None:
        self._parts = parts
        self.samples = np.concatenate([part.samples for part in parts])
        self._ends = np.cumsum([len(part.samples) for part in parts])

    def record(self, index: int, length: int) -> np.ndarray:
        part = int(np.searchsorted(self._ends, index, side="right"))
        start = self._ends[part] - len(self._parts[part].samples)
        return self._parts[part].record(index - start, length)


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
        if version == FORMAT:
            _check_manifest(manifest)
    except FileNotFoundError as error:
        if folder.is_dir() and any(folder.iterdir()):
            state = "is not finished: run fairseq-pdd teacher-cache again to complete it"
        else:
            state = "does not exist: build it with fairseq-pdd teacher-cache"
        raise UsageError(f"teacher cache {folder} {state}") from error
    except NotADirectoryError as error:
        raise UsageError(f"teacher cache {folder} is a file: give the folder") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
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


def _check_manifest(manifest: Dict[str, Any]) -> None:
    """Raise an exception of some type if values are missing or of wrong types."""
    made_of = manifest["made_of"]
    token_dtype(made_of["topk"], 1, made_of["dtype"])
    expected = {"topk": int, "dictionaries": dict, "data": dict}
    subsets = manifest["subsets"]
    valid = all(type(made_of[key]) is kind for key, kind in expected.items())
    valid = valid and made_of["topk"] > 0 and subsets.keys() == made_of["data"].keys()
    for name, entry in subsets.items():
        require_subset_name(name, MANIFEST)
        sentences = made_of["data"][name]["sentences"]
        shards = [shard["sha256"] for shard in entry["shards"]]
        valid = valid and type(sentences) is int and sentences > 0
        valid = valid and len(shards) == -(-sentences // SHARD_SENTENCES)
        valid = valid and all(shard.keys() == {"tokens.npy", "samples.npy"} for shard in shards)
    if not valid:
        raise ValueError("wrong value")


def _mixed(folder: Path) -> UsageError:
    return UsageError(
        f"{folder / MANIFEST} does not belong to the files beside it: remove {folder} and build "
        "the cache again"
    )


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
