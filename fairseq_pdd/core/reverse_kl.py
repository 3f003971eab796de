r"""PD-EnD² / PD-SEnD²: reverse KL-divergence to the Proxy-Dirichlet (Eq. 17).

With :math:`e = \exp z`, :math:`\alpha = e + \delta`, :math:`\alpha_0 = \sum_k \alpha_k` and
:math:`\lambda = 1/\hat\beta_0`,

.. math::
    L = -\sum_k \hat\pi_k [\psi(\alpha_k) - \psi(\alpha_0)]
        + \lambda\,\Big\{ h(\alpha_0) + (K - 1)\psi(\alpha_0) - \sum_k h(\alpha_k) \Big\}
        - \lambda(\delta - 1) \sum_k [\psi(\alpha_k) - \psi(\alpha_0)],

which is :math:`\lambda\,\mathrm{KL}[\mathrm{Dir}(\alpha) \| \mathrm{Dir}(\hat\beta + \delta)]`
up to a term that does not depend on the student. Its gradient, with
:math:`p = \mathrm{softmax}(z)`, :math:`S = \sum_k e_k`, :math:`c(x) = 1 - x\psi'(x + \delta)`
and :math:`c_0 = 1 - S\psi'(S + \delta K)`, is

.. math::
    \partial L / \partial z_k = (p_k - \hat\pi_k) - p_k c_0 + \hat\pi_k c(e_k)
        + \lambda\,[\,p_k\,S c_0 - e_k c(e_k)\,]
    = p_k q_0 - \hat\pi_k q(e_k) + \lambda\,e_k\,[\,q(e_k) - q_0\,], \qquad q = 1 - c:

the cross-entropy gradient with small corrections; it is 0 at :math:`e = \hat\beta_0\hat\pi`.
"""

import math
from functools import partial
from typing import NamedTuple, Optional

import torch
from torch import Tensor

from . import _compile
from ._checks import check_logits, check_offset, check_per_row
from ._rowwise import RowFunction, compute_dtype, rowwise_loss
from .special import (
    digamma_series,
    entropy_term,
    log_shifted,
    shift,
    top_and_others,
    trigamma_ratio,
)
from .topk import MeanProbs, TopKProbs, as_tensors, check_mean_probs


def reverse_kl_proxy_dirichlet(
    logits: Tensor,
    mean_probs: MeanProbs,
    inverse_precision: Tensor,
    offset: float = 1.0,
    compiled: bool = True,
) -> Tensor:
    """Compute the reverse KL to the proxy Dirichlet divided by its precision, Eq. 17.

    The reconstruction term is an upper bound on the cross-entropy to the ensemble mean; the
    prior is weighted by exactly ``inverse_precision``. Finite for one-hot means and
    ``inverse_precision = 0`` and for logits of any finite size.

    Args:
        logits: student logits ``z``, ``[..., K]``.
        mean_probs: ensemble mean π̂, ``[..., K]`` or :class:`TopKProbs`; a constant.
        inverse_precision: λ = 1/β̂₀ ≥ 0, ``[...]``; a constant
            (:attr:`EnsembleStatistics.inverse_precision`).
        offset: δ > 0, added to the student's and the proxy's concentrations.
        compiled: compile loss and gradient with ``torch.compile`` at the first call that asks for
            a gradient, if a compiler works and ``FAIRSEQ_PDD_COMPILE`` is not 0. Eager mode gives
            the same values up to rounding and is some twenty times slower.

    Returns:
        One value in nats for each row, ``[...]``. Its lower bound is not 0, because of the
        differential entropy.

    Raises:
        ValueError: shapes do not match or ``offset`` is not positive.
    """
    check_logits(logits)
    check_mean_probs(mean_probs, logits)
    check_per_row("inverse_precision", inverse_precision, logits)
    check_offset(offset)
    rows = _reverse_kl_top_k_rows if isinstance(mean_probs, TopKProbs) else _reverse_kl_rows
    needs_grad = logits.requires_grad and torch.is_grad_enabled()
    compiled = compiled and needs_grad and _compile.is_enabled(logits)
    kernel = partial(rows, offset=float(offset), compiled=compiled)
    return rowwise_loss(kernel, logits, inverse_precision, *as_tensors(mean_probs))


def _reverse_kl_rows(
    z: Tensor, lam: Tensor, mean: Tensor, grad: Optional[Tensor], offset: float, compiled: bool
) -> Tensor:
    totals = _totals(z, offset=offset, compiled=compiled)
    return _classes(z, mean, lam, grad, *totals, offset=offset, compiled=compiled)


def _reverse_kl_top_k_rows(
    z: Tensor,
    lam: Tensor,
    probs: Tensor,
    classes: Tensor,
    rest: Tensor,
    grad: Optional[Tensor],
    offset: float,
    compiled: bool,
) -> Tensor:
    """Compute the loss with equal probabilities for all classes, then correct it for the listed
    ones: the loss is linear in π̂, and the gradient of a class depends on its own π̂ alone. Only
    the gradient has K entries per row.
    """
    totals = _totals(z, offset=offset, compiled=compiled)
    each = TopKProbs(probs, classes, rest).each(z.shape[-1]).unsqueeze(-1)
    loss = _classes(z, each, lam, grad, *totals, offset=offset, compiled=compiled)
    listed = z.gather(-1, classes)
    listed_grad = None if grad is None else grad.new_empty(listed.shape)
    loss = loss + _listed(
        listed, probs, each, lam, listed_grad, *totals, offset=offset, compiled=compiled
    )
    if grad is not None and listed_grad is not None:
        grad.scatter_(-1, classes, listed_grad)
    return loss


