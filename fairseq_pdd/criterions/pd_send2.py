"""``pd_send2``: the paper's method."""

from dataclasses import dataclass, field

from fairseq.criterions import register_criterion
from fairseq.tasks import FairseqTask
from torch import Tensor

from ..core import reverse_kl_proxy_dirichlet
from ..teacher import TeacherStatistics
from .distillation import DirichletCriterionConfig, DistillationCriterion


@dataclass
class PDSEnD2CriterionConfig(DirichletCriterionConfig):
    """Options of ``pd_send2``."""

    no_compile: bool = field(
        default=False,
        metadata={
            "help": "keep the loss in eager mode, some twenty times slower: torch.compile, which "
            "takes a minute at the start of a first training, is not used"
        },
    )


@register_criterion("pd_send2", dataclass=PDSEnD2CriterionConfig)
class PDSEnD2Criterion(DistillationCriterion):
    """PD-SEnD²: reverse KL to the Proxy-Dirichlet of the ensemble, Eq. 17."""

    def __init__(
        self, task: FairseqTask, sentence_avg: bool, offset: float, no_compile: bool
    ) -> None:
        super().__init__(task, sentence_avg, offset)
        self.compiled = not no_compile

    def distillation_loss(self, logits: Tensor, teacher: TeacherStatistics) -> Tensor:
        """Compute Eq. 17 for each target token, ``[N]``."""
        assert self.offset is not None
        return reverse_kl_proxy_dirichlet(
            logits, teacher.mean_probs, teacher.inverse_precision, self.offset, self.compiled
        )
