"""Source side of speech tasks: audio or features that a manifest lists."""

from argparse import ArgumentParser
from dataclasses import dataclass, field
from typing import Any, Optional

import torch
from fairseq.dataclass import FairseqDataclass
from fairseq.tasks import LegacyFairseqTask
from omegaconf import II, DictConfig

from ._data_source import DataSource


@dataclass
class SpeechConfig(FairseqDataclass):
    """Options of fairseq's speech tasks, which have none of their own in a dataclass."""

    data: Optional[str] = field(default=None, metadata={"help": "folder of the manifests"})
    max_source_positions: int = field(
        default=6000, metadata={"help": "max number of frames of an utterance"}
    )
    max_target_positions: int = field(
        default=1024, metadata={"help": "max number of tokens of a transcript"}
    )
    # read from elsewhere in fairseq's configuration
    seed: int = II("common.seed")
    train_subset: str = II("dataset.train_subset")


class Speech(DataSource):
    """What speech tasks have in common, mixed in before fairseq's task.

    fairseq's are tasks of its argparse days. Here they take a configuration like the others, so
    that the distillation can read, and clear, options wherever fairseq keeps them.
    """

    @classmethod
    def add_args(cls, parser: ArgumentParser) -> None:
        """Add the options of the dataclass instead of those of the fairseq task."""
        super(LegacyFairseqTask, cls).add_args(parser)

    def __init__(self, cfg: DictConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(cfg, *args, **kwargs)
        self.cfg = cfg

    def build_criterion(self, cfg: DictConfig, from_checkpoint: bool = False) -> torch.nn.Module:
        """Build the criterion; a task of that age does not ask whether a checkpoint is read."""
        return super().build_criterion(cfg)
