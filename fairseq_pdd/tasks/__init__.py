"""fairseq tasks: the teacher for training, the measures for generation."""

from .distill_speech_to_text import DistillSpeechToTextTask
from .distill_translation import DistillTranslationTask

__all__ = ["DistillSpeechToTextTask", "DistillTranslationTask"]
