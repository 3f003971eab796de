"""fairseq tasks with a teacher in training and with uncertainty in generation.

Importing this package registers the tasks and the criterions.
"""

from .. import (
    _fairseq,  # noqa: F401  (first: importing fairseq must not change logging)
    criterions,  # noqa: F401
)
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
