"""fairseq tasks: the teacher for training, the measures for generation."""

from ._distillation import DistillationTaskMixin
from .distill_speech_recognition import DistillSpeechRecognitionTask
from .distill_speech_to_text import DistillSpeechToTextTask
from .distill_translation import DistillTranslationTask

__all__ = [
    "DistillSpeechRecognitionTask",
    "DistillSpeechToTextTask",
    "DistillTranslationTask",
    "DistillationTaskMixin",
]
