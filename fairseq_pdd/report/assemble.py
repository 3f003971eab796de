"""Assembly of the report from the records of systems, each file read once."""

from pathlib import Path
from typing import Dict, List, Sequence, Tuple

from tqdm import tqdm

from ..assess import RunSummary, Style, System, label_of, sets_of
from ..assess.layout import TEST, is_scored
from ..assess.table import check_style
from ..records import read_records
from .browser import BrowserData
from .browser_columns import BrowserColumns, browser_columns
from .faithfulness import total_and_rmi
from .page import render_page
from .run_errors import Run, assess_errors
from .sections import make_sections


def build_report(
    systems: Sequence[System], style: Style, title: str, nbest: int = 5, sentences: int = 2000
) -> str:
    """Make the page.

    Args:
        systems: systems to compare, which have the same sets.
        style: metric of quality, and measures that detect out-of-domain input.
        title: title of the page.
        nbest: number of hypotheses per sentence that can be browsed.
        sentences: number of sentences per set that can be browsed, from the lowest id.

    Raises:
        UsageError: a file holds no records, or a run lacks what another one has.
    """
    check_style(style)
    sets = sets_of(systems)
    runs: Dict[str, List[Run]] = {system.name: [] for system in systems}
    browser = BrowserData()
    folders = [(system, folder) for system in systems for folder in system.runs]
    for system, folder in tqdm(folders, "reading", unit="run", leave=False, disable=None):
        run, columns = _read_run(folder, sets, style, nbest, sentences)
        runs[system.name].append(run)
        several = len(system.runs) > 1
        browser.add(f"{system.name}: {label_of(folder.name)}" if several else system.name, columns)
    sections = make_sections(runs, style)
    facts = f"{_count(len(systems), 'system')}, {_count(len(columns), 'set')} of sentences"
    return render_page(title, facts, sections, browser.manifest, browser.elements)


def _read_run(
    folder: Path, sets: Sequence[str], style: Style, nbest: int, sentences: int
) -> Tuple[Run, Dict[str, BrowserColumns]]:
    """Read each set of a run once, and keep what the page shows of it."""
    test = read_records(folder / f"{TEST}.jsonl", token_ranks=nbest)
    summary = RunSummary(folder, test, style)
    errors = assess_errors(test.best(), summary.inside, style.metric)
    columns = {TEST: browser_columns(test, nbest, sentences)}
    scored = {}
    for name in sets:
        if name == TEST:
            continue
        given = is_scored(name)
        records = read_records(folder / f"{name}.jsonl", token_ranks=1 if given else nbest)
        summary.add(name, records)
        if given:  # no outputs to browse
            scored[name] = total_and_rmi(records.best())
        else:
            columns[label_of(name)] = browser_columns(records, nbest, sentences)
    return Run(summary, errors, scored), columns


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
