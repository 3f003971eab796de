"""Sections of the page: tables and plots of systems."""

from typing import Dict, List, Mapping, Sequence

import numpy as np
from tqdm import tqdm

from ..assess import Metric, Style, Table, detect, make_table, set_name
from ..assess.layout import OOD_PREFIX
from ..assess.quality import ERROR_LABELS
from ..assess.table import MISSING, several_runs
from .faithfulness import faithfulness_section
from .figures import plots_of
from .html_tables import html_notes, html_table
from .run_errors import ERROR_COLUMNS, Run

Runs = Mapping[str, Sequence[Run]]


def make_sections(runs: Runs, style: Style) -> str:
    """Make the markup of all sections.

    Args:
        runs: runs by system; plots are of the first run of each.
        style: settings of the runs' summaries.

    Raises:
        UsageError: see :func:`~fairseq_pdd.assess.make_table`.
    """
    table = make_table({name: [run.summary for run in of] for name, of in runs.items()}, style)
    return "\n".join(
        [
            _section("quality", "Quality", _quality(table, runs, style.metric)),
            _section("ood", "Out-of-domain detection", _detection(table, runs, style)),
            _section("faithfulness", "Faithfulness", faithfulness_section(runs)),
            _section("plots", "Plots", plots_of(runs, style.metric)),
        ]
    )


def _section(name: str, title: str, content: str) -> str:
    return (
        f'<section id="{name}" aria-labelledby="{name}-title">'
        f'<h2 id="{name}-title">{title}</h2>{content}</section>'
    )


def _quality(table: Table, runs: Runs, metric: Metric) -> str:
    errors = Table(ERROR_COLUMNS, {s: [run.errors.row for run in of] for s, of in runs.items()}, [])
    known = [
        c
        for c in ERROR_COLUMNS
        if any(r[c.key] is not None for of in errors.rows.values() for r in of)
    ]
    notes = [
        f"PRR, the prediction rejection ratio, is over {ERROR_LABELS[metric]} of the test set: 1 "
        "where the most uncertain outputs are the worst ones, 0 for a random order.",
        "A word is right where an alignment of least edits finds it in the reference; its "
        "uncertainty is the sum over its pieces. ECE, the expected calibration error, compares "
        "its probability with the share that is right. ROC-AUC in %: 50 is chance.",
    ]
    several = several_runs({name: len(of) for name, of in runs.items()})
    if several:
        notes.append(several)
    return (
        html_table(table, [c for c in table.columns if not c.group], "Quality of the outputs")
        + html_notes(table.notes[:1])
        + html_table(errors, known, "Errors and how well uncertainty finds them")
        + html_notes(notes)
    )


def _detection(table: Table, runs: Runs, style: Style) -> str:
    first = next(iter(runs.values()))[0].summary
    if not first.outside:
        return f'<p class="quiet">There are no out-of-domain sets ({OOD_PREFIX}*.jsonl).</p>'
    sizes = ", ".join(
        f"{set_name(name)} {_sentences(values)}" for name, values in first.outside.items()
    )
    notes = [
        f"ROC-AUC in % of {_sentences(first.inside)} test sentences against out-of-domain ones "
        f"({sizes}), by the mean of a measure over the tokens of the best hypothesis: 50 is "
        f"chance. {MISSING}: the model has no such measure, or one value for all sentences.",
    ]
    intervals = _intervals(runs, style)
    if intervals:
        notes.append(
            "Small print: 95 % bootstrap interval over sentences, of systems with one run."
        )
    columns = [column for column in table.columns if column.group]
    label = "ROC-AUC of detecting out-of-domain input, in %"
    return html_table(table, columns, label, intervals) + html_notes(notes)


def _intervals(runs: Runs, style: Style) -> Dict[str, Dict[str, str]]:
    """Compute intervals by system and column key; of several runs the table has the spread."""
    intervals: Dict[str, Dict[str, str]] = {}
    single: List[str] = [name for name, of in runs.items() if len(of) == 1]
    for system in tqdm(single, "intervals", unit="system", leave=False, disable=None):
        summary = runs[system][0].summary
        for name, outside in summary.outside.items():
            for measure in style.measures:
                if measure in summary.inside and measure in outside:
                    found = detect(summary.inside[measure], outside[measure])
                    if found is None:
                        continue
                    area = found.roc_auc
                    text = f"{100 * area.low:.1f}–{100 * area.high:.1f}"
                    intervals.setdefault(system, {})[f"{name} {measure}"] = text
    return intervals


def _sentences(measures: Mapping[str, np.ndarray]) -> int:
    return len(next(iter(measures.values())))
