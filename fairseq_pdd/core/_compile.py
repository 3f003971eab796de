"""Compiling functions of rows with Inductor, where that pays and works.

Eager mode needs some hundred passes over memory for the Dirichlet loss; one fused kernel takes
about as long as a cross-entropy. But compiling takes a while, so it begins only after
``MIN_ELEMENTS`` logits were seen (for measures, more), and it needs a C++ compiler on the CPU
(Triton on a GPU). Where it fails, one line of the log says so and everything goes on in eager
mode, with the same values. The environment variable ``FAIRSEQ_PDD_COMPILE=0`` switches it off.

Nothing global is touched: options go to the compiled functions alone.
"""

import logging
import os
import time
from typing import Any, Callable, Dict, Hashable, Optional, Sequence, Set

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

SWITCH = "FAIRSEQ_PDD_COMPILE"
MIN_ELEMENTS = 1 << 26
# Of measures and statistics eager mode takes two or three times as long, of the loss ten times.
PATIENCE_FOR_MEASURES = 32

_OPTIONS: Dict[str, Any] = {
    # use all threads, even if the batch that it is compiled for is a small one
    "cpp.dynamic_threads": True,
    # keep no intermediate of the size of the logits: computing it twice is cheaper than memory
    "realize_opcount_threshold": 1 << 20,
    "realize_reads_threshold": 1 << 20,
    "realize_acc_reads_threshold": 1 << 20,
}


class _State:
    """Of this process."""

    elements_seen = 0
    announced = False
    failed = False


def is_worthwhile(logits: Tensor, patience: int = 1) -> bool:
    """Count ``logits`` as work and tell whether to compile for it."""
    if _State.failed or os.environ.get(SWITCH, "1") == "0":
        return False
    if logits.dtype == torch.float64 or logits.device.type not in ("cpu", "cuda"):
        return False
    _State.elements_seen += logits.numel()
    return _State.elements_seen >= MIN_ELEMENTS * patience


class Compiled:
    """``function`` compiled for any number of rows and classes; itself where that fails.

    Its tensors have rows first; the results are those of ``function``.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self._compiled: Optional[Callable[..., Any]] = None
        self._variants: Set[Hashable] = set()

    def __call__(self, *args: Optional[Tensor], **constants: Any) -> Any:
        # no or a single row: the compiler takes sizes of 0 and 1 for constants
        if _State.failed or args[0] is None or args[0].shape[0] < 2:
            return self.function(*args, **constants)
        variant = (args[0].device, *(arg is None for arg in args), *constants.items())
        is_new = variant not in self._variants
        if is_new and not _State.announced:
            _State.announced = True
            logger.info(f"compiling the kernels of the loss; {SWITCH}=0 switches this off")
        start = time.perf_counter()
        try:
            result = self._run(args, constants)
        except Exception as error:  # whatever a compiler, or the lack of one, can raise
            _State.failed = True
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            logger.warning(f"the loss will be slower, since compiling it failed: {reason}")
            return self.function(*args, **constants)
        if is_new:
            self._variants.add(variant)
            name = self.function.__name__.strip("_")
            logger.info(f"compiled {name} in {time.perf_counter() - start:.1f} s")
        return result

    def _run(self, args: Sequence[Optional[Tensor]], constants: Dict[str, Any]) -> Any:
        if self._compiled is None:
            self._compiled = torch.compile(self.function, fullgraph=True, options=_OPTIONS)
        args = [arg if arg is None else arg.contiguous() for arg in args]
        for arg in args:
            # one kernel for every batch shape and vocabulary
            for dim, size in enumerate(() if arg is None else arg.shape):
                if size > 1:
                    torch._dynamo.maybe_mark_dynamic(arg, dim)
        return self._compiled(*args, **constants)
