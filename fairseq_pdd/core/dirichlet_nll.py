r"""EnD² / SEnD²: Dirichlet negative log-likelihood of the members (Eq. 8, Dir-NLL of Eq. 14).

With :math:`g = \frac1M \sum_m \ln \pi^{(m)}`,

.. math::
    L = \sum_k \ln\Gamma(\alpha_k) - \ln\Gamma(\alpha_0) - \sum_k (\alpha_k - 1) g_k, \qquad
    \partial L/\partial z_k = e_k\,\{\psi(\alpha_k) - \psi(\alpha_0) - g_k\}.
"""

from functools import partial
from typing import Optional

import torch
from torch import Tensor

from ._checks import check_logits, check_offset, check_per_class
from ._rowwise import RowFunction, rowwise_loss


def dirichlet_nll(logits: Tensor, mean_log_probs: Tensor, offset: float = 1.0) -> Tensor:
    """Compute the negative log-likelihood of the members' distributions under the student's
    Dirichlet.

    The members' mean log-probability is a sufficient statistic.

    Args:
        logits: student logits ``z``, ``[..., K]``.
        mean_log_probs: mean member log-probability g, ``[..., K]``, at most 0; a constant.
        offset: δ > 0, added to the student's concentrations.

    Returns:
        The negative log-density in nats, averaged over members, for each row, ``[...]``. It can be
        negative. It is computed in float64, since terms of the size of ``α₀ ln α₀`` cancel.

    Raises:
        ValueError: shapes do not match or ``offset`` is not positive.
    """
    check_logits(logits)
    check_per_class("mean_log_probs", mean_log_probs, logits)
    check_offset(offset)
    return rowwise_loss(partial(_dirichlet_nll_rows, offset=float(offset)), logits, mean_log_probs)


@RowFunction
def _dirichlet_nll_rows(
    z: Tensor, mean_log: Tensor, grad: Optional[Tensor], offset: float
) -> Tensor:
    dtype = z.dtype
    z, mean_log = z.double(), mean_log.double()
    e = z.exp()
    alpha, alpha0 = e + offset, e.sum(-1) + offset * z.shape[-1]
    exponent = e + (offset - 1.0)
    # a class of density exponent 0 contributes 0, even if its mean log-probability is -infinity
    evidence = torch.where(exponent == 0, torch.zeros_like(exponent), exponent * mean_log)
    loss = (torch.lgamma(alpha) - evidence).sum(-1) - torch.lgamma(alpha0)
    if grad is None:
        return loss.to(dtype)
    gap = torch.digamma(alpha) - torch.digamma(alpha0).unsqueeze(-1) - mean_log
    grad.copy_(torch.where(e == 0, torch.zeros_like(e), e * gap))
    return loss.to(dtype)
