"""Inputs of a teacher cache: their checks, and the description by which a cache is known."""

from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

from fairseq.data import FairseqDataset, LanguagePairDataset
from fairseq.tasks import FairseqTask, setup_task

# Checkpoints may name tasks of ours, and nothing else registers them in a worker process.
from .. import tasks  # noqa: F401
from ..checkpoints.dictionaries import describe_dictionaries
from ..checkpoints.reading import read_config
from ..errors import UsageError
from ..teacher.cache.content import checkpoints_sha256, files_sha256, referenced_files
from ..teacher.cache.layout import describe_dataset, require_fixed, require_subset_name
from ..teacher.members import require_files
from .pairs import require_intact


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
    num_shards: int = 1
    shard_id: Optional[int] = None


def check_paths(settings: CacheSettings) -> None:
    """Check folders, checkpoints and names of subsets.

    Raises:
        UsageError: one is missing or wrong.
    """
    if not settings.data.is_dir():
        raise UsageError(
            f"data folder {settings.data} does not exist: give the --destdir of "
            "fairseq-preprocess, or the folder of the manifests; one folder at a time"
        )
    for name in settings.subsets:
        require_subset_name(name, "--subset")
        if settings.subsets.count(name) > 1:
            raise UsageError(f"--subset lists '{name}' twice: remove one")
    require_files(settings.checkpoints)
    if settings.destdir.exists() and not settings.destdir.is_dir():
        raise UsageError(f"{settings.destdir} is a file: give another --destdir")


def require_whole_series(settings: CacheSettings, task: FairseqTask) -> None:
    """Require train1, train2 and so on with train if the data has them: fairseq joins them."""
    source, target = _languages(task)
    if source is None:  # speech, where fairseq joins nothing by itself
        return
    for name in settings.subsets:
        if not name.startswith("train") or name[-1].isdigit():
            continue
        for k in count(1):
            pairs = (f"{source}-{target}.{source}", f"{target}-{source}.{source}")
            if not any((settings.data / f"{name}{k}.{pair}.idx").is_file() for pair in pairs):
                break
            if f"{name}{k}" not in settings.subsets:
                raise UsageError(
                    f"{settings.data} holds '{name}{k}', which fairseq-train joins to '{name}': "
                    f"add it to --subset ({','.join([*settings.subsets, f'{name}{k}'])}), or move "
                    "its files out of the folder"
                )


def set_up_task(settings: CacheSettings) -> FairseqTask:
    """Set up the task of the first member on the data to cache."""
    cfg = read_config(settings.checkpoints[0]).task
    cfg.data = str(settings.data)
    config = getattr(cfg, "config_yaml", None)
    if config and not (settings.data / config).is_file():
        raise UsageError(
            f"{settings.data} has no {config}, the configuration that {settings.checkpoints[0]} "
            "was trained with: give the folder of the manifests, with a file of this name"
        )
    try:
        return setup_task(cfg)
    except UsageError:
        raise
    except Exception as error:  # tasks raise anything for data of another kind
        raise UsageError(
            f"the dictionaries or the configuration in {settings.data} do not fit the task of "
            f"{settings.checkpoints[0]}: {error}"
        ) from error


def require_intact_subset(settings: CacheSettings, task: FairseqTask, subset: str) -> None:
    """Check the files of a text; those of speech are read for their checksum."""
    languages = _languages(task)
    for name, path in _data_files(settings, task, subset).items():
        if languages[0] is not None and path.suffix == ".idx":
            is_source = name.endswith(f".{languages[0]}.idx")
            dictionary = task.source_dictionary if is_source else task.target_dictionary
            require_intact(str(path.with_suffix("")), dictionary)


def load_dataset(task: FairseqTask, subset: str) -> FairseqDataset:
    """Load a subset, which must have targets and be the same in every epoch.

    Raises:
        UsageError: it cannot be cached.
    """
    try:
        task.load_dataset(subset)
    except FileNotFoundError as error:
        raise UsageError(f"no subset '{subset}' in the data: {error} (--subset)") from error
    except AssertionError as error:
        raise UsageError(f"subset '{subset}' is damaged: {error}") from error
    dataset = task.dataset(subset)
    if len(dataset) == 0:
        raise UsageError(f"subset '{subset}' is empty")
    if isinstance(dataset, LanguagePairDataset) and dataset.tgt is None:
        raise UsageError(
            f"subset '{subset}' has no targets: build a transfer set of it first (fairseq-pdd "
            "transfer-set)"
        )
    if not hasattr(dataset, "sizes"):  # speech_recognition of fairseq's examples
        raise UsageError(
            f"the first checkpoint was trained with task {type(task).__name__}, whose data cannot "
            "be cached: put one of task distill_speech_recognition first, or give --teacher-paths "
            "in training"
        )
    require_fixed(subset, dataset)
    return dataset


def describe_inputs(
    settings: CacheSettings, task: FairseqTask, datasets: Dict[str, FairseqDataset]
) -> Dict[str, Any]:
    """Describe everything that the values depend on, as JSON."""
    files = {
        name: files_sha256(_data_files(settings, task, name), "reading data") for name in datasets
    }
    return {
        "topk": min(settings.topk, len(task.target_dictionary)),
        "dtype": settings.dtype,
        "teacher_dtype": settings.teacher_dtype,
        "checkpoints": checkpoints_sha256(settings.checkpoints),
        "dictionaries": describe_dictionaries(task),
        "data": {
            name: {**describe_dataset(dataset), "files": files[name]}
            for name, dataset in datasets.items()
        },
    }


def _data_files(settings: CacheSettings, task: FairseqTask, subset: str) -> Dict[str, Path]:
    """Return the files of a subset by name, and for speech the configuration's."""
    source, target = _languages(task)
    if source is not None:
        names = [
            f"{subset}.{pair}.{language}{ending}"
            for pair in (f"{source}-{target}", f"{target}-{source}")
            for language in (source, target)
            for ending in (".bin", ".idx", "")  # "": --dataset-impl raw
        ]
    else:
        names = [f"{subset}.tsv", f"{subset}.json"]
    files = {name: settings.data / name for name in names if (settings.data / name).is_file()}
    config = getattr(task, "data_cfg", None)
    if config is not None:
        name = _option(task, "config_yaml")
        files[name] = settings.data / name
        files.update(referenced_files(config.config, settings.data))
    return files


def _languages(task: FairseqTask) -> Tuple[Optional[str], Optional[str]]:
    return _option(task, "source_lang"), _option(task, "target_lang")


def _option(task: Any, name: str) -> Any:
    # legacy tasks of fairseq keep their options in "args"
    return getattr(task.cfg or getattr(task, "args", None), name, None)
