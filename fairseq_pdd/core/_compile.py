"""Compilation of the loss with ``torch.compile``.

Eager mode needs some hundred passes over memory for the Dirichlet loss; one compiled kernel takes
about as long as a cross-entropy. Compilation happens at the first call and takes about a minute
where PyTorch has not compiled the same function before on this machine (PyTorch keeps its results
across processes). It needs a C++ compiler on the CPU and Triton on a GPU. Where it fails, one
warning is logged and eager mode gives the same values up to rounding.

The environment variable ``FAIRSEQ_PDD_COMPILE=0`` switches compilation off.
"""

import logging
import os
import time
from typing import Any, Callable, Dict, List, Optional, Sequence

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

SWITCH = "FAIRSEQ_PDD_COMPILE"

_OPTIONS: Dict[str, Any] = {
    # Use all threads even if the first batch is small.
    "cpp.dynamic_threads": True,
    # Recompute intermediates of the size of the logits: that is cheaper than to store them.
    "realize_opcount_threshold": 1 << 20,
    "realize_reads_threshold": 1 << 20,
    "realize_acc_reads_threshold": 1 << 20,
}


class _State:
    """State of this process."""

    failed = False


def is_enabled(logits: Tensor) -> bool:
    """Return True if functions of ``logits`` can be compiled and compilation has not failed."""
    if _State.failed or os.environ.get(SWITCH, "1") == "0":
        return False
    return logits.dtype != torch.float64 and logits.device.type in ("cpu", "cuda")


class Compiled:
    """A function of rows that is compiled at its first call, for any number of rows and classes.

    Args:
        function: maps tensors ``[n, ...]`` (or None) to a tensor or a tuple of tensors. The first
            one has the type of the logits, so that no float32 copy of these is made; the function
            converts it.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._name = function.__name__.strip("_")
        self._function = function
        self._compiled: Optional[Callable[..., Any]] = None

    def __call__(self, *args: Optional[Tensor], **constants: Any) -> Any:
        """Return the result of the function, or None if the arguments do not suit a compiler or
        compilation fails.
        """
        # A compiler specialises on sizes of 0 and 1.
        if _State.failed or args[0] is None or min(args[0].shape) < 2:
            return None
        is_first, start = self._compiled is None, time.perf_counter()
        try:
            if self._compiled is None:
                logger.info(f"compiling {self._name} of the loss; {SWITCH}=0 switches this off")
                self._compiled = torch.compile(
                    self._function, fullgraph=True, dynamic=True, options=_OPTIONS
                )
            result = self._compiled(*_prepare(args), **constants)
        except Exception as error:  # whatever a compiler, or the lack of one, can raise
            _State.failed = True
            logger.warning(
                f"the loss will be slower, since compiling {self._name} failed: "
                f"{_first_line(error)}"
            )
            return None
        if is_first:
            logger.info(f"compiled {self._name} in {time.perf_counter() - start:.1f} s")
        return result


def _prepare(args: Sequence[Optional[Tensor]]) -> List[Optional[Tensor]]:
    """Detach tensors and make them contiguous, all but the first one in float32."""
    first, *others = [None if arg is None else arg.detach().contiguous() for arg in args]
    return [
        first,
        *(arg.float() if arg is not None and arg.is_floating_point() else arg for arg in others),
    ]


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0]
