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
from ._rowwise import RowFunction
from .special import (
    LEAST_LOG,
    digamma,
    digamma_information,
    digamma_minus_log,
    exp,
    log_add,
    sum_of_others,
)


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


class TokenMeasures(NamedTuple):
    """Measures of a position, and log-probabilities of one class there, each ``[...]``."""

    measures: UncertaintyMeasures
    log_mean: Tensor
    """``ln E[π_k]``, nats."""
    mean_log: Tensor
    """``E[ln π_k]``, nats; ``log_mean - mean_log`` is a token's term of the joint estimate of
    reverse mutual information."""


class _Sums(NamedTuple):
    """Sums over the K classes of concentrations ``a``, each ``[N]``, with ``e = a / exp(top)``."""

    top: Tensor
    """Largest log-concentration; its ``e`` is 1."""
    others: Tensor
    """``Σ e - 1``, exact however small."""
    cross: Tensor
    """``Σ e ln e``."""
    expected: Tensor
    """``Σ e ψ(a + 1)`` where ``a0 < 1``."""
    information: Tensor
    """``Σ a [ψ(a + 1) - ln a]``."""


@torch.no_grad()
def dirichlet_measures(logits: Tensor, offset: float = 0.0) -> UncertaintyMeasures:
    """Compute the measures of the Dirichlet with concentrations ``exp(logits) + offset``.

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
    lead, classes = logits.shape[:-1], logits.shape[-1]
    sums = _class_sums(logits.reshape(-1, classes), offset=float(offset))
    measures = _measures(_Sums(*sums), classes)
    return UncertaintyMeasures(*(value.view(lead) for value in measures))


@torch.no_grad()
def dirichlet_token_measures(logits: Tensor, tokens: Tensor, offset: float = 0.0) -> TokenMeasures:
    """Compute :func:`dirichlet_measures` and the log-probabilities of one class of each position.

    Args:
        logits: ``[..., K]``.
        tokens: classes, integers ``[...]``.
        offset: δ ≥ 0 as in :func:`dirichlet_measures`.

    Raises:
        ValueError: shapes do not match, fewer than two classes or a negative offset.
    """
    check_logits(logits)
    check_measures_offset(offset)
    check_per_row("tokens", tokens, logits)
    lead, classes = logits.shape[:-1], logits.shape[-1]
    rows = logits.reshape(-1, classes)
    sums = _Sums(*_class_sums(rows, offset=float(offset)))
    of_tokens = rows.gather(-1, tokens.reshape(-1, 1)).squeeze(-1)
    log_mean, mean_log = _expected_log_probs(of_tokens, sums, offset)
    measures = (value.view(lead) for value in _measures(sums, classes))
    return TokenMeasures(UncertaintyMeasures(*measures), log_mean.view(lead), mean_log.view(lead))


def _measures(sums: _Sums, classes: int) -> UncertaintyMeasures:
    """Return the measures of Dirichlets over that many classes, ``[N]``."""
    top, others, cross, expected, information = sums
    with torch.autocast(top.device.type, enabled=False):
        log_sum, inverse_sum = others.log1p(), 1 / (1 + others)
        # from exp(top) and not exp(ln a0): a logarithm of 50 would cost five bits of a0
        a0, inverse_a0 = top.exp() * (1 + others), (-top).exp() * inverse_sum
        total = log_sum - cross * inverse_sum
        # Two forms of the same quantity: information is a difference of entropies only while it
        # is a large part of them; elsewhere u(a) has nothing to cancel.
        whole = digamma_information(a0, top + log_sum)
        difference = total - (whole.digamma_next - expected * inverse_sum)
        series = (information - whole.information) * inverse_a0
        information = torch.where(a0 < 1, difference, series).clamp(min=0)
        information = torch.minimum(information, total)
        epkl = (classes - 1) * inverse_a0
        return UncertaintyMeasures(
            total=total,
            data=total - information,
            mutual_information=information,
            epkl=epkl,
            rmi=(epkl - information).clamp(min=0),
        )


def _expected_log_probs(logits: Tensor, sums: _Sums, offset: float) -> Tuple[Tensor, Tensor]:
    """Return ``ln m_k`` and ``ψ(a_k) - ψ(a_0)`` of one class k of each row, each ``[N]``."""
    top, others = sums.top, sums.others
    with torch.autocast(logits.device.type, enabled=False):
        log_a = _log_concentrations(logits.to(top.dtype), offset)
        a, log_mean = log_a.exp(), log_a - top - others.log1p()
        a0, log_a0 = top.exp() * (1 + others), top + others.log1p()
        # ψ(x) = ψ(x + 1) - 1/x: of 1/a_k - 1/a0 nothing cancels in this form
        small = digamma(a.clamp(max=1) + 1) - digamma_minus_log(a0 + 1)
        small = small - log_add(log_a0, 1.0)
        small = small + log_mean.expm1() / a
        large = log_mean + digamma_minus_log(a.clamp(min=1)) - digamma_minus_log(a0)
        return log_mean, torch.where(log_a < 0, small, large)


def _log_concentrations(z: Tensor, offset: float) -> Tensor:
    return log_add(z, offset) if offset > 0 else z


@RowFunction
def _class_sums(z: Tensor, offset: float) -> Tuple[Tensor, ...]:
    """Return the :class:`_Sums` of rows ``[N, K]``."""
    log_a = _log_concentrations(z, offset)
    top = log_a.amax(dim=-1, keepdim=True)
    # clamped, so that a class of concentration 0 contributes 0 · finite
    log_e = (log_a - top).clamp_(min=LEAST_LOG)
    e = exp(log_e)
    others = sum_of_others(e)
    cross = log_e.mul_(e).sum(-1)
    a = torch.mul(e, top.clamp(max=_log_limit(top)).exp(), out=log_e)
    each = digamma_information(a, log_a)
    expected = torch.zeros_like(cross)
    # needed for rows with a0 < 1 only, and these are rare
    if (top < 0).any():
        expected = e.mul_(each.digamma_next).sum(-1)
    return top.squeeze(-1), others.squeeze(-1), cross, expected, each.information.sum(-1)


def _log_limit(x: Tensor) -> float:
    """Return a bound below which exponentials are finite."""
    return math.log(torch.finfo(x.dtype).max) - 1
