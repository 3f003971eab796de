"""Checkpoints that a command of fairseq loads, checked before it does."""

import logging
import os
from dataclasses import dataclass
from glob import escape, glob
from typing import Any, List, Optional

from fairseq import utils
from fairseq.dataclass import FairseqDataclass
from fairseq.models import BaseFairseqModel
from fairseq.tasks import FairseqTask
from omegaconf import II, DictConfig

from ..checkpoints.fit import check_fit, check_members, require_files
from ..checkpoints.reading import map_checkpoint
from ..errors import UsageError
from ._data_source import DataSource

logger = logging.getLogger(__name__)


@dataclass
class CheckpointsConfig(FairseqDataclass):
    """Options that name checkpoints, read from elsewhere in fairseq's configuration."""

    path: Optional[str] = II("common_eval.path")
    save_dir: str = II("checkpoint.save_dir")
    restore_file: str = II("checkpoint.restore_file")
    continue_once: Optional[str] = II("checkpoint.continue_once")
    finetune_from_model: Optional[str] = II("checkpoint.finetune_from_model")
    checkpoint_suffix: str = II("checkpoint.checkpoint_suffix")
    checkpoint_shard_count: int = II("checkpoint.checkpoint_shard_count")


class CheckpointsMixin(DataSource):
    """A task that checks the checkpoints of generation, of validation and of a resumed training.

    fairseq loads them later, and reads weights of other dictionaries without an error.
    """

    @classmethod
    def setup_task(cls, cfg: DictConfig, **kwargs: Any) -> FairseqTask:
        """Set up the fairseq task, and check the checkpoints to generate or validate with."""
        paths = _paths(cfg)
        require_files(paths, "--path")
        cls.take_languages(cfg, paths)
        cls.require_data(cfg)
        task = super().setup_task(cfg, **kwargs)
        states = [map_checkpoint(path) for path in paths]
        check_members(paths, states)
        for path, state in zip(paths, states):
            check_fit(path, task, state)
        return task

    def build_model(self, cfg: Any, from_checkpoint: bool = False) -> BaseFairseqModel:
        """Build a model; in training, check the checkpoint that will replace its weights."""
        if not from_checkpoint:
            self._check_first_checkpoint()
        return super().build_model(cfg, from_checkpoint)

    def _check_first_checkpoint(self) -> None:
        """Check the file that fairseq-train starts from, by fairseq's rules."""
        last = os.path.join(self.cfg.save_dir, f"checkpoint_last{self.cfg.checkpoint_suffix}.pt")
        path = self.cfg.restore_file
        if path == "checkpoint_last.pt":
            path = last
            for option in ("finetune_from_model", "continue_once"):  # fairseq prefers the second
                if self.cfg[option] is not None and not os.path.isfile(last):
                    path = self.cfg[option]
                    require_files([path], f"--{option.replace('_', '-')}")
        if not os.path.isfile(path):
            if path != last:
                logger.warning(
                    "--restore-file %s does not exist: training starts from the beginning", path
                )
            return
        try:
            state = map_checkpoint(path)
        except UsageError as error:
            if path != last:
                raise
            raise UsageError(f"training cannot resume: {error}. {_remedy(path)}") from error
        check_fit(path, self, state, is_start=path == self.cfg.finetune_from_model)


def _paths(cfg: DictConfig) -> List[str]:
    """Return the checkpoints of ``--path``, unless they are in parts."""
    if not cfg.path or cfg.checkpoint_suffix or cfg.checkpoint_shard_count > 1:
        return []
    return utils.split_paths(cfg.path)


def _remedy(path: str) -> str:
    """Return the newest complete checkpoint beside a damaged one, as a request to the user."""
    others = glob(os.path.join(escape(os.path.dirname(path)), "checkpoint*.pt"))
    for other in sorted(others, key=os.path.getmtime, reverse=True):
        try:
            map_checkpoint(other)
        except UsageError:
            continue
        return f"Copy {other} over it and give the same command again"
    return "Delete it to train from the beginning"
