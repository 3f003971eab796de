"""Ensemble distribution distillation with Proxy-Dirichlet targets, as a fairseq plugin.

Importing this package imports nothing else. ``fairseq_pdd.core`` needs PyTorch only.
fairseq imports :mod:`fairseq_pdd.tasks` and :mod:`fairseq_pdd.models` by itself where it is given
``--user-dir fairseq_pdd``; they register the tasks and criterions. In Python,
``import fairseq_pdd.tasks`` does the same.
"""

import sys
from typing import TYPE_CHECKING, Any, List

from .version import OLDEST_PYTHON, __version__

if sys.version_info < OLDEST_PYTHON:  # pip refuses it, but not --user-dir
    from ._requirements import refuse_python

    refuse_python(OLDEST_PYTHON)

if TYPE_CHECKING:
    from .hub import Output, Translator, load

__all__ = ["Output", "Translator", "__version__", "load"]

_IN_HUB = ("Output", "Translator", "load")


def __getattr__(name: str) -> Any:
    """Import :mod:`fairseq_pdd.hub` when one of its names is used first (PEP 562)."""
    if name in _IN_HUB:
        from . import _fairseq, hub  # noqa: F401  (first: importing fairseq must not change logging)

        return getattr(hub, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> List[str]:
    return sorted({*globals(), *_IN_HUB})
