"""Kernels for the CPU that are compiled once on a machine and kept on disk.

To import the compiler and compile a function takes longer than many runs of fairseq-generate last;
to load a finished kernel needs no compiler. So the first run that works long enough compiles
(AOTInductor) and keeps the kernel for those after it.

The folder is ``$XDG_CACHE_HOME/fairseq_pdd/kernels``, by default below ``~/.cache``, and can be
deleted at any time. A kernel's name holds what it is good for: this code, PyTorch, the processor.
As whoever can write to the folder can have code run, it must be the user's own.
"""

import functools
import hashlib
import logging
import os
import platform
import stat
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

# A kernel of any number of rows and classes; the compiler plans for the sizes of an example.
_EXAMPLE_ROWS, _EXAMPLE_CLASSES = 256, 8192
_OF_PROCESSOR = ("model name", "flags", "Features", "CPU implementer", "CPU part")


class Variant(NamedTuple):
    """What a function is compiled for, apart from its numbers of rows and classes."""

    layout: Tuple[Optional[str], ...]
    """Of each argument ``"N"``, ``"N1"`` or ``"NK"``, its shape, or None for no tensor."""
    constants: Tuple[Tuple[str, Any], ...]
    """Names and values of the keyword arguments."""

    @classmethod
    def of(
        cls, first: Tensor, others: Sequence[Optional[Tensor]], constants: Dict[str, Any]
    ) -> Optional["Variant"]:
        """The variant for these arguments, of which the first one is ``[N, K]``.

        None where there can be none: a compiler takes a single row or class for a constant.
        """
        if min(first.shape) < 2:
            return None
        n, k = first.shape
        names: Dict[Tuple[int, ...], str] = {(n,): "N", (n, 1): "N1", (n, k): "NK"}
        layout = tuple(arg if arg is None else names[tuple(arg.shape)] for arg in (first, *others))
        return cls(layout, tuple(sorted(constants.items())))


class Kernel:
    """A compiled function from a file, for contiguous float32 tensors on the CPU."""

    def __init__(self, path: Path) -> None:
        # the loader of torch._inductor would import the compiler
        self._runner = torch._C._aoti.AOTIModelContainerRunnerCpu(str(path), 1)

    def __call__(self, *args: Optional[Tensor]) -> Any:
        """Results of the function: a tensor or a tuple."""
        results = self._runner.run([arg for arg in args if arg is not None])
        return results[0] if len(results) == 1 else tuple(results)


def load(function: Callable[..., Any], variant: Variant) -> Optional[Kernel]:
    """The kernel that was kept, if there is one."""
    path = _path(function, variant)
    if not path.exists():
        return None
    try:
        _check_private(path.parent)
        return Kernel(path)
    except (OSError, RuntimeError) as error:
        logger.warning(f"a kernel is not used: {path}: {first_line(error)}")
        return None


def build(function: Callable[..., Any], variant: Variant, options: Dict[str, Any]) -> Kernel:
    """Compile the kernel and keep it, where that is possible.

    Raises:
        Exception: whatever a compiler, or the lack of one, can raise.
    """
    path = _path(function, variant)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_private(path.parent)
        place: Optional[Path] = path.parent
    except OSError as error:
        logger.warning(f"the next run will compile again: {first_line(error)}")
        place = None
    with tempfile.TemporaryDirectory(dir=place) as temporary:
        compiled = Path(temporary) / path.name
        own = {
            "aot_inductor.output_path": str(compiled),
            # of what calls the loops, and not of these: less to wait for
            "aot_inductor.compile_wrapper_opt_level": "O0",
        }
        _compile(function, variant, options={**options, **own})
        kernel = Kernel(compiled)
        if place is not None:
            # one that loads, and all of it at once: others may be looking for it
            compiled.replace(path)
        return kernel


def _compile(function: Callable[..., Any], variant: Variant, options: Dict[str, Any]) -> None:
    n, k = _EXAMPLE_ROWS, _EXAMPLE_CLASSES
    sizes = {"N": (n,), "N1": (n, 1), "NK": (n, k)}
    rows, classes = torch.export.Dim("rows", min=2), torch.export.Dim("classes", min=2)
    names = {"N": {0: rows}, "N1": {0: rows}, "NK": {0: rows, 1: classes}}
    present = [kind for kind in variant.layout if kind is not None]
    example = tuple(torch.empty(sizes[kind]) for kind in present)
    with torch.no_grad():
        program = torch.export.export(
            _Module(function, variant),
            example,
            dynamic_shapes=(tuple(names[kind] for kind in present),),
        )
        torch._inductor.aot_compile(program.module(), example, options=options)


class _Module(torch.nn.Module):
    """The function of the tensors that there are."""

    def __init__(self, function: Callable[..., Any], variant: Variant) -> None:
        super().__init__()
        self._function, self._variant = function, variant

    def forward(self, *present: Tensor) -> Any:
        tensors = iter(present)
        args = [None if kind is None else next(tensors) for kind in self._variant.layout]
        result = self._function(*args, **dict(self._variant.constants))
        # of a named tuple the compiler would ask for its registration
        return tuple(result) if isinstance(result, tuple) else result


def _path(function: Callable[..., Any], variant: Variant) -> Path:
    name = f"{function.__module__}.{function.__qualname__}"
    key = hashlib.sha256(repr((_environment(), name, variant)).encode()).hexdigest()[:16]
    return folder() / f"{function.__name__.strip('_')}-{key}.so"


def folder() -> Path:
    """Where kernels are kept."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")
    return Path(os.path.abspath(os.path.expanduser(cache)), "fairseq_pdd", "kernels")


@functools.lru_cache(maxsize=None)
def _environment() -> str:
    """What all kernels of this process depend on."""
    parts = [torch.__version__, platform.system(), platform.machine(), *platform.libc_ver()]
    try:
        # homes are shared by machines that differ
        with open("/proc/cpuinfo") as file:
            first, _, _ = file.read().partition("\n\n")
        parts += [line for line in first.splitlines() if line.startswith(_OF_PROCESSOR)]
    except OSError:
        pass
    sources = sorted(Path(__file__).parent.glob("*.py"))
    parts += [hashlib.sha256(source.read_bytes()).hexdigest() for source in sources]
    return "\n".join(parts)


def _check_private(place: Path) -> None:
    if os.name != "posix":
        return
    status = place.stat()
    if status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(
            f"{place} must belong to you and be writable for nobody else: code is run from it"
        )


def first_line(error: Exception) -> str:
    """What it says, without what compilers and linkers add."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
