"""Compilation of the loss with ``torch.compile``.

Eager mode needs some hundred passes over memory for the Dirichlet loss; one compiled kernel takes
about as long as a cross-entropy. Compilation happens at the first call and takes a minute or less
where PyTorch has not compiled the same function before on this machine (PyTorch keeps its results
across processes). It needs a C++ compiler on the CPU and Triton on a GPU. Where it fails, one
warning is logged and eager mode gives the same values up to rounding.

The environment variable ``FAIRSEQ_PDD_COMPILE=0`` switches compilation off.
"""

import logging
import os
import time
from typing import Any, Callable, Dict, Optional

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
        function: maps tensors ``[n, ...]`` to a tensor or a tuple of tensors.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._compiled: Optional[Callable[..., Any]] = None

    def __call__(self, *args: Optional[Tensor], **constants: Any) -> Any:
        """Return the result of the function; in eager mode if compilation fails."""
        # A compiler specialises on sizes of 1.
        if _State.failed or args[0] is None or min(args[0].shape) < 2:
            return self._function(*args, **constants)
        is_first, start = self._compiled is None, time.perf_counter()
        name = self._function.__name__.strip("_")
        try:
            if self._compiled is None:
                logger.info(f"compiling {name} of the loss; {SWITCH}=0 switches this off")
                self._compiled = torch.compile(
                    self._function, fullgraph=True, dynamic=True, options=_OPTIONS
                )
            result = self._compiled(
                *(None if arg is None else arg.contiguous() for arg in args), **constants
            )
        except Exception as error:  # whatever a compiler, or the lack of one, can raise
            _State.failed = True
            logger.warning(
                f"the loss will be slower, since compiling {name} failed: {_first_line(error)}"
            )
            return self._function(*args, **constants)
        if is_first:
            logger.info(f"compiled {name} in {time.perf_counter() - start:.1f} s")
        return result


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0]
