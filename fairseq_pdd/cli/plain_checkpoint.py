"""``fairseq-pdd plain-checkpoint``: a checkpoint for fairseq without this package."""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from ..checkpoints.plain import Additions


def plain_checkpoint(
    checkpoint: Path = typer.Argument(
        ..., help="Checkpoint of fairseq-train: a student, or any other model."
    ),
    out: Path = typer.Argument(..., help="File to write."),
    optimizer: bool = typer.Option(
        False, "--optimizer", help="Keep the optimizer's state, which doubles or triples the file."
    ),
) -> None:
    """Write CHECKPOINT for fairseq alone: OUT loads without this package and with any PyTorch.

    From version 2.6 on, PyTorch does not load fairseq's own checkpoints, since most hold an
    argparse.Namespace, and those of --eval-bleu hold numpy arrays; fairseq alone does not know
    this package's tasks either. OUT has the same weights and gives the same outputs. Its task is
    one of fairseq (translation, speech_to_text), and its options are plain values. It names no
    other checkpoint and no user dir. fairseq_pdd still reads a Prior Network as one.
    """
    # imported here, since fairseq takes seconds that --help does not need
    from ..checkpoints.plain import write_plain

    write_plain(checkpoint, out, _additions(), optimizer)


def _additions() -> "Additions":
    from fairseq.criterions import CRITERION_DATACLASS_REGISTRY, CRITERION_REGISTRY

    from ..checkpoints.plain import Additions
    from ..criterions import DistillationCriterion
    from ..tasks import SCORING_TASKS
    from ..tasks._distillation import DistillationConfig

    criterions = {
        name for name, kind in CRITERION_REGISTRY.items() if issubclass(kind, DistillationCriterion)
    }
    options = {
        option.name
        for kind in (DistillationConfig, *map(CRITERION_DATACLASS_REGISTRY.get, criterions))
        for option in fields(kind)
        # an interpolated option belongs to another component
        if option.name != "_name" and not str(option.default).startswith("${")
    }
    return Additions({ours: name for name, ours in SCORING_TASKS.items()}, criterions, options)
