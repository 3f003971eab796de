"""The pointer-generator of fairseq's examples, a model whose output is probabilities."""

import argparse
from pathlib import Path

import fairseq
from fairseq.utils import import_user_module

from .commands import _ARCHITECTURES

POINTER_GENERATOR = (
    *("--arch", "transformer_iwslt_de_en", *_ARCHITECTURES["transformer_iwslt_de_en"]),
    *("--arch", "transformer_pointer_generator", "--alignment-layer", 0, "--alignment-heads", 1),
    *("--source-position-markers", 0),
)
"""Options of a tiny one. The first ``--arch`` selects the tiny dimensions, the last one counts."""


def import_pointer_generator() -> None:
    """Register the architecture like ``--user-dir``."""
    examples = Path(fairseq.__file__).parent / "examples"
    folder = examples / "pointer_generator" / "pointer_generator_src"
    import_user_module(argparse.Namespace(user_dir=str(folder)))
