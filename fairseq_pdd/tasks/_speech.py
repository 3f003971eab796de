"""Source side of speech tasks: audio or features that a manifest lists."""

from argparse import ArgumentParser
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, Iterable, Optional

import torch
from fairseq.dataclass import FairseqDataclass
from fairseq.models import BaseFairseqModel, FairseqEncoderDecoderModel
from fairseq.tasks import LegacyFairseqTask
from omegaconf import II, DictConfig

from ..errors import UsageError
from ..speech.inputs import Expected, Utterance, check_inputs
from ._data_source import DataSource


@dataclass
class SpeechConfig(FairseqDataclass):
    """Options of fairseq's speech tasks, which fairseq itself does not keep in a dataclass."""

    data: Optional[str] = field(default=None, metadata={"help": "folder of the manifests"})
    max_source_positions: int = field(
        default=6000, metadata={"help": "max number of frames of an utterance"}
    )
    max_target_positions: int = field(
        default=1024, metadata={"help": "max number of tokens of a transcript"}
    )
    # interpolated from other sections of fairseq's configuration
    seed: int = II("common.seed")
    train_subset: str = II("dataset.train_subset")


class Speech(DataSource):
    """Common part of the speech tasks, mixed in before fairseq's task.

    fairseq's speech tasks are legacy tasks with argparse options. Here they take a configuration
    like all others, so that distillation finds its options in the same place.
    """

    @classmethod
    def add_args(cls, parser: ArgumentParser) -> None:
        """Add the options of the dataclass instead of those of the fairseq task."""
        super(LegacyFairseqTask, cls).add_args(parser)

    def __init__(self, cfg: DictConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(cfg, *args, **kwargs)
        self.cfg = cfg
        self._trains = False

    @property
    def expected(self) -> Expected:
        """Properties that inputs of this task must have."""
        raise NotImplementedError

    @property
    def feature_dim(self) -> Optional[int]:
        """Number of features per frame of the source, ``None`` for a waveform."""
        return self.expected.dimension

    def build_criterion(self, cfg: DictConfig, from_checkpoint: bool = False) -> torch.nn.Module:
        """Build the criterion; fairseq's legacy tasks do not take ``from_checkpoint``."""
        self._trains = True
        return super().build_criterion(cfg)

    def build_model(self, cfg: Any, from_checkpoint: bool = False) -> BaseFairseqModel:
        """Build a model, which must predict token by token and take the features of the data."""
        model = super().build_model(cfg, from_checkpoint)
        if not isinstance(model, FairseqEncoderDecoderModel):
            raise UsageError(
                f"{type(model).__name__} is no encoder-decoder, so it does not predict each "
                "target token: choose another --arch, such as s2t_transformer_s or vggtransformer_1"
            )
        return model

    def _check_inputs(
        self,
        manifest: str,
        names: Iterable[str],
        paths: Iterable[str],
        transcripts: Iterable[Optional[str]],
        frames: Iterable[Optional[int]],
    ) -> None:
        if not self._trains:  # only training needs transcripts
            transcripts = repeat(None)
        check_inputs(map(Utterance, names, paths, transcripts, frames), manifest, self.expected)
