"""Task behind ``distill_speech_recognition``; importing it imports fairseq's example."""

import os
from itertools import repeat
from typing import Any, List

from fairseq.data import Dictionary
from fairseq.models import BaseFairseqModel
from fairseq.tasks import FairseqTask
from omegaconf import DictConfig

from ..errors import UsageError
from ..speech.decoded import SAMPLE_RATE, DecodedAudio
from ..speech.examples import import_speech_recognition
from ..speech.inputs import AUDIO_BINS, Expected
from ..speech.manifests import read_dictionary, read_list
from ._distillation import DistillationTaskMixin
from ._speech import Speech

_SpeechRecognitionTask: Any = (
    import_speech_recognition().tasks.speech_recognition.SpeechRecognitionTask
)


class UtteranceList(Speech):
    """Checks of the example's data: JSON lists of audio files with encoded transcripts."""

    @classmethod
    def require_data(cls, cfg: DictConfig) -> None:
        """Raise :class:`UsageError` if the data folder has no dictionary that can be read."""
        _read_dictionary(cfg)

    @classmethod
    def setup_task(cls, cfg: DictConfig, **kwargs: Any) -> FairseqTask:
        """Set up the task, without the symbols that fairseq adds for CTC and ASG criterions."""
        return cls(cfg, _read_dictionary(cfg))

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
        read_list(path, self.target_dictionary)
        super().load_dataset(split, *args, **kwargs)
        listed = self.datasets[split]
        self._check_inputs(path, listed.ids, listed.aud_paths, repeat(None), listed.frame_sizes)
        self.datasets[split] = DecodedAudio(listed)

    def get_interactive_tokens_and_lengths(self, lines: List[str], encode_fn: Any) -> Any:
        """Raise :class:`UsageError`, since the example's task has no such function."""
        raise UsageError(
            "fairseq-interactive cannot read audio with --task distill_speech_recognition: list it "
            "in NAME.json and give fairseq-generate --gen-subset NAME"
        )


def _read_dictionary(cfg: DictConfig) -> Dictionary:
    return read_dictionary(
        os.path.join(cfg.data or "", "dict.txt"),
        "give the folder that examples/speech_recognition/datasets/prepare-librispeech.sh of "
        "fairseq writes",
    )


class ExampleSpeechRecognitionTask(DistillationTaskMixin, UtteranceList, _SpeechRecognitionTask):
    """Speech recognition with a teacher and with the uncertainty of hypotheses."""
