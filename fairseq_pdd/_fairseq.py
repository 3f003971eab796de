"""Import of fairseq that leaves logging alone and prints no warnings.

On import, one of fairseq's modules sets the root logger to DEBUG and others log hints about
packages that nothing here needs. Import this module before any other that imports fairseq. It
changes nothing if fairseq is imported already. It raises
:class:`~fairseq_pdd.errors.MissingRequirement` if a package is missing or PyTorch is too old.
"""

import importlib
import logging
import warnings
from contextlib import contextmanager
from typing import Iterator

from ._requirements import require_base

_WARNINGS = (
    "`torch.jit.script` is deprecated",
    "`torch.nn.utils.weight_norm` is deprecated",
    "Support for mismatched key_padding_mask",
)


@contextmanager
def without_warnings() -> Iterator[None]:
    """Ignore PyTorch's warnings about fairseq's code, which users cannot change."""
    with warnings.catch_warnings():
        for message in _WARNINGS:
            warnings.filterwarnings("ignore", message)
        yield


def _import_fairseq() -> None:
    root = logging.getLogger()
    is_configured = bool(root.handlers)
    # With a handler on the root logger, logging.basicConfig does nothing. This handler is the one
    # that Python uses without any configuration.
    handler = logging.lastResort or logging.NullHandler()
    if not is_configured:
        root.addHandler(handler)
    try:
        with without_warnings():
            importlib.import_module("fairseq.tasks")
    finally:
        if not is_configured:
            root.removeHandler(handler)


require_base()
_import_fairseq()
