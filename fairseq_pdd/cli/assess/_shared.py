"""Options, tables on the terminal and files, shared by the commands."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterable, List, Mapping, Optional, Sequence, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ...assess import Combination, check_measures
from ...errors import UsageError
from ...records.files import write_text
from ...version import __version__

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Value = TypeVar("Value")

# measures of the paper, which have figures when no measure is requested
_FIGURES = ("total", "rmi")


def json_option() -> Any:
    """Define ``--json``."""
    return typer.Option(None, "--json", help="File for all numbers, unrounded.")


def plots_option(content: str) -> Any:
    """Define ``--plots``."""
    return typer.Option(None, "--plots", help=f"Folder for {content}, as PNG and SVG.")


def measure_option() -> Any:
    """Define ``--measure``."""
    return typer.Option(
        None,
        "--measure",
        help="Only this measure (total, rmi, expr.total, …); may be repeated. Without it: all "
        "measures, and figures of total and rmi.",
    )


def nbest_option() -> Any:
    """Define ``--nbest``."""
    return typer.Option(
        Combination.best,
        "--nbest",
        help="Measures of a sentence: those of its best hypothesis, or their mean over the n-best "
        "list, plain or weighted by exp(ln P / T).",
    )


def temperature_option() -> Any:
    """Define ``--temperature``."""
    return typer.Option(1.0, "--temperature", min=0.001, help="T of --nbest weighted.")


def select(
    measures: Mapping[str, Value], absent: Iterable[str], requested: Optional[Sequence[str]]
) -> Dict[str, Value]:
    """Return the measures of ``--measure``, or all.

    Raises:
        UsageError: a measure is unknown, or the model has none of them.
    """
    check_measures(requested or (), [*measures, *absent])
    kept = {name: value for name, value in measures.items() if not requested or name in requested}
    if not kept:
        raise UsageError(
            f"the model has no {', '.join(requested or ['measure'])}: it has {', '.join(measures)}"
        )
    return kept


def for_figures(measures: Iterable[str], requested: Optional[Sequence[str]]) -> List[str]:
    """Return the measures that get figures."""
    return [name for name in measures if requested or name in _FIGURES]


def print_table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table."""
    print_line(f"\n{title}")
    table = Table()
    for number, name in enumerate(header):
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # not markup: names are the user's
    _console().print(table)


def print_line(text: str) -> None:
    """Print a line."""
    _console().print(text, markup=False, highlight=False, soft_wrap=True)


def format_number(value: Optional[float], digits: int = 3) -> str:
    """Format a cell of a table."""
    return "–" if value is None else f"{value:.{digits}f}"


def write_json(path: Optional[Path], content: Dict[str, Any]) -> None:
    """Write results to the file of ``--json``, if there is one.

    Raises:
        UsageError: the file cannot be written.
    """
    if path is not None:
        text = json.dumps(
            {"fairseq_pdd": __version__, **content}, indent=2, ensure_ascii=False, allow_nan=False
        )
        write(path, text + "\n")


def write(path: Path, text: str) -> None:
    """Write a file, and print its name.

    Raises:
        UsageError: the file cannot be written.
    """
    write_text(path, text)
    print_line(f"wrote {path}")


def write_figure(figure: "Figure", folder: Path, name: str) -> None:
    """Write a figure, and print the names of its files.

    Raises:
        UsageError: a file cannot be written.
    """
    from ...assess.plots import save

    print_line("wrote " + " and ".join(str(path) for path in save(figure, folder, name)))


def _console() -> Console:
    console = Console()
    # a file has room for any table
    return console if console.is_terminal else Console(width=1000)
