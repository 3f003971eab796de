"""The one autograd function behind the losses that have a closed-form gradient.

A loss of this package is a function of rows: it maps the logits of some positions and their
teacher targets to one value a position and, computed along with it, to the gradient. Such a
function (a *row kernel*) is evaluated here chunk by chunk, so working memory does not grow
with the batch, and the only thing kept for the backward is the finished gradient.
"""

from typing import Any, Callable, Iterator, Optional, Tuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# (logits [N, K], *targets [N, ...], want_grad) -> (loss [N], grad [N, K] or None)
RowKernel = Callable[..., Tuple[Tensor, Optional[Tensor]]]

# elements of a chunk: on a CPU what stays in its cache, elsewhere enough to fill the device
_CHUNK_ELEMENTS = {"cpu": 1 << 17}
_CHUNK_ELEMENTS_DEFAULT = 1 << 24


class _RowwiseLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kernel: RowKernel, logits: Tensor, *targets: Tensor) -> Tensor:
        want_grad = ctx.needs_input_grad[1]
        dtype = compute_dtype(logits)
        losses = logits.new_empty(logits.shape[0], dtype=dtype)
        # float32 also for float16 logits: before loss scaling the tail of it would underflow
        grads = torch.empty_like(logits, dtype=dtype) if want_grad else None
        for chunk in row_chunks(logits):
            loss, grad = kernel(
                logits[chunk].to(dtype), *(t[chunk].to(dtype) for t in targets), want_grad
            )
            losses[chunk] = loss
            if grads is not None and grad is not None:
                grads[chunk] = grad
        ctx.logits_dtype = logits.dtype
        if grads is not None:
            ctx.save_for_backward(grads)
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor) -> Tuple[Optional[Tensor], ...]:
        (grads,) = ctx.saved_tensors
        result = (grad_loss.unsqueeze(-1) * grads).to(ctx.logits_dtype)
        return (None, result) + (None,) * (len(ctx.needs_input_grad) - 2)


def row_chunks(matrix: Tensor) -> Iterator[slice]:
    """Slices of the rows of ``[N, K]`` that bound the working memory of a pass over them."""
    n, k = matrix.shape
    elements = _CHUNK_ELEMENTS.get(matrix.device.type, _CHUNK_ELEMENTS_DEFAULT)
    rows = max(1, elements // k)
    for start in range(0, n, rows):
        yield slice(start, start + rows)


def compute_dtype(logits: Tensor) -> torch.dtype:
    """float64 for float64 input, else float32."""
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def rowwise_loss(kernel: RowKernel, logits: Tensor, *targets: Tensor) -> Tensor:
    """Apply ``kernel`` to every row.

    Args:
        kernel: the row kernel; it is given float32 (or float64) chunks.
        logits: ``[..., K]``, any floating type; the gradient goes to these alone.
        targets: constants of shape ``[..., K]`` or ``[...]``.

    Returns:
        ``[...]``, float32 (float64 for float64 logits).
    """
    lead, k = logits.shape[:-1], logits.shape[-1]
    flat = [t.detach().reshape(-1, k) if t.dim() > len(lead) else t.detach().reshape(-1)
            for t in targets]  # fmt: skip
    with torch.autocast(logits.device.type, enabled=False):
        loss: Tensor = _RowwiseLoss.apply(kernel, logits.reshape(-1, k), *flat)
    return loss.reshape(lead)
