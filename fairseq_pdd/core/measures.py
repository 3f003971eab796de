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

from ._checks import check_logits, check_measures_offset, check_per_row
from ._rowwise import compute_dtype, row_chunks
from .special import digamma, digamma_information, digamma_minus_log


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
    c = _concentrations(logits, offset)
    total = -torch.where(c.m > 0, c.m * c.log_m, torch.zeros_like(c.m)).sum(-1, keepdim=True)
    # Two forms of the same quantity: information is a difference of entropies only while it is
    # a large part of them; elsewhere u(a) = a[ψ(a + 1) - ln a] has nothing to cancel.
    each, whole = digamma_information(c.a, c.log_a), digamma_information(c.a0, c.log_a0)
    data = whole.digamma_next - (c.m * each.digamma_next).sum(-1, keepdim=True)
    series = (each.information.sum(-1, keepdim=True) - whole.information) * c.inverse_a0
    information = torch.where(c.a0 < 1, total - data, series).clamp(min=0)
    epkl = (logits.shape[-1] - 1) * c.inverse_a0
    return total.squeeze(-1), torch.minimum(information, total).squeeze(-1), epkl.squeeze(-1)


def expected_log_probs(logits: Tensor, index: Tensor, offset: float = 0.0) -> Tuple[Tensor, Tensor]:
    """``(ln E[π_k], E[ln π_k])`` under the Dirichlet, at one class a row.

    Their difference is a token's term of the joint estimate of reverse mutual information.

    Args:
        logits: ``[..., K]``.
        index: the classes k, integers ``[...]``.
        offset: δ ≥ 0 as in :func:`dirichlet_measures`.

    Returns:
        ``ln m_k`` and ``ψ(a_k) - ψ(a_0)`` in nats, each ``[...]``.

    Raises:
        ValueError: fewer than two classes, indices that are not one integer a row, a negative
            offset.
    """
    check_logits(logits)
    check_per_row("index", index, logits)
    if index.is_floating_point():
        raise ValueError(f"index must hold integers, not {index.dtype}")
    check_measures_offset(offset)
    with torch.autocast(logits.device.type, enabled=False):
        c = _concentrations(logits.detach().to(compute_dtype(logits)), offset)
        log_mean, log_a, a = (t.gather(-1, index.unsqueeze(-1)) for t in (c.log_m, c.log_a, c.a))
        # ψ(x) = ψ(x + 1) - 1/x: of 1/a_k - 1/a0 nothing cancels in this form
        small = digamma(a.clamp(max=1) + 1) - digamma_minus_log(c.a0 + 1)
        small = small - torch.logaddexp(c.log_a0, torch.zeros_like(c.log_a0))
        small = small + log_mean.expm1() / a
        large = log_mean + digamma_minus_log(a.clamp(min=1)) - digamma_minus_log(c.a0)
        return log_mean.squeeze(-1), torch.where(log_a < 0, small, large).squeeze(-1)


class _Concentrations(NamedTuple):
    """Of a Dirichlet: those of classes ``[..., K]``, sums ``[..., 1]``, the mean ``[..., K]``."""

    a: Tensor
    log_a: Tensor
    a0: Tensor
    log_a0: Tensor
    inverse_a0: Tensor
    m: Tensor
    log_m: Tensor


def _concentrations(z: Tensor, offset: float) -> _Concentrations:
    if offset > 0:
        z = torch.logaddexp(z, torch.full_like(z, math.log(offset)))
    top = z.amax(dim=-1, keepdim=True)
    is_top = z == top
    relative = (z - top).exp()
    # Σ exp(z - top) - 1, of which nothing is lost beside the 1 of one top class
    ties = is_top.to(z.dtype).sum(dim=-1, keepdim=True) - 1
    others = ties + torch.where(is_top, torch.zeros_like(z), relative).sum(dim=-1, keepdim=True)
    log_sum = others.log1p()
    inverse_sum = 1 / (1 + others)
    return _Concentrations(
        a=z.exp(),
        log_a=z,
        # from exp(top) and not exp(ln a0): a logarithm of 50 would cost five bits of a0
        a0=top.exp() * (1 + others),
        log_a0=top + log_sum,
        inverse_a0=(-top).exp() * inverse_sum,
        m=relative * inverse_sum,
        log_m=(z - top) - log_sum,
    )
