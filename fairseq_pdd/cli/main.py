"""``fairseq-pdd``: one command, with a subcommand for each job that fairseq has no command for.

Modules of commands import libraries that are slow to load inside their functions, so that
``--help`` is fast.
"""

from typing import Any

import typer
from typer.core import TyperGroup

from .._requirements import missing_packages
from ..errors import UsageError, last_line
from ..version import __version__
from ._unavailable import add_unavailable
from .average_checkpoints import SeveralInputs, average_checkpoints
from .join_records import join_records
from .plain_checkpoint import plain_checkpoint
from .teacher_cache import teacher_cache
from .transfer_set import transfer_set


class Commands(TyperGroup):
    """The subcommands; a usage error ends them with its line and status 1."""

    def invoke(self, ctx: Any) -> Any:
        """Run a subcommand."""
        try:
            return super().invoke(ctx)
        except UsageError as error:
            raise SystemExit(last_line(error)) from error


app = typer.Typer(
    cls=Commands,
    help="Ensemble distribution distillation: jobs around fairseq-train and fairseq-generate.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"fairseq_pdd {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Show the version."
    ),
) -> None:
    """Hold the options that all subcommands share."""


app.command(
    "transfer-set", context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
)(transfer_set)
app.command("teacher-cache")(teacher_cache)
app.command("average-checkpoints", cls=SeveralInputs)(average_checkpoints)
app.command("plain-checkpoint")(plain_checkpoint)
app.command("join-records")(join_records)
if missing_packages("assess"):
    add_unavailable(app, "assess", "assess")
else:
    from .assess import app as assess

    app.add_typer(assess, name="assess")
if missing_packages("report"):
    add_unavailable(app, "report", "report")
else:
    from .report import report

    app.command()(report)
