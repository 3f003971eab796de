"""``distill_speech_recognition``: the older recipe in fairseq's examples, with a teacher.

Importing this registers what is in fairseq's ``examples/speech_recognition``: the architectures
``vggtransformer_*``, the task ``speech_recognition`` and its criterions.
"""

import logging
import os
import sys
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, Optional

from fairseq.data import Dictionary
from fairseq.models import BaseFairseqModel
from fairseq.tasks import FairseqTask, LegacyFairseqTask, register_task
from omegaconf import DictConfig

from ..errors import UsageError
from ..speech.decoded import SAMPLE_RATE, DecodedAudio
from ..speech.examples import import_speech_recognition
from ..speech.inputs import AUDIO_BINS, Expected
from ._distillation import DistillationConfig, DistillationTaskMixin
from ._speech import Speech, SpeechConfig

logger = logging.getLogger(__name__)

_unavailable: Optional[UsageError] = None
try:
    _SpeechRecognitionTask: Any = (
        import_speech_recognition().tasks.speech_recognition.SpeechRecognitionTask
    )
except UsageError as error:  # told to those who ask for this task
    _SpeechRecognitionTask, _unavailable = LegacyFairseqTask, error
    logger.info("no --arch vggtransformer_*: %s", error.message)


@dataclass
class DistillSpeechRecognitionConfig(DistillationConfig, SpeechConfig):
    """Options of ``distill_speech_recognition``: those of the example's task and the teacher's."""

    max_source_positions: int = field(
        default=sys.maxsize, metadata={"help": "max number of frames of an utterance"}
    )


class UtteranceList(Speech):
    """Checks of the example's data: JSON lists of audio files with encoded transcripts."""

    @classmethod
    def require_data(cls, cfg: DictConfig) -> None:
        """Raise :class:`UsageError` if fairseq has no such task or the folder no dictionary."""
        if _unavailable is not None:
            raise _unavailable
        path = os.path.join(cfg.data or "", "dict.txt")
        if not os.path.isfile(path):
            raise UsageError(
                f"dictionary {path} does not exist: give the folder that "
                "examples/speech_recognition/datasets/prepare-librispeech.sh of fairseq writes"
            )

    @classmethod
    def setup_task(cls, cfg: DictConfig, **kwargs: Any) -> FairseqTask:
        """Set up the task; that of fairseq would add symbols for criterions that have no tokens."""
        return cls(cfg, Dictionary.load(os.path.join(cfg.data, "dict.txt")))

    @property
    def expected(self) -> Expected:
        """The example's features, which no option changes."""
        return Expected(dimension=AUDIO_BINS, sample_rate=SAMPLE_RATE, through_sox=False)

    def build_model(self, cfg: Any, from_checkpoint: bool = False) -> BaseFairseqModel:
        """Build a model, which must take the example's features."""
        dimension = getattr(cfg, "input_feat_per_channel", AUDIO_BINS)
        if dimension != AUDIO_BINS:
            raise UsageError(
                f"--input-feat-per-channel {dimension}: the features of this task have {AUDIO_BINS}"
            )
        return super().build_model(cfg, from_checkpoint)

    def load_dataset(self, split: str, *args: Any, **kwargs: Any) -> None:
        """Load a split, whose list and audio must be complete."""
        listed = os.path.join(self.cfg.data, f"{split}.json")
        try:
            super().load_dataset(split, *args, **kwargs)
        except OSError as error:
            raise UsageError(f"no subset '{split}' in {self.cfg.data}: {error}") from error
        # what the example trips over where something is missing or of another kind
        except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise UsageError(
                f"{listed} is not as fairseq's asr_prep_json.py writes it "
                f"({type(error).__name__}: {error}): 'utts' lists speaker-chapter-number: "
                "'input' with 'path' and 'length_ms' above 25, 'output' with 'tokenid' not empty"
            ) from error
        dataset = self.datasets[split] = DecodedAudio(self.datasets[split])
        self._check_inputs(listed, dataset.ids, dataset.dataset.aud_paths, repeat(None))


@register_task("distill_speech_recognition", dataclass=DistillSpeechRecognitionConfig)
class DistillSpeechRecognitionTask(DistillationTaskMixin, UtteranceList, _SpeechRecognitionTask):
    """Speech recognition with a teacher and with uncertainty of hypotheses."""
