"""Token-level measures of uncertainty of a Dirichlet distribution over categoricals.

With concentrations ``a``, ``a0 = Σ a`` and mean ``m = a / a0``:

==================== =====================================
total                ``-Σ m ln m``
data                 ``-Σ m [ψ(a + 1) - ψ(a0 + 1)]``
mutual information   ``total - data`` (Eq. 10)
EPKL                 ``(K - 1) / a0``
RMI                  ``EPKL - mutual information``
==================== =====================================
"""

import math
from typing import NamedTuple, Tuple

import torch
from torch import Tensor

from ._checks import check_logits, check_measures_offset
from ._rowwise import compute_dtype, row_chunks
from .special import digamma_information, digamma_minus_log


class UncertaintyMeasures(NamedTuple):
    """Measures in nats, each of shape ``[...]``; all are ≥ 0 and higher is more uncertain.

    ``total = data + mutual_information`` and ``epkl = mutual_information + rmi``.
    """

    total: Tensor
    """Entropy of the mean: total uncertainty (the paper's H)."""
    data: Tensor
    """Mean entropy: expected data uncertainty."""
    mutual_information: Tensor
    """Knowledge uncertainty I, Eqs. 4 and 10."""
    epkl: Tensor
    """Expected pairwise KL-divergence (the paper's 𝒦)."""
    rmi: Tensor
    """Reverse mutual information (the paper's 𝓜), Eq. 5."""


def dirichlet_measures(logits: Tensor, offset: float = 0.0) -> UncertaintyMeasures:
    """Measures of the Dirichlet with concentrations ``exp(logits) + offset``.

    Args:
        logits: ``[..., K]``.
        offset: δ ≥ 0. At 0 the mean is ``softmax(logits)``, the model's prediction, and the
            concentrations are a distilled student's estimate of β̂; with the offset of training
            it is the Dirichlet of the loss, whose mean carries ``δK / a0`` of uniform mass.

    Returns:
        Measures of shape ``[...]``, float32 (float64 for float64 logits). EPKL and RMI exceed
        float32, and are infinite, for ``a0 < K / 3.4e38``.

    Raises:
        ValueError: fewer than two classes or a negative offset.
    """
    check_logits(logits)
    check_measures_offset(offset)
    flat = logits.detach().reshape(-1, logits.shape[-1])
    dtype = compute_dtype(logits)
    with torch.autocast(logits.device.type, enabled=False):
        parts = [_dirichlet_rows(flat[rows].to(dtype), offset) for rows in row_chunks(flat)]
    if not parts:
        parts = [(flat.new_zeros(0, dtype=dtype),) * 3]
    total, information, epkl = (torch.cat(p).reshape(logits.shape[:-1]) for p in zip(*parts))
    return UncertaintyMeasures(
        total=total,
        data=total - information,
        mutual_information=information,
        epkl=epkl,
        rmi=(epkl - information).clamp(min=0),
    )


def _dirichlet_rows(logits: Tensor, offset: float) -> Tuple[Tensor, Tensor, Tensor]:
    """Total uncertainty, mutual information and EPKL of ``[N, K]`` logits."""
    log_a, a, log_a0, a0, inverse_a0, log_m = _concentrations(logits, offset)
    m = log_m.exp()
    total = -torch.where(m > 0, m * log_m, torch.zeros_like(m)).sum(-1)
    # Two forms of the same quantity: information is a difference of entropies only while it is
    # a large part of them; elsewhere u(a) = a[ψ(a + 1) - ln a] has nothing to cancel.
    data = torch.digamma(a0 + 1) - (m * torch.digamma(a.clamp(max=1.0) + 1)).sum(-1)
    series = digamma_information(a, log_a).sum(-1) - digamma_information(a0, log_a0)
    information = torch.where(a0 < 1, total - data, series * inverse_a0).clamp(min=0)
    return total, torch.minimum(information, total), (logits.shape[-1] - 1) * inverse_a0


def expected_log_probs(logits: Tensor, index: Tensor, offset: float = 0.0) -> Tuple[Tensor, Tensor]:
    """``(ln E[π_k], E[ln π_k])`` under the Dirichlet, at one class a row.

    Their difference is a token's term of the joint estimate of reverse mutual information.

    Args:
        logits: ``[..., K]``.
        index: the classes k, integers ``[...]``.
        offset: δ ≥ 0 as in :func:`dirichlet_measures`.

    Returns:
        ``ln m_k`` and ``ψ(a_k) - ψ(a_0)`` in nats, each ``[...]``.
    """
    check_logits(logits)
    check_measures_offset(offset)
    with torch.autocast(logits.device.type, enabled=False):
        log_a, a, _, a0, _, log_m = _concentrations(logits, offset)
        index = index.unsqueeze(-1)
        log_mean = log_m.gather(-1, index).squeeze(-1)
        a_k = a.gather(-1, index).squeeze(-1)
        # ψ(x) = ψ(x + 1) - 1/x keeps the small x, whose -1/x is what matters, exact
        small = a_k < 1
        shifted = digamma_minus_log(torch.where(small, a_k + 1, a_k))
        tail = torch.where(
            small,
            shifted + torch.log1p(a_k) - log_a.gather(-1, index).squeeze(-1) - a_k.reciprocal(),
            shifted,
        )
        return log_mean, log_mean + tail - digamma_minus_log(a0)


def _concentrations(
    logits: Tensor, offset: float
) -> Tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """``ln a, a [..., K]``; ``ln a0, a0, 1/a0 [...]``; ``ln m [..., K]``."""
    z = logits.to(compute_dtype(logits))
    if offset > 0:
        z = torch.logaddexp(z, z.new_tensor(math.log(offset)))
    top = z.amax(dim=-1, keepdim=True)
    scaled = (z - top).exp().sum(dim=-1, keepdim=True)
    log_m = (z - top) - scaled.log()
    # from exp(top) and not exp(ln a0): a logarithm of 50 would cost five bits of a0
    a0 = (top.exp() * scaled).squeeze(-1)
    inverse_a0 = ((-top).exp() / scaled).squeeze(-1)
    log_a0 = (top + scaled.log()).squeeze(-1)
    return z, z.exp(), log_a0, a0, inverse_a0, log_m
