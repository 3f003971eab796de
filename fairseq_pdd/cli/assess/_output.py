"""What the subcommands share: options, and how results are shown and kept."""

import json
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, TypeVar

import typer
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ... import __version__
from ...assess import Combination, check_measures
from ...assess.plots import save
from ...errors import UsageError

Value = TypeVar("Value")

# of the paper, for figures when no measure was asked for
_FIGURES = ("total", "rmi")


def json_option() -> Any:
    """``--json``."""
    return typer.Option(None, "--json", help="File for all numbers, unrounded.")


def plots_option(what: str) -> Any:
    """``--plots``."""
    return typer.Option(None, "--plots", help=f"Folder for {what}, as PNG and SVG.")


def measure_option() -> Any:
    """``--measure``."""
    return typer.Option(
        None,
        "--measure",
        help="Only this measure (total, rmi, expr.total, …); may be repeated. Without it: all, "
        "and figures of total and rmi.",
    )


def nbest_option() -> Any:
    """``--nbest``."""
    return typer.Option(
        Combination.best,
        "--nbest",
        help="Measures of a sentence: those of its best hypothesis, or their mean over the n-best "
        "list, plain or weighted by exp(ln P / T).",
    )


def temperature_option() -> Any:
    """``--temperature``."""
    return typer.Option(1.0, "--temperature", min=0.001, help="T of --nbest weighted.")


def choose(
    measures: Mapping[str, Value], absent: Iterable[str], chosen: Optional[Sequence[str]]
) -> Dict[str, Value]:
    """The measures that were asked for, or all.

    Raises:
        UsageError: one is unknown, or the model has none of them.
    """
    check_measures(chosen or (), [*measures, *absent])
    kept = {name: value for name, value in measures.items() if not chosen or name in chosen}
    if not kept:
        raise UsageError(
            f"the model has no {', '.join(chosen or ['measure'])}: it has {', '.join(measures)}"
        )
    return kept


def for_figures(measures: Iterable[str], chosen: Optional[Sequence[str]]) -> List[str]:
    """Measures that get figures."""
    return [name for name in measures if chosen or name in _FIGURES]


def show(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table."""
    say(f"\n{title}")
    table = Table()
    for number, name in enumerate(header):
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # not markup: names are the user's
    _console().print(table)


def say(text: str) -> None:
    """Print a line."""
    _console().print(text, markup=False, highlight=False, soft_wrap=True)


def number(value: Optional[float], digits: int = 3) -> str:
    """A cell."""
    return "–" if value is None else f"{value:.{digits}f}"


def write_json(path: Optional[Path], content: Dict[str, Any]) -> None:
    """Keep results, if a file was asked for."""
    if path is not None:
        text = json.dumps(
            {"fairseq_pdd": __version__, **content}, indent=2, ensure_ascii=False, allow_nan=False
        )
        write(path, text + "\n")


def write(path: Path, text: str) -> None:
    """Write a file, and say so.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
    say(f"wrote {path}")


def keep_figure(figure: Figure, folder: Path, name: str) -> None:
    """Write a figure, and say so.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        paths = save(figure, folder, name)
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {error.strerror}") from error
    say("wrote " + " and ".join(str(path) for path in paths))


def _console() -> Console:
    console = Console()
    # a file has room for any table
    return console if console.is_terminal else Console(width=1000)
