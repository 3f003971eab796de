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
from ._compile import PATIENCE_FOR_MEASURES
from ._rowwise import row_function
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


class DirichletSums(NamedTuple):
    """All that there is to know of concentrations ``a`` of K classes, each ``[...]``.

    With ``e = a / exp(top)``, whose largest is 1.
    """

    top: Tensor
    """Largest log-concentration."""
    others: Tensor
    """``Σ e - 1``, exact however small."""
    cross: Tensor
    """``Σ e ln e``."""
    expected: Tensor
    """``Σ e ψ(a + 1)``, where ``a0 < 1``."""
    information: Tensor
    """``Σ a [ψ(a + 1) - ln a]``."""


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
    return measures_of_sums(dirichlet_sums(logits, offset), logits.shape[-1])


@torch.no_grad()
def dirichlet_sums(logits: Tensor, offset: float = 0.0) -> DirichletSums:
    """Sums over the classes from which :func:`measures_of_sums` and :func:`expected_log_probs`
    take what they give, in one pass over the logits.

    Arguments and errors are those of :func:`dirichlet_measures`.
    """
    check_logits(logits)
    check_measures_offset(offset)
    sums = _class_sums(logits.detach().reshape(-1, logits.shape[-1]), offset=float(offset))
    return DirichletSums(*(value.view(logits.shape[:-1]) for value in sums))


@torch.no_grad()
def measures_of_sums(sums: DirichletSums, classes: int) -> UncertaintyMeasures:
    """:func:`dirichlet_measures` from the sums over that many classes, of any shape."""
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


@torch.no_grad()
def expected_log_probs(
    logits: Tensor, sums: DirichletSums, offset: float = 0.0
) -> Tuple[Tensor, Tensor]:
    """``(ln E[π_k], E[ln π_k])`` under the Dirichlet, for one class k of each row.

    Their difference is a token's term of the joint estimate of reverse mutual information.

    Args:
        logits: of that class, ``[...]``.
        sums: of all classes of its row, from :func:`dirichlet_sums`.
        offset: δ ≥ 0 as there.

    Returns:
        ``ln m_k`` and ``ψ(a_k) - ψ(a_0)`` in nats, each ``[...]``.
    """
    top, others = sums.top, sums.others
    with torch.autocast(logits.device.type, enabled=False):
        log_a = _log_concentrations(logits.detach().to(top.dtype), offset)
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


@row_function(compilable=True, patience=PATIENCE_FOR_MEASURES, at_once=True)
def _class_sums(z: Tensor, offset: float) -> Tuple[Tensor, ...]:
    """:class:`DirichletSums` of the rows, ``[N]``."""
    log_a = _log_concentrations(z, offset)
    top = log_a.amax(dim=-1, keepdim=True)
    # clamped, as a class of concentration 0 counts 0 · finite
    log_e = (log_a - top).clamp_(min=LEAST_LOG)
    e = exp(log_e)
    others = sum_of_others(e)
    cross = log_e.mul_(e).sum(-1)
    a = torch.mul(e, top.clamp(max=_log_limit(top)).exp(), out=log_e)
    each = digamma_information(a, log_a)
    expected = torch.zeros_like(cross)
    # not worth a pass over memory where no row has a0 < 1; a compiler has no passes to save
    if torch.compiler.is_compiling() or (top < 0).any():
        expected = e.mul_(each.digamma_next).sum(-1)
    return top.squeeze(-1), others.squeeze(-1), cross, expected, each.information.sum(-1)


def _log_limit(x: Tensor) -> float:
    """Below which an exponential is finite."""
    return math.log(torch.finfo(x.dtype).max) - 1
