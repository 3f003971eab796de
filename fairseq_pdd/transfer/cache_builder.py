"""Builder of teacher caches: runs the ensemble once over every sentence."""

import hashlib
import json
import multiprocessing
import os
import shutil
import time
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import numpy as np
import torch
from fairseq import utils
from fairseq.data import FairseqDataset
from fairseq.tasks import FairseqTask
from tqdm import tqdm

from .._fairseq import without_warnings
from ..checkpoints.fit import check_fit
from ..core import EnsembleStatistics, TopKProbs
from ..errors import UsageError
from ..records.files import lock_file
from ..records.shards import shard_of
from ..teacher import EnsembleTeacher
from ..teacher.cache.content import file_sha256
from ..teacher.cache.layout import (
    FORMAT,
    MANIFEST,
    SAMPLE,
    SHARD_SENTENCES,
    differences,
    sample_digests,
    shard_path,
    token_dtype,
    write_array,
    write_json,
)
from .cache_inputs import (
    CacheSettings,
    check_paths,
    describe_inputs,
    load_dataset,
    require_intact_subset,
    require_whole_series,
    set_up_task,
)

_SETTINGS = "building.json"


def build_cache(settings: CacheSettings) -> None:
    """Build the cache, or complete it after an interruption; do nothing if it is complete.

    A cache is known by the content of what it was made of: checkpoints, data, and for speech
    audio and features. All of it is read at the start. With a shard's number, build the files of
    this shard only; a run without one completes and lists all of them.

    Raises:
        UsageError: input is missing or does not match, ``destdir`` holds another cache, another
            process builds it, or the disk is too small.
    """
    check_paths(settings)
    shard = shard_of(settings.num_shards, settings.shard_id)
    # of a link, the folder that it leads to
    settings = replace(settings, destdir=Path(os.path.realpath(settings.destdir)))
    if (settings.destdir / MANIFEST).exists():  # it may be read-only, so without a lock
        _build(settings, None)
        return
    _require_place(settings.destdir)
    with lock_file(settings.destdir, shard):
        _build(settings, shard)


def _build(settings: CacheSettings, shard: Optional[Tuple[int, int]]) -> None:
    task = set_up_task(settings)
    require_whole_series(settings, task)
    for path in settings.checkpoints:  # before all data is read
        check_fit(path, task)
    for name in settings.subsets:
        require_intact_subset(settings, task, name)
    datasets = {name: load_dataset(task, name) for name in settings.subsets}
    made_of = describe_inputs(settings, task, datasets)
    if _is_complete(settings.destdir, made_of):
        tqdm.write(f"{settings.destdir} is complete already")
        return
    try:
        for name in datasets:
            (settings.destdir / name).mkdir(parents=True, exist_ok=True)
        if shard is None:
            for leftover in settings.destdir.rglob(".*.tmp"):  # of a killed command
                leftover.unlink()
    except OSError as error:
        raise UsageError(f"cannot write {settings.destdir}: {error}") from error
    write_json(settings.destdir / _SETTINGS, made_of)

    identity = _identity(made_of)
    parts = [(n, i) for n, d in datasets.items() for i in range(_num_shards(d))]
    if shard is not None:
        parts = parts[shard[0] :: shard[1]]
    pending = [
        (name, part)
        for name, part in tqdm(parts, desc="checking finished parts", disable=None, leave=False)
        if not _is_intact(settings.destdir, name, part, identity)
    ]
    _check_space(settings, task, datasets, pending)
    total = sum(_size(datasets[name], part) for name, part in parts)
    left = sum(_size(datasets[name], part) for name, part in pending)
    with tqdm(
        total=total,
        initial=total - left,
        desc=f"running {len(settings.checkpoints)} teachers",
        unit=" sentences",
        mininterval=0.5 if os.isatty(2) else 15,
    ) as bar:
        if pending:
            _run(settings, identity, pending, bar.update)
    if shard is not None:
        tqdm.write(
            f"{settings.destdir}: shard {shard[0]} of {shard[1]} is complete; after the others, "
            "the same command without --shard-id joins them"
        )
        return
    _finish(settings.destdir, datasets, made_of)
    (settings.destdir / _SETTINGS).unlink()


def _identity(made_of: Dict[str, Any]) -> str:
    """Return a checksum by which a shard knows what it was made of."""
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()


