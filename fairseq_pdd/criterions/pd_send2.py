"""``pd_send2``: the paper's method."""

from dataclasses import dataclass

from fairseq.criterions import register_criterion
from torch import Tensor

from ..core import reverse_kl_proxy_dirichlet
from ..teacher import TeacherStatistics
from .distillation import DirichletCriterionConfig, DistillationCriterion


@dataclass
class PDSEnD2CriterionConfig(DirichletCriterionConfig):
    """Options of ``pd_send2``."""


@register_criterion("pd_send2", dataclass=PDSEnD2CriterionConfig)
class PDSEnD2Criterion(DistillationCriterion):
    """PD-SEnD²: reverse KL to the Proxy-Dirichlet of the ensemble, Eq. 17."""

    def distillation_loss(self, logits: Tensor, teacher: TeacherStatistics) -> Tensor:
        """Eq. 17 of each target token, ``[N]``."""
        assert self.offset is not None
        return reverse_kl_proxy_dirichlet(
            logits, teacher.mean_probs, teacher.inverse_precision, self.offset
        )
