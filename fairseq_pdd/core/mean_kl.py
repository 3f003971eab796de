r"""EnD / SEnD: KL-divergence to the ensemble mean (Eq. 6; Cat-KL of Eq. 14)."""

from typing import Optional

import torch
from torch import Tensor

from ._checks import check_logits
from ._rowwise import RowFunction, rowwise_loss
from .topk import MeanProbs, as_dense, as_tensors, check_mean_probs


def mean_kl(logits: Tensor, mean_probs: MeanProbs) -> Tensor:
    """Compute the KL-divergence of the student's prediction from the ensemble mean.

    Args:
        logits: student logits ``z``, ``[..., K]``.
        mean_probs: ensemble mean π̂, ``[..., K]`` or :class:`TopKProbs`; a constant.

    Returns:
        ``KL(π̂ ‖ softmax(z))`` in nats for each row, ``[...]``.

    Raises:
        ValueError: shapes do not match.
    """
    check_logits(logits)
    check_mean_probs(mean_probs, logits)
    return rowwise_loss(_mean_kl_rows, logits, *as_tensors(mean_probs))


@RowFunction
def _mean_kl_rows(z: Tensor, *mean_and_grad: Optional[Tensor]) -> Tensor:
    *tensors, grad = mean_and_grad
    mean = as_dense(tensors, z.shape[-1])
    log_p = torch.log_softmax(z, dim=-1)
    gap = torch.where(mean > 0, mean.log() - log_p, torch.zeros_like(z))
    loss = (mean * gap).sum(-1)
    if grad is not None:
        grad.copy_(log_p.exp() * mean.sum(-1, keepdim=True) - mean)
    return loss