def _is_complete(folder: Path, made_of: Dict[str, Any]) -> bool:
    """Check whether the cache is complete; ``folder`` must not hold another one."""
    for name in (MANIFEST, _SETTINGS):
        try:
            note = json.loads((folder / name).read_text(encoding="utf-8"))
            theirs = note["made_of"] if name == MANIFEST else note
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            theirs = None
        if not isinstance(theirs, dict):
            raise UsageError(
                f"{folder / name} is damaged: remove {folder} and build the cache again"
            )
        differing = differences(made_of, theirs)
        if differing:
            raise UsageError(
                f"{folder} holds another teacher cache: it differs in {', '.join(differing)}; "
                "give another --destdir or remove the cache"
            )
        if name == MANIFEST:
            return True
    return False


def _require_place(folder: Path) -> None:
    """Require a folder that is new or empty, or has shards of a cache."""
    if not folder.is_dir() or (folder / _SETTINGS).exists():
        return
    # a killed command may leave temporary files and empty folders
    is_empty = not any(path.is_file() and path.suffix != ".tmp" for path in folder.rglob("*"))
    # only shards are there if the user removed the manifest to have them checked
    if not is_empty and not any(folder.glob("*/00000.json")):
        raise UsageError(f"{folder} exists and is no teacher cache: give another --destdir")


def _num_shards(dataset: FairseqDataset) -> int:
    return -(-len(dataset) // SHARD_SENTENCES)


def _size(dataset: FairseqDataset, shard: int) -> int:
    return min(SHARD_SENTENCES, len(dataset) - shard * SHARD_SENTENCES)


def _is_intact(folder: Path, subset: str, shard: int, identity: str) -> bool:
    """Check a shard's files, and that they were made for this cache."""
    try:
        note = json.loads(shard_path(folder, subset, shard, "json").read_text(encoding="utf-8"))
        return note["made_of"] == identity and all(
            file_sha256(shard_path(folder, subset, shard, kind)) == note["sha256"][kind]
            for kind in ("tokens.npy", "samples.npy")
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
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
    settings: CacheSettings,
    identity: str,
    pending: List[Tuple[str, int]],
    progress: Callable[[int], Any],
) -> None:
    workers = min(settings.workers, len(pending))
    if workers == 1:
        worker = _Worker(settings, identity, rank=0)
        for name, shard in pending:
            worker.build(name, shard, progress)
        return
    context = multiprocessing.get_context("spawn")
    done, ranks = context.Value("q", 0), context.Value("q", 0)
    shown = 0
    with ProcessPoolExecutor(
        workers,
        mp_context=context,
        initializer=_initialise,
        initargs=(settings, identity, done, ranks),
    ) as pool:
        futures: List[Future[None]] = [pool.submit(_build_shard, *shard) for shard in pending]
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
        except BrokenProcessPool as error:
            raise UsageError(
                "a worker process was killed (out of memory?): give fewer --workers, or a smaller "
                "--max-tokens, and start again to complete the cache"
            ) from error
        finally:
            for future in futures:
                future.cancel()


class _Worker:
    """An ensemble in one process, which computes shards of the cache."""

    @without_warnings()
    def __init__(self, settings: CacheSettings, identity: str, rank: int) -> None:
        self.settings, self.identity = settings, identity
        self.device = torch.device("cpu")
        if torch.cuda.is_available() and not settings.cpu:
            self.device = torch.device("cuda", rank % torch.cuda.device_count())
        elif settings.workers > 1:
            torch.set_num_threads(max(1, (os.cpu_count() or 1) // settings.workers))
        self.task = set_up_task(settings)
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
            load_dataset(self.task, subset)
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
            "made_of": self.identity,
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


def _initialise(settings: CacheSettings, identity: str, done: Any, ranks: Any) -> None:
    global _progress, _make_worker
    Thread(target=_end_with_parent, daemon=True).start()
    with ranks.get_lock():
        rank = ranks.value
        ranks.value += 1
    _progress = done
    # called with the first shard, since the pool does not pass on errors of an initialiser
    _make_worker = lambda: _Worker(settings, identity, rank)  # noqa: E731


def _end_with_parent() -> None:
    """End this process when the command dies, whose pool would wait for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _build_shard(subset: str, shard: int) -> None:
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
