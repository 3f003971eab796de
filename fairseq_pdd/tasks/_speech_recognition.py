"""Task behind ``distill_speech_recognition``; importing it imports fairseq's example."""

import os
from itertools import repeat
from typing import Any

from fairseq.data import Dictionary
from fairseq.models import BaseFairseqModel
from fairseq.tasks import FairseqTask
from omegaconf import DictConfig

from ..errors import UsageError
from ..speech.decoded import SAMPLE_RATE, DecodedAudio
from ..speech.examples import import_speech_recognition
from ..speech.inputs import AUDIO_BINS, Expected
from ._distillation import DistillationTaskMixin
from ._speech import Speech

_SpeechRecognitionTask: Any = (
    import_speech_recognition().tasks.speech_recognition.SpeechRecognitionTask
)


class UtteranceList(Speech):
    """Checks of the example's data: JSON lists of audio files with encoded transcripts."""

    @classmethod
    def require_data(cls, cfg: DictConfig) -> None:
        """Raise :class:`UsageError` if the data folder has no dictionary."""
        path = os.path.join(cfg.data or "", "dict.txt")
        if not os.path.isfile(path):
            raise UsageError(
                f"dictionary {path} does not exist: give the folder that "
                "examples/speech_recognition/datasets/prepare-librispeech.sh of fairseq writes"
            )

    @classmethod
    def setup_task(cls, cfg: DictConfig, **kwargs: Any) -> FairseqTask:
        """Set up the task, without the symbols that fairseq adds for CTC and ASG criterions."""
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
                f"--input-feat-per-channel {dimension} does not fit this task, whose frames have "
                f"{AUDIO_BINS} features: remove the option"
            )
        return super().build_model(cfg, from_checkpoint)

    def load_dataset(self, split: str, *args: Any, **kwargs: Any) -> None:
        """Load a split, whose list and audio must be complete."""
        path = os.path.join(self.cfg.data, f"{split}.json")
        try:
            super().load_dataset(split, *args, **kwargs)
        except OSError as error:
            raise UsageError(f"no subset '{split}' in {self.cfg.data}: {error}") from error
        # the example raises these where an entry is missing or of another type
        except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise UsageError(
                f"{path} differs from the output of fairseq's asr_prep_json.py "
                f"({type(error).__name__}: {error}): each entry of 'utts' needs a name "
                "speaker-chapter-number, an 'input' with 'path' and 'length_ms' above 25, and an "
                "'output' with a 'tokenid' that is not empty"
            ) from error
        dataset = self.datasets[split] = DecodedAudio(self.datasets[split])
        self._check_inputs(path, dataset.ids, dataset.dataset.aud_paths, repeat(None))


class ExampleSpeechRecognitionTask(DistillationTaskMixin, UtteranceList, _SpeechRecognitionTask):
    """Speech recognition with a teacher and with the uncertainty of hypotheses."""
