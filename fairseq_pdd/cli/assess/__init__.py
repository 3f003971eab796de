"""``fairseq-pdd assess``: what the uncertainty of fairseq-generate's records is worth."""

import logging

import typer

from .calibration import calibration
from .errors import errors
from .ood import ood
from .table import table
from .token_errors import token_errors

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")


@app.callback()
def assess() -> None:
    """Say what uncertainty is worth, from the records of fairseq-generate --uncertainty-path.

    Detection of out-of-domain input, of bad outputs and of wrong words; calibration; tables of
    the paper. Every number is in the file of --json, and figures are in the folder of --plots.
    """
    # fairseq's import has every library log everything
    logging.getLogger().setLevel(logging.WARNING)


for command in (ood, errors, token_errors, calibration, table):
    app.command()(command)
