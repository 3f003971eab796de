"""Systems → the page's sections of tables and plots."""

from typing import Dict, List, Mapping, Sequence

import numpy as np
from tqdm import tqdm

from ..assess import Metric, Style, System, Table, build_table, detect, sets_of
from ..assess.layout import OOD_PREFIX
from ..assess.table import MISSING
from .figures import plots_of
from .runs import ERROR_COLUMNS, ERRORS, Run, assess_run
from .tables import html_notes, html_table


def make_sections(systems: Sequence[System], style: Style) -> str:
    """Assess all systems on all sets.

    Args:
        systems: to compare; plots are of their first runs.
        style: which quality, and which measures detect out-of-domain input.

    Raises:
        UsageError: as :func:`~fairseq_pdd.assess.build_table`.
    """
    table = build_table(systems, style)
    ood_sets = [name for name in sets_of(systems) if name.startswith(OOD_PREFIX)]
    runs: Dict[str, List[Run]] = {system.name: [] for system in systems}
    folders = [(system.name, folder) for system in systems for folder in system.runs]
    for name, folder in tqdm(folders, "errors", unit="run", leave=False):
        runs[name].append(assess_run(folder, ood_sets, style.metric))
    return "\n".join(
        [
            _section("quality", "Quality", _quality(table, runs, style.metric)),
            _section("ood", "Out-of-domain detection", _detection(table, runs, ood_sets, style)),
            _section("plots", "Plots", plots_of(systems, runs, style.metric)),
        ]
    )


def _section(name: str, title: str, content: str) -> str:
    return (
        f'<section id="{name}" aria-labelledby="{name}-title">'
        f'<h2 id="{name}-title">{title}</h2>{content}</section>'
    )


def _quality(table: Table, runs: Mapping[str, Sequence[Run]], metric: Metric) -> str:
    errors = Table(ERROR_COLUMNS, {s: [run.errors for run in of] for s, of in runs.items()}, [])
    known = [
        c
        for c in ERROR_COLUMNS
        if any(r[c.key] is not None for of in errors.rows.values() for r in of)
    ]
    several = ", ".join(f"{name} ({len(of)})" for name, of in runs.items() if len(of) > 1)
    notes = [
        f"PRR, the prediction rejection ratio, is over {ERRORS[metric]} of the test set: 1 where "
        "the most uncertain outputs are the worst ones, 0 where uncertainty says nothing.",
        "A word is right where an alignment of least edits finds it in the reference; its "
        "uncertainty is the sum over its pieces. ECE, the expected calibration error, compares "
        "its probability with the share that is right. ROC-AUC in %: 50 says nothing.",
    ]
    if several:
        notes.append(f"Mean ± standard deviation over runs: {several}; all else one run.")
    return (
        html_table(table, [c for c in table.columns if not c.group], "Quality of the outputs")
        + html_notes(table.notes[:1])
        + html_table(errors, known, "Errors and how well uncertainty finds them")
        + html_notes(notes)
    )


def _detection(
    table: Table, runs: Mapping[str, Sequence[Run]], ood_sets: Sequence[str], style: Style
) -> str:
    if not ood_sets:
        return f'<p class="quiet">There are no out-of-domain sets ({OOD_PREFIX}*.jsonl).</p>'
    intervals: Dict[str, Dict[str, str]] = {}
    for system, of in tqdm(runs.items(), "intervals", unit="system", leave=False):
        if len(of) > 1:
            continue  # their spread is in the table
        for name in ood_sets:
            for measure in style.measures:
                if measure in of[0].inside and measure in of[0].outside[name]:
                    area = detect(of[0].inside[measure], of[0].outside[name][measure]).roc_auc
                    text = f"{100 * area.low:.1f}–{100 * area.high:.1f}"
                    intervals.setdefault(system, {})[f"{name} {measure}"] = text
    some = next(iter(runs.values()))[0]
    sizes = ", ".join(
        f"{name[len(OOD_PREFIX) :]} {_sentences(values)}" for name, values in some.outside.items()
    )
    notes = [
        f"ROC-AUC in % of {_sentences(some.inside)} test sentences against out-of-domain ones "
        f"({sizes}), by the mean of a measure over the tokens of the best hypothesis: 50 says "
        f"nothing. {MISSING}: the model has no such measure.",
    ]
    if intervals:
        notes.append(
            "Small print: 95 % bootstrap interval over sentences, of systems with one run."
        )
    columns = [column for column in table.columns if column.group]
    label = "ROC-AUC of detecting out-of-domain input, in %"
    return html_table(table, columns, label, intervals) + html_notes(notes)


def _sentences(measures: Mapping[str, np.ndarray]) -> int:
    return len(next(iter(measures.values())))
