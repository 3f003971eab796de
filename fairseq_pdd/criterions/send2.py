"""``send2``: the original distribution distillation, a baseline."""

from dataclasses import dataclass

from fairseq.criterions import register_criterion
from torch import Tensor

from ..core import dirichlet_nll
from ..teacher import TeacherStatistics
from .distillation import DirichletCriterionConfig, DistillationCriterion


@dataclass
class SEnD2CriterionConfig(DirichletCriterionConfig):
    """Options of ``send2``."""


@register_criterion("send2", dataclass=SEnD2CriterionConfig)
class SEnD2Criterion(DistillationCriterion):
    """SEnD²: Dirichlet negative log-likelihood of the members' distributions, Eq. 8."""

    needs_members = True

    def distillation_loss(self, logits: Tensor, teacher: TeacherStatistics) -> Tensor:
        """Compute the negative log-likelihood for each target token, ``[N]``."""
        assert self.offset is not None
        return dirichlet_nll(logits, teacher.mean_log_probs, self.offset)
