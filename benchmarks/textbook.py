"""A direct implementation of the paper's equations, as a baseline for time and memory.

All members' predictions are in one tensor, all numbers are float64, and gradients are autograd's,
as in the authors' public code.
"""

from typing import Tuple

import torch
from torch import Tensor


def statistics(member_logits: Tensor) -> Tuple[Tensor, Tensor]:
    """Compute mean and precision of the Proxy-Dirichlet, Eq. 16.

    Args:
        member_logits: logits of all members, ``[T, M, K]``.

    Returns:
        π̂ ``[T, K]`` and β̂₀ ``[T]``, float64.
    """
    probs = torch.softmax(member_logits.double(), dim=-1)
    mean = probs.mean(dim=1)
    mkl = (mean * (mean.log() - probs.log().mean(dim=1))).sum(dim=-1)
    return mean, (mean.shape[-1] - 1) / (2 * mkl)


def loss(logits: Tensor, mean: Tensor, precision: Tensor) -> Tensor:
    """Compute Eq. 17 with δ = 1, ``[T]``.

    Args:
        logits: logits of the student, ``[T, K]``.
        mean: π̂, ``[T, K]``.
        precision: β̂₀, ``[T]``.
    """
    alpha = logits.double().exp() + 1
    alpha0 = alpha.sum(dim=-1, keepdim=True)
    expected = torch.digamma(alpha) - torch.digamma(alpha0)
    reconstruction = -(mean * expected).sum(dim=-1)
    prior = (
        torch.lgamma(alpha0).squeeze(-1)
        - torch.lgamma(alpha).sum(dim=-1)
        + ((alpha - 1) * expected).sum(dim=-1)
    )
    return reconstruction + prior / precision
