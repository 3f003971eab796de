"""Packages that parts of fairseq_pdd need, their extras, and the check that they are installed.

setup.py runs this file without the package, so no import of ours is at its top. It has to run with
versions of Python that are refused.
"""

import re
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Dict, Iterable, List, Optional, Tuple

OLDEST_TORCH = (2, 6)
"""The first whose ``torch.load`` is safe by default, which fairseq relies on."""

EXTRAS: Dict[str, Dict[str, str]] = {
    "assess": {
        "jiwer": "jiwer>=4",
        "matplotlib": "matplotlib",
        "sklearn": "scikit-learn",
        "tabulate": "tabulate",
    },
    "speech": {
        "editdistance": "editdistance",
        "soundfile": "soundfile",
        "torchaudio": "torchaudio",
    },
}
"""Requirements of each extra, as pip takes them, by the name of the module."""

EXTRAS["report"] = EXTRAS["assess"]
EXTRAS["images"] = {**EXTRAS["assess"], "torchvision": "torchvision"}
EXTRAS["all"] = {**EXTRAS["speech"], **EXTRAS["images"]}

BASE = ("fairseq", "torch", "numpy", "orjson", "scipy", "tqdm")
"""Modules without which no task can be registered."""


def require_extra(extra: str, user: str) -> None:
    """Require the packages of an extra.

    Args:
        extra: key of :data:`EXTRAS`.
        user: name of the command or module that needs it, for the message.

    Raises:
        MissingRequirement: a package is not installed.
    """
    missing = missing_packages(extra)
    if missing:
        _refuse(_not_installed(missing, user, extra))


def missing_packages(extra: str) -> List[str]:
    """Return the names of an extra's packages that are not installed."""
    return [_name(EXTRAS[extra][module]) for module in _missing(EXTRAS[extra])]


def require_base() -> None:
    """Require what fairseq's commands need to use this package; imports PyTorch.

    Raises:
        MissingRequirement: a package is not installed, or PyTorch is too old.
    """
    missing = _missing(BASE)
    if missing:
        _refuse(_not_installed(missing, "fairseq_pdd"))
    found = str(import_module("torch").__version__)
    if tuple(int(part) for part in found.split(".")[:2]) < OLDEST_TORCH:
        oldest = ".".join(map(str, OLDEST_TORCH))
        _refuse(
            f"PyTorch {found} is installed; fairseq_pdd needs {oldest} or later: "
            f'pip install "torch>={oldest}"'
        )


def refuse_python(oldest: Tuple[int, int]) -> None:
    """Raise :class:`MissingRequirement`, as this version of Python is older than ``oldest``."""
    _refuse(
        f"this is Python {sys.version_info[0]}.{sys.version_info[1]} ({sys.executable}); "
        f"fairseq_pdd needs {oldest[0]}.{oldest[1]} or later: install fairseq and fairseq_pdd there"
    )


def describe_missing(error: Optional[BaseException]) -> Optional[str]:
    """Return the line for an exception because of a package of an extra that is not installed.

    Args:
        error: exception that would end a command. fairseq replaces some imports' errors by its
            own, so the errors before it are considered, too.

    Returns:
        The message, or None if there is another cause.
    """
    while error is not None:
        if isinstance(error, ModuleNotFoundError):
            module = str(error.name).partition(".")[0]
            for extra, requirements in EXTRAS.items():
                if module in requirements and _missing([module]):
                    return _not_installed([_name(requirements[module])], "this command", extra)
        error = error.__cause__ or error.__context__
    return None


def _refuse(message: str) -> None:
    from .errors import (
        MissingRequirement,
        is_fairseq_command,
        show_usage_errors_in_one_line,
    )

    if is_fairseq_command():  # the tasks, which do this otherwise, are not imported yet
        show_usage_errors_in_one_line()
    raise MissingRequirement(message)


def _not_installed(packages: List[str], user: str, extra: str = "") -> str:
    names = " and ".join([*([", ".join(packages[:-1])] if packages[1:] else []), packages[-1]])
    are, them = ("are", "them") if packages[1:] else ("is", "it")
    return f"{names} {are} not installed; {user} needs {them}: pip install {_target(extra)}"


def _target(extra: str) -> str:
    """Return the argument of pip that installs this package with an extra, quoted."""
    clone = Path(__file__).resolve().parents[1]
    # A clone that is given as --user-dir need not be installed. In this case pip knows no
    # fairseq_pdd whose extra it could install.
    target = str(clone) if (clone / "setup.py").is_file() else "fairseq_pdd"
    return f'"{target}[{extra}]"' if extra else f'"{target}"'


def _name(requirement: str) -> str:
    """Return the name of the package in a requirement."""
    return re.split(r"[^\w.-]", requirement)[0]


def _missing(modules: Iterable[str]) -> List[str]:
    return [module for module in modules if not _is_installed(module)]


def _is_installed(module: str) -> bool:
    """Return True if a module can be found; it is not imported."""
    if module in sys.modules:  # None makes its import fail
        return sys.modules[module] is not None
    try:
        return find_spec(module) is not None
    except ImportError:
        return False
