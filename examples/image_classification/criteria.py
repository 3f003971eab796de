"""Training criteria of classifiers: from labels, or from statistics of an ensemble."""

from typing import Callable, Dict, NamedTuple, Optional

import torch.nn.functional as F
from torch import Tensor

from fairseq_pdd.core import (
    EnsembleStatistics,
    dirichlet_nll,
    forward_kl_proxy_dirichlet,
    mean_kl,
    reverse_kl_proxy_dirichlet,
)

# The losses require δ > 0. Adding this one in float64 does not change the concentrations that
# training reaches: α is exp(z), as in Eq. 7.
NO_OFFSET = 1e-30


class Criterion(NamedTuple):
    """A loss of logits ``[N, K]``, and the meaning of the logits after training with it."""

    title: str
    from_labels: Optional[Callable[[Tensor, Tensor], Tensor]] = None
    """Loss ``[N]`` of logits and labels ``[N]``."""
    from_teacher: Optional[Callable[[Tensor, EnsembleStatistics], Tensor]] = None
    """Loss ``[N]`` of logits and the ensemble."""
    is_prior_network: bool = False
    """True if exp(z) are concentrations, so that there is knowledge uncertainty."""


def _pd_end2(logits: Tensor, teacher: EnsembleStatistics) -> Tensor:
    return reverse_kl_proxy_dirichlet(logits, teacher.mean_probs, teacher.inverse_precision)


def _forward(logits: Tensor, teacher: EnsembleStatistics) -> Tensor:
    return forward_kl_proxy_dirichlet(
        logits, teacher.mean_probs, teacher.inverse_precision, offset=NO_OFFSET
    )


CRITERIA: Dict[str, Criterion] = {
    "single": Criterion(
        "Single", from_labels=lambda z, labels: F.cross_entropy(z, labels, reduction="none")
    ),
    "end": Criterion("EnD", from_teacher=lambda z, t: mean_kl(z, t.mean_probs)),
    "pd_end2": Criterion("PD-EnD²", from_teacher=_pd_end2, is_prior_network=True),
    "end2": Criterion(
        "EnD² (Dir-NLL)",
        from_teacher=lambda z, t: dirichlet_nll(z, t.mean_log_probs, offset=NO_OFFSET),
        is_prior_network=True,
    ),
    "end2_offset": Criterion(
        "EnD² (Dir-NLL), α = exp(z) + 1",
        from_teacher=lambda z, t: dirichlet_nll(z, t.mean_log_probs),
        is_prior_network=True,
    ),
    "forward_kl": Criterion("Forward KL", from_teacher=_forward, is_prior_network=True),
}
