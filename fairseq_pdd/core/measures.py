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

from typing import NamedTuple, Tuple

import torch
from torch import Tensor

from ._checks import check_logits, check_measures_offset, check_per_row
from ._rowwise import compute_dtype, row_function
from .special import digamma, digamma_information, digamma_minus_log, log_add, top_and_others


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
    flat, lead = logits.detach().reshape(-1, logits.shape[-1]), logits.shape[:-1]
    offset = float(offset)
    sums = _sums(flat, offset=offset)
    total, information, epkl = (t.view(lead) for t in _measures(flat, *sums, offset=offset))
    return UncertaintyMeasures(
        total=total,
        data=total - information,
        mutual_information=information,
        epkl=epkl,
        rmi=(epkl - information).clamp(min=0),
    )


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
    dtype, lead = compute_dtype(logits), logits.shape[:-1]
    flat = logits.detach().reshape(-1, logits.shape[-1])
    with torch.no_grad(), torch.autocast(logits.device.type, enabled=False):
        of_class = flat.gather(-1, index.reshape(-1, 1)).to(dtype)
        log_a = _log_concentrations(of_class, offset)
        top, others = _sums(flat, offset=float(offset))
        a, log_mean = log_a.exp(), log_a - top - others.log1p()
        a0, log_a0 = top.exp() * (1 + others), top + others.log1p()
        # ψ(x) = ψ(x + 1) - 1/x: of 1/a_k - 1/a0 nothing cancels in this form
        small = digamma(a.clamp(max=1) + 1) - digamma_minus_log(a0 + 1)
        small = small - log_add(log_a0, 1.0)
        small = small + log_mean.expm1() / a
        large = log_mean + digamma_minus_log(a.clamp(min=1)) - digamma_minus_log(a0)
        return log_mean.view(lead), torch.where(log_a < 0, small, large).view(lead)


def _log_concentrations(z: Tensor, offset: float) -> Tensor:
    return log_add(z, offset) if offset > 0 else z


@row_function(compilable=True)
def _sums(z: Tensor, offset: float) -> Tuple[Tensor, Tensor]:
    """:func:`top_and_others` of the log-concentrations."""
    return top_and_others(_log_concentrations(z, offset))


@row_function(compilable=True)
def _measures(
    z: Tensor, top: Tensor, others: Tensor, offset: float
) -> Tuple[Tensor, Tensor, Tensor]:
    """Total uncertainty, mutual information and EPKL, each ``[N]``."""
    log_a = _log_concentrations(z, offset)
    log_sum, inverse_sum = others.log1p(), 1 / (1 + others)
    # from exp(top) and not exp(ln a0): a logarithm of 50 would cost five bits of a0
    a0, inverse_a0 = top.exp() * (1 + others), (-top).exp() * inverse_sum
    m, log_m = (log_a - top).exp() * inverse_sum, (log_a - top) - log_sum
    total = -torch.where(m > 0, m * log_m, torch.zeros_like(m)).sum(-1, keepdim=True)
    # Two forms of the same quantity: information is a difference of entropies only while it is
    # a large part of them; elsewhere u(a) = a[ψ(a + 1) - ln a] has nothing to cancel.
    each = digamma_information(log_a.exp(), log_a)
    whole = digamma_information(a0, top + log_sum)
    data = whole.digamma_next - (m * each.digamma_next).sum(-1, keepdim=True)
    series = (each.information.sum(-1, keepdim=True) - whole.information) * inverse_a0
    information = torch.where(a0 < 1, total - data, series).clamp(min=0)
    epkl = (z.shape[-1] - 1) * inverse_a0
    return total.squeeze(-1), torch.minimum(information, total).squeeze(-1), epkl.squeeze(-1)
