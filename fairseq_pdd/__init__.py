"""Ensemble distribution distillation with Proxy-Dirichlet targets, as a fairseq plugin.

``fairseq_pdd.core`` is plain PyTorch. Everything else extends fairseq and registers itself on
import, which is what ``--user-dir fairseq_pdd`` does.
"""

import argparse
from importlib.util import find_spec

from .version import __version__

__all__ = ["__version__"]

# Where fairseq is missing the numeric core still serves.
if find_spec("fairseq") is not None:
    import torch

    # From 2.6 on torch unpickles only types that are known to be safe. fairseq's checkpoints
    # hold one more, which can do nothing but keep attributes.
    if hasattr(torch.serialization, "add_safe_globals"):
        torch.serialization.add_safe_globals([argparse.Namespace])

    from . import criterions, models, tasks  # noqa: F401
    from .hub import Output, Translator, load

    __all__ += ["Output", "Translator", "load"]
