"""``pd_send2_forward``: forward KL to the same proxy, a baseline."""

from dataclasses import dataclass, field

from fairseq.criterions import register_criterion
from fairseq.tasks import FairseqTask
from torch import Tensor

from ..core import forward_kl_proxy_dirichlet
from ..core.forward_kl import DEFAULT_MAX_PRECISION
from ..errors import UsageError
from ..teacher import TeacherStatistics
from .distillation import DirichletCriterionConfig, DistillationCriterion


@dataclass
class PDSEnD2ForwardCriterionConfig(DirichletCriterionConfig):
    """Options of ``pd_send2_forward``."""

    max_target_precision: float = field(
        default=DEFAULT_MAX_PRECISION,
        metadata={
            "help": "cap on the proxy's precision β̂0; the forward divergence is infinite where "
            "the members agree exactly"
        },
    )


@register_criterion("pd_send2_forward", dataclass=PDSEnD2ForwardCriterionConfig)
class PDSEnD2ForwardCriterion(DistillationCriterion):
    """Forward KL to the Proxy-Dirichlet of the ensemble (Eq. 14 with Eq. 16)."""

    def __init__(
        self, task: FairseqTask, sentence_avg: bool, offset: float, max_target_precision: float
    ) -> None:
        super().__init__(task, sentence_avg, offset)
        if not max_target_precision > 0:
            raise UsageError(f"--max-target-precision must be positive, not {max_target_precision}")
        self.max_target_precision = max_target_precision

    def distillation_loss(self, logits: Tensor, teacher: TeacherStatistics) -> Tensor:
        """Compute the forward KL-divergence for each target token, ``[N]``."""
        assert self.offset is not None
        return forward_kl_proxy_dirichlet(
            logits,
            teacher.mean_probs,
            teacher.inverse_precision,
            self.offset,
            self.max_target_precision,
        )
