"""``send``: ordinary ensemble distillation, a baseline."""

from dataclasses import dataclass

from fairseq.criterions import register_criterion
from fairseq.tasks import FairseqTask
from torch import Tensor

from ..core import mean_kl
from ..teacher import TeacherStatistics
from .distillation import DistillationCriterion, DistillationCriterionConfig


@dataclass
class SEnDCriterionConfig(DistillationCriterionConfig):
    """Options of ``send``."""


@register_criterion("send", dataclass=SEnDCriterionConfig)
class SEnDCriterion(DistillationCriterion):
    """SEnD: KL to the ensemble's mean, Eq. 6. The student stays an ordinary model."""

    def __init__(self, task: FairseqTask, sentence_avg: bool) -> None:
        super().__init__(task, sentence_avg)

    def distillation_loss(self, logits: Tensor, teacher: TeacherStatistics) -> Tensor:
        """Compute the KL-divergence for each target token, ``[N]``."""
        return mean_kl(logits, teacher.mean_probs)
