"""Systems and seeds side by side: the paper's Tables 3 and 4."""

import logging
from dataclasses import dataclass
from itertools import combinations
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence

import numpy as np

from ..records import EXPR_PREFIX, FIELDS
from .layout import NLL, NLL_ENSEMBLE, TEST, System, is_scored, is_used, label_of, set_name, sets_of
from .ood import detect, log_copies, log_undefined
from .quality import Metric
from .scores import Combination, check_measures, check_same_lists
from .sentences import check_same_sentences
from .summary import RunSummary, Style, summarise_run

logger = logging.getLogger(__name__)

MISSING = "–"
_LIKELIHOODS = {NLL: "NLL", NLL_ENSEMBLE: "NLL Ens-Pred"}


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        group: label of the out-of-domain set; empty for columns of the test set.
        name: quantity in the column.
        key: key of its values in the rows of :class:`Table`.
        digits: number of decimals.
    """

    group: str
    name: str
    key: str
    digits: int


Row = Dict[str, Optional[float]]


@dataclass(frozen=True)
class Table:
    """Results of systems.

    Attributes:
        columns: columns in their order.
        rows: for each system a dictionary per run, by the columns' keys; ``None`` where the model
            has no such measure, or where the number is not defined.
        notes: explanations, one sentence each.
    """

    columns: List[Column]
    rows: Dict[str, List[Row]]
    notes: List[str]

    def cells(self) -> List[List[str]]:
        """Format a row per system, its name first: mean ± standard deviation over its runs."""
        return [
            [system, *(_cell([run[c.key] for run in runs], c.digits) for c in self.columns)]
            for system, runs in self.rows.items()
        ]


def build_table(systems: Sequence[System], style: Style) -> Table:
    """Assess every run on every set; AUCs are in %.

    A set without a column, and a measure that no system has, are logged.

    Raises:
        UsageError: a run lacks a set that another one has, or has other sentences in it; or a
            measure is unknown.
    """
    from tqdm import tqdm

    check_style(style)
    sets = sets_of(systems)
    unused = [name for name in sets if not is_used(name) and not is_scored(name)]
    if unused:
        logger.warning(
            "no column shows %s: the records of an out-of-domain set are in ood_NAME.jsonl",
            ", ".join(f"{label_of(name)}.jsonl" for name in unused),
        )
    summaries: Dict[str, List[RunSummary]] = {system.name: [] for system in systems}
    folders = [(system.name, folder) for system in systems for folder in system.runs]
    for name, folder in tqdm(folders, "assessing", unit="run", leave=False, disable=None):
        summaries[name].append(summarise_run(folder, sets, style))
    return make_table(summaries, style)


def check_style(style: Style) -> None:
    """Refuse unknown measures.

    Raises:
        UsageError: names the measure, and those that exist.
    """
    check_measures(style.measures, (*FIELDS, *(EXPR_PREFIX + name for name in FIELDS)))


def make_table(summaries: Mapping[str, Sequence[RunSummary]], style: Style) -> Table:
    """Make the table of runs that were summarised.

    Runs that have the same values, and a measure that no system has, are logged.

    Args:
        summaries: runs by system; all have the same sets.
        style: settings, the same as those of the summaries.

    Raises:
        UsageError: a run lacks sentences that another one has, or has other references, sources
            or utterances for them; or n-best lists that are combined have different sizes.
    """
    runs = [run for system in summaries.values() for run in system]
    for run in runs:
        for name, sentences in run.sentences.items():
            check_same_sentences(runs[0].sentences[name], sentences)
    check_same_lists(
        {path: size for run in runs for path, size in run.nbest.items()}, style.combination
    )
    for first, second in combinations(runs, 2):
        log_copies(first.folder, second.folder, first.inside, second.inside)
    rows = {name: [_row(run, style) for run in system] for name, system in summaries.items()}
    for measure in style.measures if runs[0].outside else ():
        keys = [f"{name} {measure}" for name in runs[0].outside]
        if all(row[key] is None for system in rows.values() for row in system for key in keys):
            logger.warning("no system has the measure '%s'", measure)
    return Table(_columns(runs[0], style), rows, _notes(summaries, runs[0], style))


def _row(run: RunSummary, style: Style) -> Row:
    row: Row = {_quality_name(style): run.quality.value}
    row.update({_LIKELIHOODS[name]: value for name, value in run.likelihoods.items()})
    for name, outside in run.outside.items():
        for measure in style.measures:
            auc = None
            if measure in run.inside:
                label = f"{run.folder}, {set_name(name)}: {measure}"
                log_undefined(label, run.inside[measure], outside[measure])
                found = detect(run.inside[measure], outside[measure], 0)
                auc = None if found is None else 100 * found.roc_auc.value
            row[f"{name} {measure}"] = auc
    return row


def _columns(run: RunSummary, style: Style) -> List[Column]:
    quality = _quality_name(style)
    columns = [Column("", quality, quality, 1)]
    columns += [Column("", key, key, 2) for key in map(_LIKELIHOODS.__getitem__, run.likelihoods)]
    for name in run.outside:
        group = set_name(name)
        columns += [Column(group, m, f"{name} {m}", 1) for m in style.measures]
    return columns


def _quality_name(style: Style) -> str:
    return {Metric.bleu: "BLEU", Metric.chrf: "chrF", Metric.wer: "WER"}[style.metric]


def _notes(
    summaries: Mapping[str, Sequence[RunSummary]], first: RunSummary, style: Style
) -> List[str]:
    notes = [
        f"{_quality_name(style)} in %: `{first.quality.signature}`, "
        f"{len(first.sentences[TEST].ids)} sentences."
    ]
    targets = {NLL: "references", NLL_ENSEMBLE: "the ensemble's output"}
    scored = " and on ".join(text for name, text in targets.items() if name in first.likelihoods)
    if scored:
        notes[0] += f" NLL: nats per token, on {scored}."
    if first.outside:
        unit = {
            Combination.best: "the best hypothesis",
            Combination.mean: "the n-best list (plain mean)",
            Combination.weighted: f"the n-best list (weights exp(ln P / {style.temperature:g}))",
        }[style.combination]
        sizes = ", ".join(
            f"{set_name(name)} {len(first.sentences[name].ids)}" for name in first.outside
        )
        notes.append(
            f"Other columns: ROC-AUC in % of the test set against out-of-domain sentences "
            f"({sizes}), by the mean of a measure over the tokens of {unit}; {MISSING}: the model "
            "has no such measure, or one value for all sentences."
        )
    several = several_runs({name: len(system) for name, system in summaries.items()})
    return [*notes, several] if several else notes


def several_runs(runs: Mapping[str, int]) -> str:
    """Return the note on systems with several runs; empty where there are none.

    Args:
        runs: number of runs by system.
    """
    several = ", ".join(f"{name} ({count})" for name, count in runs.items() if count > 1)
    return f"Mean ± standard deviation over runs: {several}; all else one run." if several else ""


def _cell(values: List[Optional[float]], digits: int) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return MISSING
    text = f"{np.mean(known):.{digits}f}"
    return text + (f" ± {np.std(known, ddof=1):.{digits}f}" if len(known) > 1 else "")
