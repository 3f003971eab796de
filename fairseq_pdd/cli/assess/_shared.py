"""Options, tables on the terminal and files, shared by the commands."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterable, List, Mapping, Optional, Sequence, TypeVar
from urllib.parse import quote

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ...assess import (
    Combination,
    Estimate,
    System,
    check_measures,
    check_temperature,
    set_files,
)
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
    return typer.Option(
        1.0, "--temperature", callback=_checked_temperature, help="T of --nbest weighted, above 0."
    )


def resamples_option() -> Any:
    """Define ``--resamples``."""
    return typer.Option(
        1000,
        "--resamples",
        min=0,
        max=100_000,
        help="Bootstrap resamples behind the intervals; 0 gives no intervals.",
    )


def confidence_option() -> Any:
    """Define ``--confidence``."""
    return typer.Option(
        0.95,
        "--confidence",
        callback=_checked_level,
        help="Level of the intervals, between 0 and 1.",
    )


def seed_option() -> Any:
    """Define ``--seed``."""
    return typer.Option(0, "--seed", min=0, help="Seed of the bootstrap.")


def check_outputs(
    *paths: Optional[Path], folder: Optional[Path] = None, inputs: Iterable[Path] = ()
) -> None:
    """Refuse files and a folder for them that cannot be written, before the work.

    Args:
        paths: files; ``None`` for those that are not requested.
        folder: folder for figures.
        inputs: files of records, which no output may replace.

    Raises:
        UsageError: names the path.
    """
    read = {path.resolve() for path in inputs}
    requested = [path for path in paths if path is not None]
    for path in requested:
        if path.is_dir():
            raise UsageError(f"cannot write {path}: it is a folder; give a file in it")
        if path.exists() and not os.access(path, os.W_OK):
            raise UsageError(f"cannot write {path}: it is read-only; remove it or give another")
        _check_folder(path, path.absolute().parent)
        if path.resolve() in read:
            raise UsageError(f"cannot write {path}: it holds the records; give another file")
        is_special = path.exists() and not path.is_file()
        if not is_special and sum(path.resolve() == other.resolve() for other in requested) > 1:
            raise UsageError(f"{path} is given for two outputs: give each a file of its own")
    if folder is not None:
        _check_folder(folder, folder.absolute())


def files_of(systems: Iterable[System]) -> List[Path]:
    """Return the files of records of systems."""
    return [path for system in systems for run in system.runs for path in set_files(run)]


def _check_folder(path: Path, folder: Path) -> None:
    """Refuse a folder that neither is writable nor can be made."""
    while not os.path.lexists(folder):
        folder = folder.parent
    if not folder.is_dir():
        raise UsageError(f"cannot write {path}: {folder} is no folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"cannot write {path}: the folder {folder} is read-only")


def _checked_temperature(value: float) -> float:
    check_temperature(value)
    return value


def _checked_level(value: float) -> float:
    if not 0 < value < 1:
        raise UsageError(f"--confidence {value:g} is no level: give one between 0 and 1, as 0.95")
    return value


def select(
    measures: Mapping[str, Value],
    absent: Iterable[str],
    requested: Optional[Sequence[str]],
    name: str,
) -> Dict[str, Value]:
    """Return the measures of ``--measure``, or all.

    Args:
        measures: values by measure.
        absent: measures that are null in the records.
        requested: measures of ``--measure``; none for all.
        name: file of the records, for messages.

    Raises:
        UsageError: a measure is unknown, or the model has none of them.
    """
    check_measures(requested or (), [*measures, *absent])
    kept = {name: value for name, value in measures.items() if not requested or name in requested}
    if not kept:
        raise UsageError(
            f"{name}: the model has no {', '.join(requested or ['measure'])}: it has "
            f"{', '.join(measures) or 'none at all'}"
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
        table.add_column(
            Text(_printable(name)), justify="right" if number else "left", overflow="fold"
        )
    for row in rows:
        table.add_row(*(Text(_printable(cell)) for cell in row))  # not markup: names are the user's
    _console().print(table)


def interval_header(names: Iterable[str], intervals: bool) -> List[str]:
    """Return a header for :func:`interval_cells`."""
    return [cell for name in names for cell in ((name, "") if intervals else (name,))]


def interval_cells(
    estimates: Iterable[Optional[Estimate]], intervals: bool, digits: int, scale: float = 1
) -> List[str]:
    """Format the cells of numbers, each followed by its interval if there are ``intervals``.

    Args:
        estimates: numbers; ``None`` for those that are not defined.
        intervals: False for numbers alone.
        digits: number of decimals.
        scale: factor of the numbers, such as 100 for %.
    """
    cells = []
    for estimate in estimates:
        if estimate is None:
            cells += ["–"] * (1 + intervals)
            continue
        value, low, high = (f"{scale * number:.{digits}f}" for number in estimate)
        cells += [value, f"{low} – {high}"] if intervals else [value]
    return cells


def print_line(text: str) -> None:
    """Print a line."""
    _console().print(_printable(text), markup=False, emoji=False, highlight=False, soft_wrap=True)


def format_number(value: Optional[float], digits: int = 3) -> str:
    """Format a cell of a table."""
    return "–" if value is None else f"{value:.{digits}f}"


def format_percent(value: Optional[float]) -> str:
    """Format a cell of a table in %."""
    return "–" if value is None else f"{100 * value:.1f}"


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
    write_text(path, _printable(text))
    print_line(f"wrote {path}")


def write_figure(figure: "Figure", folder: Path, name: str) -> None:
    """Write a figure, and print the names of its files.

    Raises:
        UsageError: a file cannot be written.
    """
    from ...assess.plots import save

    paths = save(figure, folder, quote(name, safe=" "))  # a measure may have any name
    print_line("wrote " + " and ".join(str(path) for path in paths))


def _printable(text: str) -> str:
    """Escape what UTF-8 cannot hold, such as bytes of a file's name; valid in JSON, too."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _console() -> Console:
    console = Console()
    # a file has room for any table
    return console if console.is_terminal else Console(width=1000)
