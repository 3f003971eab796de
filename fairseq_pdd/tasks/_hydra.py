"""Errors of fairseq-hydra-train in one line, as those of fairseq-train.

hydra prints an exception with a traceback of its own and, since hydra 1.1, with the overrides of
the command. ``SystemExit`` ends its job without either.
"""

import os
import sys
from contextlib import contextmanager
from typing import Any, Iterator, Optional

import torch
from fairseq import utils
from fairseq.models import ARCH_MODEL_REGISTRY, MODEL_DATACLASS_REGISTRY, BaseFairseqModel
from fairseq.registry import REGISTRIES
from fairseq.tasks import FairseqTask
from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_original_cwd
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..errors import UsageError, last_line
from ..speech.examples import import_if_named
from ._data_source import DataSource

_PATHS = ("data", "teacher_paths", "teacher_cache")
_MODELS = (ARCH_MODEL_REGISTRY, MODEL_DATACLASS_REGISTRY)
_OPTIONS = {"model": "arch", "lr_scheduler": "lr-scheduler"}


def leave_errors_to_python() -> None:
    """Have hydra raise exceptions where this process runs fairseq-hydra-train.

    Python's hook then shows usage errors that arise outside of the task, as in a DataLoader. A
    value that the user has set remains.
    """
    if _is_hydra_command():
        os.environ.setdefault("HYDRA_FULL_ERROR", "1")


def describe_configuration(error: BaseException) -> Optional[str]:
    """Return a line for a key or value that fairseq-hydra-train does not accept.

    Args:
        error: exception that would end a command.

    Returns:
        The message, or None if the exception does not come from hydra's configuration.
    """
    if not (_is_hydra_command() and isinstance(error, OmegaConfBaseException)):
        return None
    reason = str(error).partition("\n")[0]
    return f"hydra's configuration does not suit fairseq at key {error.full_key}: {reason}"


class HydraMixin(DataSource):
    """A task whose usage errors, up to the start of training, end fairseq-hydra-train in one line.

    Later ones have hydra's line on the command's overrides before theirs. It is mixed in before all
    others.
    """

    @classmethod
    def setup_task(cls, cfg: DictConfig, **kwargs: Any) -> FairseqTask:
        """Set up the task, once the names and paths in hydra's configuration are known to exist."""
        with _ending_in_one_line():
            _require_absolute(cfg)
            _require_names(cfg)
            return super().setup_task(cfg, **kwargs)

    def build_model(self, cfg: Any, from_checkpoint: bool = False) -> BaseFairseqModel:
        """Build the model."""
        with _ending_in_one_line():
            return super().build_model(cfg, from_checkpoint)

    def build_criterion(self, cfg: DictConfig, from_checkpoint: bool = False) -> torch.nn.Module:
        """Build the criterion and load the teacher."""
        with _ending_in_one_line():
            return super().build_criterion(cfg, from_checkpoint)

    def load_dataset(self, split: str, *args: Any, **kwargs: Any) -> None:
        """Load a split."""
        with _ending_in_one_line():
            super().load_dataset(split, *args, **kwargs)


@contextmanager
def _ending_in_one_line() -> Iterator[None]:
    """Turn a usage error in a job of fairseq-hydra-train into the end of the process."""
    try:
        yield
    except UsageError as error:
        if not _is_hydra_job():
            raise
        raise SystemExit(last_line(error)) from error


def _is_hydra_command() -> bool:
    return "fairseq_cli.hydra_train" in sys.modules


def _is_hydra_job() -> bool:
    """Return True in the process that hydra runs; with several GPUs, its workers are others."""
    return _is_hydra_command() and HydraConfig.initialized()


def _require_names(cfg: DictConfig) -> None:
    """Refuse a model or another part that fairseq does not have; fairseq-train's parser does so."""
    root = cfg._get_parent()
    if not _is_hydra_command() or not isinstance(root, DictConfig):
        return
    names = {
        part: None if OmegaConf.is_missing(root, part) else getattr(root[part], "_name", root[part])
        for part in ("model", "criterion", "optimizer", "lr_scheduler")
    }
    # fairseq-train finds the name in its arguments
    import_if_named(map(str, names.values()))
    for part, name in names.items():
        registered = _MODELS if part == "model" else [REGISTRIES[part]["registry"]]
        if not any(name in registry for registry in registered):
            raise UsageError(
                f"{part}._name is {name} in hydra's configuration, which fairseq does not have: "
                f"give a name that fairseq-train lists for --{_OPTIONS.get(part, part)}"
            )


def _require_absolute(cfg: DictConfig) -> None:
    """Refuse paths that are relative to the folder from which hydra has gone to that of the run."""
    if not _is_hydra_job():
        return
    for option in _PATHS:
        for path in utils.split_paths(cfg[option] or ""):
            started = os.path.join(get_original_cwd(), path)
            if path and not os.path.exists(path) and os.path.exists(started):
                raise UsageError(
                    f"task.{option} has the relative path {path}, and hydra runs in "
                    f"{os.getcwd()}: give {started}"
                )