class _Totals(NamedTuple):
    """Values of a row that its classes share, each ``[N, 1]``."""

    top: Tensor
    """Largest logit."""
    share: Tensor
    """Largest probability p."""
    remainder: Tensor
    """1 - p for one class of the largest logit, exact however small."""
    dominant: Tensor
    """Logit of the class that has most of a large S; infinite where there is none."""
    reference: Tensor
    """Reference that is subtracted from logarithms."""
    digamma0: Tensor
    """ψ(α₀), relative."""
    prior0: Tensor
    """h(α₀) + (K - 1)ψ(α₀)."""
    q0: Tensor
    c0: Tensor
    sc0: Tensor
    """S·c₀."""


@RowFunction
def _totals(z: Tensor, offset: float) -> _Totals:
    k, z = z.shape[-1], z.to(compute_dtype(z))
    top, others = top_and_others(z)
    share = 1 / (1 + others)
    total = top.exp() * (1 + others)

    # Logarithms relative to a common reference and by log1p, so that ψ(α₀) - ψ(α_k) keeps its
    # relative accuracy when one class has nearly everything.
    reference = top.clamp(min=0)
    alpha0 = shift(total + offset * k)
    rest = torch.where(top > 0, others, total - 1) + (offset * k) * (-reference).exp()
    log_y0 = torch.where(alpha0.is_small, alpha0.y.log() - reference, rest.log1p())
    digamma0 = log_y0 + digamma_series(alpha0)
    ratio = trigamma_ratio(total, offset * k)
    dominates = (others < 1) & (ratio.complement < 0.5)
    return _Totals(
        top=top,
        share=share,
        remainder=others * share,
        dominant=torch.where(dominates, top, torch.full_like(top, math.inf)),
        reference=reference,
        digamma0=digamma0,
        prior0=entropy_term(alpha0, log_y0 + reference) + (k - 1) * (digamma0 + reference),
        q0=ratio.ratio,
        c0=ratio.complement,
        sc0=ratio.scaled_complement,
    )


@RowFunction
def _classes(
    z: Tensor,
    mean: Tensor,
    lam: Tensor,
    grad: Optional[Tensor],
    *totals: Tensor,
    offset: float,
) -> Tensor:
    """Return the loss ``[N]`` and write the gradient to ``grad`` in the same pass over classes.

    ``mean`` is ``[N, K]``, or ``[N, 1]`` for equal classes.
    """
    rows, z = _Totals(*totals), z.to(compute_dtype(z))
    lam = lam.unsqueeze(-1)
    each = _Classes.of(z, rows, offset)
    weight = mean if offset == 1.0 else mean + lam * (offset - 1.0)
    # one sum of all terms that depend on a class, so that a compiler needs one loop
    of_classes = weight * each.gap - lam * each.entropy_term
    if grad is not None:
        grad.copy_(_gradient(z, each.e, mean, lam, rows, offset))
    return (of_classes.sum(dim=-1, keepdim=True) + lam * rows.prior0).squeeze(-1)


@RowFunction
def _listed(
    z: Tensor,
    probs: Tensor,
    counted: Tensor,
    lam: Tensor,
    grad: Optional[Tensor],
    *totals: Tensor,
    offset: float,
) -> Tensor:
    """Return the correction ``[N]`` of a loss that counted some classes ``[N, k]`` with the
    probability ``counted`` ``[N, 1]`` instead of ``probs``; write their gradient to ``grad``.
    """
    rows, z = _Totals(*totals), z.to(compute_dtype(z))
    each = _Classes.of(z, rows, offset)
    if grad is not None:
        grad.copy_(_gradient(z, each.e, probs, lam.unsqueeze(-1), rows, offset))
    return ((probs - counted) * each.gap).sum(dim=-1)


class _Classes(NamedTuple):
    """Terms of the loss for each class, ``[N, K]``."""

    e: Tensor
    gap: Tensor
    """ψ(α₀) - ψ(α_k) ≥ 0."""
    entropy_term: Tensor
    """h(α_k)."""

    @classmethod
    def of(cls, z: Tensor, rows: _Totals, offset: float) -> "_Classes":
        e = z.exp()
        alpha = shift(e + offset)
        major, minor = log_shifted(alpha, e, z, offset)
        log_y = (major - rows.reference) + minor
        return cls(
            e=e,
            gap=rows.digamma0 - (log_y + digamma_series(alpha)),
            entropy_term=entropy_term(alpha, log_y + rows.reference),
        )


def _gradient(
    z: Tensor, e: Tensor, mean: Tensor, lam: Tensor, rows: _Totals, offset: float
) -> Tensor:
    p = (z - rows.top).exp() * rows.share
    q, c, ec = trigamma_ratio(e, offset)
    # a dominant class without the rounding of 1 - (1 - tiny)
    of_mean = torch.where(
        z == rows.dominant,
        (1 - mean) - rows.remainder - p * rows.c0 + mean * c,
        p * rows.q0 - mean * q,
    )
    # the same difference in the complements where those are small, else in the ratios
    of_prior = torch.where(c < 0.5, p * rows.sc0 - ec, e * (q - rows.q0))
    return of_mean + lam * of_prior
