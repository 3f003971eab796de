"""The section that compares students with their ensemble on the same outputs."""

import html
import logging
from dataclasses import replace
from typing import Dict, List, Mapping, Optional, Sequence

import numpy as np
from tqdm import tqdm

from ..assess import Estimate, Level, Table, detect_without_total, faithfulness_of, set_name
from ..assess.layout import NLL, NLL_ENSEMBLE
from ..assess.table import Column, several_runs
from ..errors import UsageError
from ..records import EXPR_PREFIX, RecordSet
from .html_tables import html_notes, html_table
from .run_errors import Run

logger = logging.getLogger(__name__)

Runs = Mapping[str, Sequence[Run]]
# numbers of a run by key of their column
Estimates = Dict[str, Optional[Estimate]]

_RESAMPLES = 1000
_COUPLING = "Coupling of RMI"
# header of a column, measure and field of assess.Faithfulness
_SHOWN = [
    ("total", "total", "spearman"),
    ("rmi", "rmi", "spearman"),
    ("RMI given total", "rmi", "given_total"),
    ("RMI by total", "rmi", "by_total"),
    (_COUPLING, "rmi", "student_coupling"),
]
_LEVELS = {"Per token": Level.token, "Per sentence": Level.sentence}
_COLUMNS = [
    Column(group, header, f"{group} {header}", 2) for group in _LEVELS for header, *_ in _SHOWN
]
_TITLES = {NLL: "References of the test set", NLL_ENSEMBLE: "Outputs of the ensemble"}
_NOTES = [
    "Spearman's rank correlation of a system's values and the ensemble's on the same outputs. RMI "
    "given total: with the system's total uncertainty partialled out. RMI by total: of the "
    f"system's total and the ensemble's RMI. {_COUPLING}: of RMI and total within one system; "
    "where it is 1, RMI is total under another name.",
    "RMI without total: ROC-AUC in % by what a straight line on total, fitted to the ranks of the "
    "test sentences, leaves of RMI; 50 is chance.",
    "Small print: 95 % bootstrap interval over sentences, of systems with one run.",
    "`fairseq-pdd assess faithfulness` has the other measures.",
]


def faithfulness_section(runs: Runs) -> str:
    """Make the markup of the section.

    Args:
        runs: runs by system. The ensemble is the first system with ``expr``, by its first run.
    """
    label = next((name for name, of in runs.items() if _is_ensemble(of[0])), "")
    students = {name: of for name, of in runs.items() if name != label}
    scored = runs[label][0].scored if label else {}
    if not scored or not students:
        return (
            '<p class="quiet">There are no outputs that an ensemble and another system scored '
            f"({NLL}.jsonl).</p>"
        )
    parts = []
    for name, given in tqdm(scored.items(), "faithfulness", unit="set", leave=False, disable=None):
        title = _TITLES.get(name) or f"Scored outputs: {set_name(name[len(NLL) + 1 :])}"
        rows = {
            system: [_correlate(run, name, given, _resamples(of)) for run in of]
            for system, of in students.items()
        }
        # all other numbers of the ensemble with itself are trivial
        own = _correlate(runs[label][0], name, given, _RESAMPLES)
        rows[label] = [{key: own[key] for key in own if key.endswith(_COUPLING)}]
        table = _table(_COLUMNS, rows, f"Rank correlations: {title}")
        parts.append(f"<h3>{html.escape(title)}</h3>{table}")
    several = several_runs({name: len(of) for name, of in runs.items()})
    return "".join(
        [*parts, _detection(runs), html_notes([*_NOTES, *([several] if several else [])])]
    )


def total_and_rmi(records: RecordSet) -> RecordSet:
    """Return records with the measures that the section shows, which are fast to resample.

    Args:
        records: one hypothesis per sentence, with its tokens.
    """
    tokens = replace(records.tokens, measures=_shown(records.tokens.measures))
    return replace(records, measures=_shown(records.measures), tokens=tokens)


def _is_ensemble(run: Run) -> bool:
    return any(name.startswith(EXPR_PREFIX) for name in run.summary.inside)


def _correlate(run: Run, name: str, ensemble: RecordSet, resamples: int) -> Estimates:
    """Return the numbers of a run; none, and a warning, if it scored other outputs."""
    row: Estimates = {}
    for group, level in _LEVELS.items():
        try:
            found = faithfulness_of(run.scored[name], ensemble, level, resamples)
        except UsageError as error:
            logger.warning("%s", error)
            return {}
        for header, measure, field in _SHOWN:
            if measure in found:
                row[f"{group} {header}"] = getattr(found[measure], field)
    return row


def _detection(runs: Runs) -> str:
    sets = next(iter(runs.values()))[0].summary.outside
    if not sets:
        return ""
    columns = [Column(set_name(name), "RMI without total", name, 1) for name in sets]
    estimates: Dict[str, List[Estimates]] = {}
    for system, of in runs.items():
        estimates[system] = [{} for _ in of]
        for run, row in zip(of, estimates[system]):
            for name, outside in run.summary.outside.items():
                pair = _shown(run.summary.inside), _shown(outside)
                if all(len(measures) == 2 for measures in pair):
                    found = detect_without_total(*pair, resamples=_resamples(of))["rmi"].residual
                    row[name] = found and Estimate(*(100 * number for number in found))
    title = "Out-of-domain detection"
    return f"<h3>{title}</h3>" + _table(columns, estimates, f"{title} by RMI without total")


def _shown(measures: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
    return {name: measures[name] for name in ("total", "rmi") if name in measures}


def _resamples(runs: Sequence[Run]) -> int:
    """Return the number of resamples: of several runs, the table has the spread."""
    return _RESAMPLES if len(runs) == 1 else 0


def _table(columns: List[Column], estimates: Dict[str, List[Estimates]], label: str) -> str:
    rows = {
        system: [
            {c.key: None if (e := run.get(c.key)) is None else e.value for c in columns}
            for run in of
        ]
        for system, of in estimates.items()
    }
    details = {
        system: {
            c.key: f"{e.low:.{c.digits}f}–{e.high:.{c.digits}f}".replace("-", "−")
            for c in columns
            if (e := of[0].get(c.key)) is not None and e.low < e.high
        }
        for system, of in estimates.items()
    }
    return html_table(Table(columns, rows, []), columns, label, details, bold=False)
