"""Builder of teacher caches: runs the ensemble once over every sentence."""

import json
import multiprocessing
import os
import shutil
import time
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import numpy as np
import torch
from fairseq import utils
from fairseq.data import FairseqDataset
from fairseq.tasks import FairseqTask, setup_task
from tqdm import tqdm

# Checkpoints may name tasks of ours, and nothing else registers them in a worker process.
from .. import tasks  # noqa: F401
from .._fairseq import without_warnings
from ..core import EnsembleStatistics, TopKProbs
from ..errors import UsageError
from ..teacher import EnsembleTeacher
from ..teacher.cache.layout import (
    FORMAT,
    MANIFEST,
    SAMPLE,
    SHARD_SENTENCES,
    describe_dataset,
    describe_dictionaries,
    differences,
    file_sha256,
    require_fixed,
    sample_digests,
    shard_path,
    token_dtype,
    write_array,
    write_json,
)
from ..teacher.checkpoints import read_config, require_files

_SETTINGS = "building.json"


@dataclass(frozen=True)
class CacheSettings:
    """Inputs and options of a teacher cache; see ``fairseq-pdd teacher-cache --help``."""

    data: Path
    checkpoints: Tuple[str, ...]
    destdir: Path
    subsets: Tuple[str, ...]
    topk: int
    dtype: str
    teacher_dtype: str
    max_tokens: int
    workers: int
    cpu: bool


def build_cache(settings: CacheSettings) -> None:
    """Build the cache, or complete it after an interruption; do nothing if it is complete.

    Raises:
        UsageError: input is missing or does not match, ``destdir`` holds another cache, or the
            disk is too small.
    """
    _check_paths(settings)
    task = _task(settings)
    datasets = {name: _load_dataset(task, name) for name in settings.subsets}
    made_of = _made_of(settings, task, datasets)
    if _is_complete(settings.destdir, made_of):
        tqdm.write(f"{settings.destdir} is complete already")
        return
    settings.destdir.mkdir(parents=True, exist_ok=True)
    write_json(settings.destdir / _SETTINGS, made_of)

    shards = [(n, i) for n, d in datasets.items() for i in range(_num_shards(d))]
    pending = []
    for name, shard in tqdm(shards, desc="checking finished parts", disable=None, leave=False):
        (settings.destdir / name).mkdir(exist_ok=True)
        if not _is_intact(settings.destdir, name, shard):
            pending.append((name, shard))
    _check_space(settings, task, datasets, pending)
    total = sum(map(len, datasets.values()))
    left = sum(_size(datasets[name], shard) for name, shard in pending)
    with tqdm(
        total=total,
        initial=total - left,
        desc=f"running {len(settings.checkpoints)} teachers",
        unit=" sentences",
        mininterval=0.5 if os.isatty(2) else 15,
    ) as bar:
        if pending:
            _run(settings, pending, bar.update)
    _finish(settings.destdir, datasets, made_of)
    (settings.destdir / _SETTINGS).unlink()


def _check_paths(settings: CacheSettings) -> None:
    if not settings.data.is_dir():
        raise UsageError(
            f"data folder {settings.data} does not exist: give the --destdir of fairseq-preprocess"
        )
    require_files(settings.checkpoints)
    if settings.destdir.exists() and not settings.destdir.is_dir():
        raise UsageError(f"{settings.destdir} is a file: give another --destdir")


def _task(settings: CacheSettings) -> FairseqTask:
    """Set up the task of the first member on the data to cache."""
    cfg = read_config(settings.checkpoints[0]).task
    cfg.data = str(settings.data)
    try:
        return setup_task(cfg)
    except (OSError, AssertionError) as error:
        raise UsageError(
            f"{settings.data} does not fit the task of {settings.checkpoints[0]}: {error}"
        ) from error


def _load_dataset(task: FairseqTask, subset: str) -> FairseqDataset:
    try:
        task.load_dataset(subset)
    except FileNotFoundError as error:
        raise UsageError(f"no subset '{subset}' in the data: {error} (--subset)") from error
    dataset = task.dataset(subset)
    if len(dataset) == 0:
        raise UsageError(f"subset '{subset}' is empty")
    if not hasattr(dataset, "sizes"):  # speech_recognition of fairseq's examples
        raise UsageError(
            f"the first checkpoint was trained with task {type(task).__name__}, whose data cannot "
            "be cached: put one of task distill_speech_recognition first, or give --teacher-paths "
            "in training"
        )
    require_fixed(subset, dataset)
    return dataset


def _made_of(
    settings: CacheSettings, task: FairseqTask, datasets: Dict[str, FairseqDataset]
) -> Dict[str, Any]:
    """Describe everything that the values depend on, as JSON."""
    checkpoints = [
        {"name": os.path.basename(path), "sha256": file_sha256(Path(path))}
        for path in tqdm(settings.checkpoints, desc="reading checkpoints", disable=None)
    ]
    return {
        "topk": min(settings.topk, len(task.target_dictionary)),
        "dtype": settings.dtype,
        "teacher_dtype": settings.teacher_dtype,
        "checkpoints": checkpoints,
        "dictionaries": describe_dictionaries(task),
        "data": {name: describe_dataset(dataset) for name, dataset in datasets.items()},
    }


