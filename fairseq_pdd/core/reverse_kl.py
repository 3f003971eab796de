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

from functools import partial
from typing import Optional, Tuple

import torch
from torch import Tensor

from ._checks import check_logits, check_offset, check_per_class, check_per_row
from ._rowwise import rowwise_loss
from .special import digamma_minus_log, entropy_term, trigamma_ratio


def reverse_kl_proxy_dirichlet(
    logits: Tensor, mean_probs: Tensor, inverse_precision: Tensor, offset: float = 1.0
) -> Tensor:
    """Reverse KL to the proxy Dirichlet divided by its precision, Eq. 17.

    The reconstruction term is an upper bound on the cross-entropy to the ensemble mean; the
    prior is weighted by exactly ``inverse_precision``. Finite for one-hot means and
    ``inverse_precision = 0`` and for logits of any finite size.

    Args:
        logits: student logits ``z``, ``[..., K]``.
        mean_probs: ensemble mean π̂, ``[..., K]``; a constant.
        inverse_precision: λ = 1/β̂₀ ≥ 0, ``[...]``; a constant
            (:attr:`EnsembleStatistics.inverse_precision`).
        offset: δ > 0, added to the student's and the proxy's concentrations.

    Returns:
        One value in nats for each row, ``[...]``. The differential entropy makes it a loss
        without a fixed lower bound of 0.

    Raises:
        ValueError: shapes do not match or ``offset`` is not positive.
    """
    check_logits(logits)
    check_per_class("mean_probs", mean_probs, logits)
    check_per_row("inverse_precision", inverse_precision, logits)
    check_offset(offset)
    kernel = partial(_reverse_kl_rows, offset=float(offset))
    return rowwise_loss(kernel, logits, mean_probs, inverse_precision)


def _reverse_kl_rows(
    z: Tensor, mean: Tensor, lam: Tensor, want_grad: bool, offset: float
) -> Tuple[Tensor, Optional[Tensor]]:
    k = z.shape[-1]
    top, argmax = z.max(dim=-1, keepdim=True)
    e = z.exp()
    total = e.sum(dim=-1)
    alpha, alpha0 = e + offset, total + offset * k

    # ln α₀ and ln α_k relative to a common reference, so that their difference keeps its
    # relative accuracy when one class has nearly everything; the top class enters as log1p.
    reference = top.clamp(min=0)
    top_is_reference = top > 0
    others = (z - top).exp().scatter(-1, argmax, 0.0).sum(dim=-1, keepdim=True)
    rest = torch.where(top_is_reference, others, total.unsqueeze(-1))
    rest = rest + (offset * k) * (-reference).exp()
    log_alpha0 = torch.where(top_is_reference, rest.log1p(), rest.log()).squeeze(-1)
    log_alpha = torch.where(z > 0, (z - reference) + (offset * (-z).exp()).log1p(),
                            alpha.log() - reference)  # fmt: skip
    r, r0 = digamma_minus_log(alpha), digamma_minus_log(alpha0)

    # ψ(α₀) - ψ(α_k) ≥ 0
    gap = (log_alpha0 + r0).unsqueeze(-1) - (log_alpha + r)
    reference = reference.squeeze(-1)
    h0 = entropy_term(alpha0, log_alpha0 + reference)
    h = entropy_term(alpha, log_alpha + reference.unsqueeze(-1)).sum(dim=-1)
    prior = h0 + (k - 1) * (log_alpha0 + reference + r0) - h
    if offset != 1.0:
        prior = prior + (offset - 1.0) * gap.sum(dim=-1)
    loss = (mean * gap).sum(dim=-1) + lam * prior
    if not want_grad:
        return loss, None

    p = (z - top).exp() / (1 + others)
    difference = p - mean
    # the top class once more without the rounding of 1 - (1 - tiny)
    top_mean = mean.gather(-1, argmax)
    difference = difference.scatter(-1, argmax, (1 - top_mean) - others / (1 + others))
    q, c, ec = trigamma_ratio(e, offset)
    q0, c0, sc0 = trigamma_ratio(total.unsqueeze(-1), offset * k)
    lam = lam.unsqueeze(-1)
    # the same gradient in the complements where those are small, else in the ratios
    grad = torch.where(
        (c < 0.5) & (c0 < 0.5),
        difference - p * c0 + mean * c,
        p * q0 - mean * q,
    ) + lam * torch.where(c < 0.5, p * sc0 - ec, e * (q - q0))
    return loss, grad
