"""Commands in place of those whose packages are not installed."""

import typer

from .._requirements import require_extra


def add_unavailable(app: typer.Typer, name: str, extra: str) -> None:
    """Add a command that takes any arguments and ends with the line that installs its packages.

    Args:
        app: commands to add it to.
        name: name of the command.
        extra: extra with the packages.
    """

    def unavailable() -> None:
        require_extra(extra, f"fairseq-pdd {name}")

    app.command(
        name,
        help=f"Not installed: needs the extra `{extra}` of fairseq_pdd.",
        add_help_option=False,  # --help gives the line, too
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )(unavailable)
