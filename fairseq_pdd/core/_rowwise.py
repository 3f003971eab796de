"""Functions of rows, and the one autograd function behind the losses.

A loss of this package maps the logits of some positions and their teacher targets to one value
a position and, computed along with it, to the gradient. Such a *row kernel* is made of
functions of rows, which are evaluated chunk by chunk, so working memory does not grow with the
batch; the only thing kept for the backward is the finished gradient.
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

# elements of a chunk: on a CPU, of each thread, what stays in its cache; elsewhere enough to fill
# the device
_CHUNK_ELEMENTS = {"cpu": 1 << 17}
_CHUNK_ELEMENTS_DEFAULT = 1 << 24
# a compiled function has hardly any temporaries, and every call its overhead
_COMPILED_CHUNK_ELEMENTS = 1 << 22


class RowFunction:
    """A function of the rows of its tensors, to be applied to any number of them.

    The wrapped function maps tensors ``[n, ...]`` (or None) to a tensor ``[n, ...]`` or a tuple
    of them and may write to its arguments; keyword arguments are constants. It is given float32
    (float64 if the first tensor is) for any floating input, and no gradient is recorded.
    """

    def __init__(
        self, function: Callable[..., Any], compilable: bool, patience: int, at_once: bool
    ) -> None:
        functools.update_wrapper(self, function)
        self._eager = function
        self._compiled = _compile.Compiled(function, patience, at_once) if compilable else None

    @torch.no_grad()
    def __call__(self, first: Tensor, *others: Optional[Tensor], **constants: Any) -> Any:
        """Apply the function to all rows; ``first`` is ``[N, K]``."""
        dtype = compute_dtype(first)
        kernel = self._compiled and self._compiled.kernel(first, *others, **constants)
        run = kernel or functools.partial(self._eager, **constants)
        elements = _COMPILED_CHUNK_ELEMENTS if kernel else None
        parts = []
        with torch.autocast(first.device.type, enabled=False):
            for rows in row_chunks(first, elements):
                chunk = [_rows_of(arg, rows, dtype) for arg in (first, *others)]
                parts.append(run(*chunk))
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


def row_function(
    compilable: bool = False, patience: int = 1, at_once: bool = False
) -> Callable[[Callable[..., Any]], RowFunction]:
    """Decorator for :class:`RowFunction`; it is compiled after ``patience`` times the work that
    is enough for the loss, and ``at_once`` is for what no training depends on
    (:class:`._compile.Compiled`).
    """
    return functools.partial(RowFunction, compilable=compilable, patience=patience, at_once=at_once)


class _RowwiseLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kernel: RowKernel, logits: Tensor, *targets: Tensor) -> Tensor:
        grad = None
        if ctx.needs_input_grad[1]:
            # float32 also for float16 logits: before loss scaling the tail of it would underflow
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
        # new memory would cost as much as the loss itself, so only where the gradient may be
        # asked for again
        scaled = grad * scale if _is_graph_kept() else grad.mul_(scale)
        result = scaled.to(ctx.logits_dtype)
        return (None, result) + (None,) * (len(ctx.needs_input_grad) - 2)


# of the running backward, retain_graph; older PyTorch does not tell
_is_graph_kept: Callable[[], bool] = getattr(
    torch._C._autograd, "_get_current_graph_task_keep_graph", lambda: True
)


def row_chunks(matrix: Tensor, elements: Optional[int] = None) -> Iterator[slice]:
    """Slices of the rows of ``[N, K]`` that bound the working memory of a pass over them.

    There is at least one, an empty one for no rows.
    """
    n, k = matrix.shape
    if elements is None:
        elements = _CHUNK_ELEMENTS.get(matrix.device.type, _CHUNK_ELEMENTS_DEFAULT)
        if matrix.device.type == "cpu":
            elements *= torch.get_num_threads()
            _keep_freed_memory()
    rows = max(1, elements // k)
    for start in range(0, max(n, 1), rows):
        yield slice(start, start + rows)


@functools.lru_cache(maxsize=None)
def _keep_freed_memory() -> None:
    """Free a large block, never used: glibc then takes blocks up to its size for ordinary ones,
    and keeps them for the next chunk. Without, to get memory anew takes longer than to compute.
    """
    torch.empty((1 << 23) - 1024, dtype=torch.float32)


def compute_dtype(logits: Tensor) -> torch.dtype:
    """float64 for float64 input, else float32."""
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
