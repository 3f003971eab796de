"""fairseq tasks with a teacher in training and with uncertainty in generation.

Importing this package registers the tasks and the criterions.
"""

from .. import (
    _fairseq,  # noqa: F401  (first: importing fairseq must not change logging)
    criterions,  # noqa: F401
)
from ..checkpoints.reading import describe_uncaught
from ..errors import is_fairseq_command, show_usage_errors_in_one_line
from ._distillation import DistillationTaskMixin
from .distill_speech_recognition import DistillSpeechRecognitionTask
from .distill_speech_to_text import DistillSpeechToTextTask
from .distill_translation import DistillTranslationTask

SCORING_TASKS = {
    "translation": "distill_translation",
    "speech_to_text": "distill_speech_to_text",
    "speech_recognition": "distill_speech_recognition",
}
"""Tasks of this package by the name of the fairseq task that they extend."""

if is_fairseq_command():
    show_usage_errors_in_one_line(describe_uncaught)

__all__ = [
    "SCORING_TASKS",
    "DistillSpeechRecognitionTask",
    "DistillSpeechToTextTask",
    "DistillTranslationTask",
    "DistillationTaskMixin",
]
