"""``distill_translation``: fairseq's translation with an ensemble to distil."""

from dataclasses import dataclass

from fairseq.tasks import register_task
from fairseq.tasks.translation import TranslationConfig, TranslationTask

from ._binarised_text import BinarisedText
from ._distillation import DistillationConfig, DistillationTaskMixin


@dataclass
class DistillTranslationConfig(DistillationConfig, TranslationConfig):
    """Options of ``distill_translation``: those of ``translation`` and the teacher's."""


@register_task("distill_translation", dataclass=DistillTranslationConfig)
class DistillTranslationTask(DistillationTaskMixin, BinarisedText, TranslationTask):
    """Translation whose criterion has a teacher and whose hypotheses have uncertainty."""
