"""Functions of rows, and the one autograd function behind the losses.

A loss of this package maps the logits of some positions and their teacher targets to one value
per position and, in the same pass, to the gradient. Such a *row kernel* consists of functions of
rows, which are evaluated chunk by chunk, so working memory does not grow with the batch. Only the
finished gradient is stored for the backward pass.
"""

import functools
from typing import Any, Callable, Iterator, Optional, Tuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import _compile

# (logits [N, K], *targets [N, ...], grad) -> loss [N]; the gradient is written to ``grad``
# [N, K] unless that is None
RowKernel = Callable[..., Tensor]

# Elements of a chunk: on a CPU as many per thread as stay in its cache, elsewhere enough to fill
# the device.
_CHUNK_ELEMENTS = {"cpu": 1 << 17}
_CHUNK_ELEMENTS_DEFAULT = 1 << 24


class RowFunction:
    """A function of the rows of its tensors, applied to any number of rows.

    The wrapped function maps tensors ``[n, ...]`` (or None) to a tensor ``[n, ...]`` or a tuple
    of them and may write to its arguments; keyword arguments are constants. It receives float32
    (float64 if the first tensor is) for any floating input, and no gradient is recorded. In eager
    mode it is called chunk by chunk. Compiled it is called once, since a compiled function has
    hardly any temporaries.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._compiled = _compile.Compiled(function)

    @torch.no_grad()
    def __call__(
        self, first: Tensor, *others: Optional[Tensor], compiled: bool = False, **constants: Any
    ) -> Any:
        """Apply the function to all rows.

        Args:
            first: ``[N, K]``.
            others: ``[N, ...]`` each, or None.
            compiled: compile the function instead of running it in eager mode.
            constants: keyword arguments of the function.
        """
        dtype = compute_dtype(first)
        with torch.autocast(first.device.type, enabled=False):
            if compiled:
                result = self._compiled(first, *others, **constants)
                if result is not None:
                    return result
            parts = []
            for rows in row_chunks(first):
                chunk = [_rows_of(arg, rows, dtype) for arg in (first, *others)]
                parts.append(self._function(*chunk, **constants))
        if len(parts) == 1:
            return parts[0]
        if isinstance(parts[0], tuple):
            return tuple(torch.cat(results) for results in zip(*parts))
        return torch.cat(parts)


def _rows_of(tensor: Optional[Tensor], rows: slice, dtype: torch.dtype) -> Optional[Tensor]:
    if tensor is None:
        return None
    part = tensor.detach()[rows]
    return part.to(dtype) if part.is_floating_point() else part


class _RowwiseLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kernel: RowKernel, logits: Tensor, *targets: Tensor) -> Tensor:
        grad = None
        if ctx.needs_input_grad[1]:
            # float32 also for float16 logits: before loss scaling its tail would underflow
            dtype = compute_dtype(logits)
            grad = torch.empty(logits.shape, dtype=dtype, device=logits.device)
            ctx.save_for_backward(grad)
            ctx.logits_dtype = logits.dtype
        return kernel(logits, *targets, grad)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor) -> Tuple[Optional[Tensor], ...]:
        (grad,) = ctx.saved_tensors
        scale = grad_loss.unsqueeze(-1)
        # In place unless the gradient may be asked for again: on a CPU new memory costs about a
        # third of the loss (benchmarks/RESULTS.md).
        scaled = grad * scale if _is_graph_kept() else grad.mul_(scale)
        return (None, scaled.to(ctx.logits_dtype)) + (None,) * (len(ctx.needs_input_grad) - 2)


# The argument retain_graph of the running backward. PyTorch has no public function for it; a
# version without this one gets the gradient in new memory.
_is_graph_kept: Callable[[], bool] = getattr(
    torch._C._autograd, "_get_current_graph_task_keep_graph", lambda: True
)


def row_chunks(matrix: Tensor) -> Iterator[slice]:
    """Yield slices of the rows of ``[N, K]`` that bound the working memory of a pass.

    There is at least one; it is empty if there are no rows.
    """
    n, k = matrix.shape
    elements = _CHUNK_ELEMENTS.get(matrix.device.type, _CHUNK_ELEMENTS_DEFAULT)
    if matrix.device.type == "cpu":
        elements *= torch.get_num_threads()
    rows = max(1, elements // k)
    for start in range(0, max(n, 1), rows):
        yield slice(start, start + rows)


def compute_dtype(logits: Tensor) -> torch.dtype:
    """Return float64 for float64 input, else float32."""
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def rowwise_loss(kernel: RowKernel, logits: Tensor, *targets: Tensor) -> Tensor:
    """Apply ``kernel`` to every row.

    Args:
        kernel: the row kernel.
        logits: ``[..., K]``, any floating type; the gradient goes to these alone.
        targets: constants of shape ``[..., K]``, ``[..., k]`` or ``[...]``.

    Returns:
        ``[...]``, float32 (float64 for float64 logits).
    """
    lead, k = logits.shape[:-1], logits.shape[-1]
    flat = [t.detach().flatten(0, len(lead) - 1) if lead else t.detach()[None] for t in targets]
    loss: Tensor = _RowwiseLoss.apply(kernel, logits.reshape(-1, k), *flat)
    return loss.reshape(lead)
