"""fairseq tasks: the teacher for training, the measures for generation."""

from ._distillation import DistillationTaskMixin
from .distill_translation import DistillTranslationTask

__all__ = ["DistillTranslationTask", "DistillationTaskMixin"]
