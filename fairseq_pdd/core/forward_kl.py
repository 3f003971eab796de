r"""Forward KL-divergence to the Proxy-Dirichlet (Eq. 14 with the proxy of Eq. 16), a baseline.

.. math::
    L = \mathrm{KL}[\mathrm{Dir}(\hat\beta + \delta) \| \mathrm{Dir}(\alpha)], \qquad
    \partial L/\partial z_k = e_k\,\{[\psi(\alpha_k) - \psi(\alpha_0)]
        - [\psi(\hat\beta_k + \delta) - \psi(\hat\beta_0 + \delta K)]\}.
"""

from functools import partial
from typing import Optional

import torch
from torch import Tensor

from ._checks import check_logits, check_offset, check_per_row
from ._rowwise import RowFunction, rowwise_loss
from .topk import MeanProbs, as_dense, as_tensors, check_mean_probs

DEFAULT_MAX_PRECISION = 1e8


def forward_kl_proxy_dirichlet(
    logits: Tensor,
    mean_probs: MeanProbs,
    inverse_precision: Tensor,
    offset: float = 1.0,
    max_precision: float = DEFAULT_MAX_PRECISION,
) -> Tensor:
    """Compute the forward KL-divergence from the proxy Dirichlet to the student's.

    Args:
        logits: student logits ``z``, ``[..., K]``.
        mean_probs: ensemble mean π̂, ``[..., K]`` or :class:`TopKProbs`; a constant.
        inverse_precision: λ = 1/β̂₀ ≥ 0, ``[...]``; a constant.
        offset: δ > 0, added to both Dirichlets' concentrations.
        max_precision: cap on β̂₀. Unlike the reverse KL, this divergence is infinite for
            members that agree (λ = 0), so λ is raised to ``1 / max_precision``.

    Returns:
        One divergence in nats for each row, ``[...]``. It is computed in float64, since terms of
        the size of ``β̂₀ ln β̂₀`` cancel.

    Raises:
        ValueError: shapes do not match, ``offset`` or ``max_precision`` is not positive.
    """
    check_logits(logits)
    check_mean_probs(mean_probs, logits)
    check_per_row("inverse_precision", inverse_precision, logits)
    check_offset(offset)
    if not max_precision > 0:
        raise ValueError(f"max_precision must be positive, not {max_precision}")
    kernel = partial(_forward_kl_rows, offset=float(offset), max_precision=float(max_precision))
    return rowwise_loss(kernel, logits, inverse_precision, *as_tensors(mean_probs))


@RowFunction
def _forward_kl_rows(
    z: Tensor,
    lam: Tensor,
    *mean_and_grad: Optional[Tensor],
    offset: float,
    max_precision: float,
) -> Tensor:
    *tensors, grad = mean_and_grad
    dtype = z.dtype
    z, mean, lam = z.double(), as_dense(tensors, z.shape[-1]).double(), lam.double()
    k = z.shape[-1]
    e = z.exp()
    alpha, alpha0 = e + offset, e.sum(-1) + offset * k
    precision = lam.clamp(min=1.0 / max_precision).reciprocal()
    beta = precision.unsqueeze(-1) * mean + offset
    beta0 = precision * mean.sum(-1) + offset * k
    digamma_gap = torch.digamma(beta) - torch.digamma(beta0).unsqueeze(-1)
    loss = torch.lgamma(beta0) - torch.lgamma(alpha0)
    loss = loss + (torch.lgamma(alpha) - torch.lgamma(beta) + (beta - alpha) * digamma_gap).sum(-1)
    if grad is None:
        return loss.to(dtype)
    grad.copy_(e * (torch.digamma(alpha) - torch.digamma(alpha0).unsqueeze(-1) - digamma_gap))
    return loss.to(dtype)