def _is_complete(folder: Path, made_of: Dict[str, Any]) -> bool:
    """Check whether the cache is complete; ``folder`` must not hold anything else."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return False
    found = False
    for name in (MANIFEST, _SETTINGS):
        try:
            note = json.loads((folder / name).read_text(encoding="utf-8"))
            theirs = note["made_of"] if name == MANIFEST else note
        except FileNotFoundError:
            continue
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"{folder / name} is damaged: remove {folder} and build the cache again"
            ) from error
        differing = differences(made_of, theirs)
        if differing:
            raise UsageError(
                f"{folder} holds another teacher cache: it differs in {', '.join(differing)}; "
                "give another --destdir or remove the cache"
            )
        if name == MANIFEST:
            return True
        found = True
    # only shards are there if the user removed the manifest to have them checked
    if not found and not any(folder.glob("*/00000.json")):
        raise UsageError(f"{folder} exists and is no teacher cache: give another --destdir")
    return False


def _num_shards(dataset: FairseqDataset) -> int:
    return -(-len(dataset) // SHARD_SENTENCES)


def _size(dataset: FairseqDataset, shard: int) -> int:
    return min(SHARD_SENTENCES, len(dataset) - shard * SHARD_SENTENCES)


def _is_intact(folder: Path, subset: str, shard: int) -> bool:
    try:
        note = json.loads(shard_path(folder, subset, shard, "json").read_text(encoding="utf-8"))
        return all(
            file_sha256(shard_path(folder, subset, shard, kind)) == checksum
            for kind, checksum in note["sha256"].items()
        )
    except (OSError, ValueError, KeyError):
        return False


def _check_space(
    settings: CacheSettings,
    task: FairseqTask,
    datasets: Dict[str, FairseqDataset],
    pending: List[Tuple[str, int]],
) -> None:
    """Require enough free space on the disk before the work starts."""
    each = token_dtype(settings.topk, len(task.target_dictionary), settings.dtype).itemsize
    needed = 0
    for name, dataset in datasets.items():
        fraction = sum(_size(dataset, i) for n, i in pending if n == name) / len(dataset)
        # sizes of pairs have two columns, source and target
        sizes = np.asarray(dataset.sizes)
        tokens = sizes[:, -1].sum() if sizes.ndim == 2 else sizes.sum()
        needed += int(fraction * tokens) * each
    free = shutil.disk_usage(settings.destdir).free
    if needed > free:
        raise UsageError(
            f"{settings.destdir} needs {needed / 1e9:,.1f} GB and {free / 1e9:,.1f} GB are free: "
            "give another --destdir or a smaller --topk"
        )
    tqdm.write(f"{settings.destdir}: about {needed / 1e6:,.0f} MB to write, {each} bytes per token")


def _run(
    settings: CacheSettings, pending: List[Tuple[str, int]], progress: Callable[[int], Any]
) -> None:
    workers = min(settings.workers, len(pending))
    if workers == 1:
        worker = _Worker(settings, rank=0)
        for name, shard in pending:
            worker.build(name, shard, progress)
        return
    context = multiprocessing.get_context("spawn")
    done, ranks = context.Value("q", 0), context.Value("q", 0)
    shown = 0
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=_initialise, initargs=(settings, done, ranks)
    ) as pool:
        futures: List[Future[None]] = [pool.submit(_build, *shard) for shard in pending]
        try:
            while True:
                failed = next((f for f in futures if f.done() and f.exception()), None)
                if failed is not None:
                    failed.result()
                progress(done.value - shown)
                shown = done.value
                if all(future.done() for future in futures):
                    break
                time.sleep(0.2)
        finally:
            for future in futures:
                future.cancel()


class _Worker:
    """An ensemble in one process, which computes shards of the cache."""

    @without_warnings()
    def __init__(self, settings: CacheSettings, rank: int) -> None:
        self.settings = settings
        self.device = torch.device("cpu")
        if torch.cuda.is_available() and not settings.cpu:
            self.device = torch.device("cuda", rank % torch.cuda.device_count())
        elif settings.workers > 1:
            torch.set_num_threads(max(1, (os.cpu_count() or 1) // settings.workers))
        self.task = _task(settings)
        self.teacher = EnsembleTeacher.load(
            settings.checkpoints,
            self.task,
            dtype=getattr(torch, settings.teacher_dtype),
            device=self.device,
            max_tokens=settings.max_tokens,
        )
        self.pad = self.task.target_dictionary.pad()
        self.dtype = token_dtype(settings.topk, len(self.task.target_dictionary), settings.dtype)
        self.max_positions = utils.resolve_max_positions(
            self.task.max_positions(), *(m.max_positions() for m in self.teacher.members)
        )
        self._orders: Dict[str, np.ndarray] = {}

    @without_warnings()
    def build(self, subset: str, shard: int, progress: Callable[[int], Any]) -> None:
        """Run the ensemble over a shard and write the shard."""
        if subset not in self._orders:
            _load_dataset(self.task, subset)
            self._orders[subset] = self.task.dataset(subset).ordered_indices()
        first, size = shard * SHARD_SENTENCES, _size(self.task.dataset(subset), shard)
        samples = np.zeros(size, dtype=SAMPLE)
        rows: Dict[int, np.ndarray] = {}
        for sample in self._batches(subset, first, first + size):
            mask = sample["target"].ne(self.pad)
            records = self._records(self.teacher.statistics(sample, mask))
            ids = sample["id"].cpu().numpy() - first
            lengths = mask.sum(1).cpu().numpy()
            samples["tokens"][ids] = lengths
            samples["digest"][ids] = sample_digests(sample, mask, self.pad)
            rows.update(zip(ids.tolist(), np.split(records, np.cumsum(lengths)[:-1])))
            progress(len(ids))
        progress(size - len(rows))
        ordered = [rows[i] for i in range(size) if i in rows]
        tokens = np.concatenate(ordered) if ordered else np.zeros(0, dtype=self.dtype)
        arrays = {"tokens.npy": tokens, "samples.npy": samples}
        folder = self.settings.destdir
        note = {
            "sha256": {
                kind: write_array(shard_path(folder, subset, shard, kind), array)
                for kind, array in arrays.items()
            },
            "tokens": len(tokens),
            "skipped": size - len(rows),
            "rest": float(tokens["rest"].sum(dtype=np.float64)),
        }
        write_json(shard_path(folder, subset, shard, "json"), note)

    def _batches(self, subset: str, start: int, stop: int) -> Iterator[Dict[str, Any]]:
        dataset, order = self.task.dataset(subset), self._orders[subset]
        indices = order[(order >= start) & (order < stop)]
        indices, _ = dataset.filter_indices_by_size(indices, self.max_positions)
        try:
            batches = dataset.batch_by_size(
                indices, max_tokens=self.settings.max_tokens, required_batch_size_multiple=1
            )
        except AssertionError as error:
            raise UsageError(f"--max-tokens is too small for '{subset}': {error}") from error
        for batch in batches:
            sample = dataset.collater([dataset[i] for i in batch])
            yield utils.apply_to_sample(lambda tensor: tensor.to(self.device), sample)

    def _records(self, statistics: EnsembleStatistics) -> np.ndarray:
        mean = TopKProbs.of(statistics.mean_probs, self.settings.topk)
        measures = statistics.measures()
        columns = {
            **mean._asdict(),
            "inverse_precision": statistics.inverse_precision,
            "total": measures.total,
            "data": measures.data,
        }
        if not all(torch.isfinite(column).all() for column in columns.values()):
            raise UsageError(
                "the teacher's predictions are not finite: a member is damaged, or its type is "
                "too narrow (--teacher-dtype float32 or bfloat16)"
            )
        records = np.empty(len(mean.rest), dtype=self.dtype)
        for name, column in columns.items():
            records[name] = column.cpu().numpy()
        return records


# state of a process of the pool
_progress: Any = None
_make_worker: Optional[Callable[[], _Worker]] = None
_worker: Optional[_Worker] = None


def _initialise(settings: CacheSettings, done: Any, ranks: Any) -> None:
    global _progress, _make_worker
    with ranks.get_lock():
        rank = ranks.value
        ranks.value += 1
    _progress = done
    # called with the first shard, since the pool does not pass on errors of an initialiser
    _make_worker = lambda: _Worker(settings, rank)  # noqa: E731


def _build(subset: str, shard: int) -> None:
    global _worker
    if _worker is None:
        assert _make_worker is not None
        _worker = _make_worker()

    def progress(sentences: int) -> None:
        with _progress.get_lock():
            _progress.value += sentences

    _worker.build(subset, shard, progress)


def _finish(folder: Path, datasets: Dict[str, FairseqDataset], made_of: Dict[str, Any]) -> None:
    subsets: Dict[str, Any] = {}
    notes: List[Dict[str, Any]] = []
    for name, dataset in datasets.items():
        shards = [
            json.loads(shard_path(folder, name, i, "json").read_text(encoding="utf-8"))
            for i in range(_num_shards(dataset))
        ]
        subsets[name] = {"shards": [{"sha256": shard["sha256"]} for shard in shards]}
        notes += shards
    tokens = sum(note["tokens"] for note in notes)
    if tokens == 0:
        raise UsageError(
            "every sentence of the data is too long for the teacher, so there is nothing to "
            "cache: give data with shorter sentences"
        )
    size = sum(path.stat().st_size for name in datasets for path in (folder / name).iterdir())
    write_json(
        folder / MANIFEST,
        {"format": FORMAT, "made_of": made_of, "tokens": tokens, "subsets": subsets},
    )
    listed = 1 - sum(note["rest"] for note in notes) / tokens
    skipped = sum(note["skipped"] for note in notes)
    tqdm.write(
        f"{folder}: {tokens:,} tokens, {size / 1e6:,.1f} MB; the {made_of['topk']} classes listed "
        f"for each hold {100 * listed:.2f} % of the ensemble's mean"
        + (f"; skipped {skipped:,} sentences that are too long for the teacher" if skipped else "")
    )
