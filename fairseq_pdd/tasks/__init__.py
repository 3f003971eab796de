"""fairseq tasks with a teacher in training and with uncertainty in generation.

Importing this package registers the tasks and the criterions.
"""

from typing import Optional

from .. import (
    _fairseq,  # noqa: F401  (first: importing fairseq must not change logging)
    criterions,  # noqa: F401
)
from .._requirements import describe_missing
from ..checkpoints.reading import describe_uncaught
from ..errors import is_fairseq_command, show_usage_errors_in_one_line
from ._distillation import DistillationTaskMixin
from ._hydra import describe_configuration, leave_errors_to_python
from .distill_speech_recognition import DistillSpeechRecognitionTask
from .distill_speech_to_text import DistillSpeechToTextTask
from .distill_translation import DistillTranslationTask

SCORING_TASKS = {
    "translation": "distill_translation",
    "speech_to_text": "distill_speech_to_text",
    "speech_recognition": "distill_speech_recognition",
}
"""Tasks of this package by the name of the fairseq task that they extend."""


def _describe(error: BaseException) -> Optional[str]:
    return describe_missing(error) or describe_uncaught(error) or describe_configuration(error)


if is_fairseq_command():
    show_usage_errors_in_one_line(_describe)
    leave_errors_to_python()

__all__ = [
    "SCORING_TASKS",
    "DistillSpeechRecognitionTask",
    "DistillSpeechToTextTask",
    "DistillTranslationTask",
    "DistillationTaskMixin",
]
