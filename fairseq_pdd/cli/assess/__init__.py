"""``fairseq-pdd assess``: the quality of the uncertainty in fairseq-generate's records."""

import typer

from .calibration import calibration
from .errors import errors
from .faithfulness import faithfulness
from .ood import ood
from .table import table
from .token_errors import token_errors

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")


@app.callback()
def assess() -> None:
    """Assess the uncertainty in the records of fairseq-generate --uncertainty-path.

    Detection of out-of-domain input, of bad outputs and of wrong words; calibration; faithfulness
    of a student to its ensemble; tables of the paper. --json writes every number to a file, --plots
    writes figures to a folder.
    """


for command in (ood, errors, token_errors, calibration, faithfulness, table):
    app.command()(command)
