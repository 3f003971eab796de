"""Compiling functions of rows with Inductor, where that pays and works.

Eager mode needs some hundred passes over memory for the Dirichlet loss; one fused kernel takes
about as long as a cross-entropy. But compiling takes a while, so it begins only after
``MIN_ELEMENTS`` logits were seen (for measures, more), and it needs a C++ compiler on the CPU
(Triton on a GPU). On the CPU it is done once on a machine: kernels are kept (:mod:`._kernels`), and
later runs load them. Where compiling fails, one line of the log says so and everything goes on in
eager mode, with the same values but for rounding. The environment variable
``FAIRSEQ_PDD_COMPILE=0`` switches all of it off.

What a training depends on changes to kernels after the same work in each run, whether they are
loaded or compiled: the same training gives the same digits again. What is only reported has its
kernels from the first call on, if they are there.

Nothing global is touched: options go to the compiled functions alone.
"""

import functools
import logging
import os
import time
from typing import Any, Callable, Dict, Optional, Sequence, Tuple

import torch
from torch import Tensor

from . import _kernels
from ._kernels import Variant, first_line

logger = logging.getLogger(__name__)

SWITCH = "FAIRSEQ_PDD_COMPILE"
MIN_ELEMENTS = 1 << 26
# Of the loss eager mode takes some twenty times as long, of measures less.
PATIENCE_FOR_MEASURES = 8

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


def is_possible(logits: Tensor) -> bool:
    """Whether a kernel for them is allowed, and none failed before."""
    if _State.failed or os.environ.get(SWITCH, "1") == "0":
        return False
    return logits.dtype != torch.float64 and logits.device.type in ("cpu", "cuda")


def is_worthwhile(logits: Tensor, patience: int = 1) -> bool:
    """Count ``logits`` as work and tell whether to compile for it."""
    _State.elements_seen += logits.numel()
    return _State.elements_seen >= MIN_ELEMENTS * patience


class Compiled:
    """Kernels of ``function``, each for any number of rows and classes.

    The function's first tensor is ``[N, K]``, the others are ``[N]``, ``[N, 1]`` or ``[N, K]``.

    Args:
        function: what is compiled.
        patience: for how many times ``MIN_ELEMENTS`` to wait.
        at_once: a kernel that was kept does not wait.
    """

    def __init__(self, function: Callable[..., Any], patience: int, at_once: bool) -> None:
        self.function = function
        self._patience, self._at_once = patience, at_once
        # None for one that was not compiled yet
        self._kernels: Dict[Tuple[str, Variant], Optional[Callable[..., Any]]] = {}

    def kernel(
        self, first: Tensor, *others: Optional[Tensor], **constants: Any
    ) -> Optional[Callable[..., Any]]:
        """What to call with any rows of these float32 tensors for the results of ``function``;
        None as long as the function itself is to be called.
        """
        if not is_possible(first):
            return None
        may_compile = is_worthwhile(first, self._patience)
        variant = Variant.of(first, others, constants)
        if variant is None or not (may_compile or self._at_once):
            return None
        key = first.device.type, variant
        # before compiling once more, as another process may have done it meanwhile
        if key not in self._kernels or (may_compile and self._kernels[key] is None):
            is_kept = first.device.type == "cpu"
            self._kernels[key] = _kernels.load(self.function, variant) if is_kept else None
        if self._kernels[key] is None and not may_compile:
            return None
        return functools.partial(self._run, key)

    def _run(self, key: Tuple[str, Variant], *args: Optional[Tensor]) -> Any:
        constants = dict(key[1].constants)
        # in an earlier chunk; or a single row, which a compiler takes for a constant
        if _State.failed or args[0] is None or args[0].shape[0] < 2:
            return self.function(*args, **constants)
        kernel, start = self._kernels[key], time.perf_counter()
        is_new = kernel is None
        try:
            if kernel is None:
                kernel = self._compile(*key)
            result = kernel(*(arg if arg is None else arg.contiguous() for arg in args))
        except Exception as error:  # whatever a compiler, or the lack of one, can raise
            _State.failed = True
            logger.warning(
                f"losses and measures will be slower, since compiling failed: {first_line(error)}"
            )
            return self.function(*args, **constants)
        if is_new:
            self._kernels[key] = kernel
            name = self.function.__name__.strip("_")
            logger.info(f"compiled {name} in {time.perf_counter() - start:.1f} s")
        return result

    def _compile(self, device: str, variant: Variant) -> Callable[..., Any]:
        if not _State.announced:
            _State.announced = True
            kept = f", which are kept in {_kernels.folder()}" if device == "cpu" else ""
            logger.info(f"compiling kernels{kept}; {SWITCH}=0 switches this off")
        if device == "cpu":
            try:
                return _kernels.build(self.function, variant, _OPTIONS)
            except Exception as error:  # such as that PyTorch is too old
                logger.info(f"{self.function.__name__} can't be kept: {first_line(error)}")
        compiled = torch.compile(self.function, fullgraph=True, options=_OPTIONS)

        def call(*args: Optional[Tensor]) -> Any:
            return compiled(*_of_any_size(args), **dict(variant.constants))

        return call


def _of_any_size(args: Sequence[Optional[Tensor]]) -> Sequence[Optional[Tensor]]:
    """Mark sizes as what may change: one kernel for every batch shape and vocabulary."""
    for arg in args:
        for dim, size in enumerate(() if arg is None else arg.shape):
            if size > 1:
                torch._dynamo.maybe_mark_dynamic(arg, dim)
    return args
