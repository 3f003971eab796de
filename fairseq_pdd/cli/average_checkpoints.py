"""``fairseq-pdd average-checkpoints``: one checkpoint with the mean of several ones' weights."""

from pathlib import Path
from typing import Any, List, Optional

import typer
from typer.core import TyperCommand

from ..errors import UsageError

_INPUTS = "--inputs"


class SeveralInputs(TyperCommand):
    """A command whose ``--inputs`` takes all words up to the next option, as fairseq's does."""

    def parse_args(self, ctx: Any, args: List[str]) -> List[str]:
        """Parse the words of a command line."""
        words: List[str] = []
        is_input = False
        for word in args:
            is_input = word == _INPUTS or (is_input and not word.startswith("-"))
            if is_input and word != _INPUTS:
                words.append(_INPUTS)
            if word != _INPUTS:
                words.append(word)
        parsed: List[str] = super().parse_args(ctx, words)
        return parsed


def average_checkpoints(
    inputs: List[Path] = typer.Option(
        ...,
        help="Checkpoints, separated by blanks, in the order of the training; or its --save-dir, "
        "with one of the two numbers.",
    ),
    output: Path = typer.Option(..., help="File to write."),
    num_epoch_checkpoints: Optional[int] = typer.Option(
        None, min=1, help="Average the last ones of epochs, checkpointEPOCH.pt."
    ),
    num_update_checkpoints: Optional[int] = typer.Option(
        None,
        min=1,
        help="Average the last ones of --save-interval-updates, checkpoint_EPOCH_UPDATE.pt.",
    ),
    checkpoint_upper_bound: Optional[int] = typer.Option(
        None, min=1, help="With one of the two numbers: last epoch, or update, to use."
    ),
) -> None:
    """Write the mean of the weights of checkpoints of one training.

    Averages of the last epochs are usually better than the last or the best checkpoint. The
    options are those of fairseq's scripts/average_checkpoints.py, which its package lacks:

    fairseq-pdd average-checkpoints --inputs checkpoints --num-epoch-checkpoints 10
    --output average.pt

    The mean of a Prior Network is a Prior Network. OUTPUT serves generation, teachers and
    --finetune-from-model. Its options and its task state are those of the last input; it has no
    optimizer's state, so a training cannot resume from it. Means are computed in float64 and
    stored in the inputs' type; counts of batches are the last input's. Checkpoints of other
    architectures, model options, dictionaries or kinds (a Prior Network and a plain model) are
    refused; options that act in training only, such as dropout, may differ.
    """
    # imported here, since fairseq takes seconds that --help does not need
    from ..checkpoints.average import EPOCHS, UPDATES, last_checkpoints, write_average

    numbers = [
        (series, number)
        for series, number in ((EPOCHS, num_epoch_checkpoints), (UPDATES, num_update_checkpoints))
        if number is not None
    ]
    if len(numbers) > 1:
        raise UsageError(f"give {EPOCHS.option} or {UPDATES.option}, not both")
    if checkpoint_upper_bound is not None and not numbers:
        raise UsageError(f"--checkpoint-upper-bound needs {EPOCHS.option} or {UPDATES.option}")
    files = [str(path) for path in inputs]
    for series, number in numbers:
        if len(files) > 1:
            raise UsageError(
                f"{series.option} takes one folder as --inputs, but {len(files)} are given: give "
                "the --save-dir of the training"
            )
        files = last_checkpoints(files[0], number, series, checkpoint_upper_bound)
    write_average(files, output)
    typer.echo(f"averaged {len(files)} checkpoints as {output}: {', '.join(files)}")
