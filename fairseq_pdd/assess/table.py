"""Systems and seeds side by side: the paper's Tables 3 and 4."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from tqdm import tqdm

from ..errors import UsageError
from .layout import NLL, NLL_ENSEMBLE, OOD_PREFIX, TEST, System, set_name, sets_of
from .ood import detect
from .quality import Metric, corpus_quality
from .records import best, negative_log_likelihood, read_records
from .scores import (
    EXPR,
    MEASURES,
    Combination,
    SequenceScores,
    check_measures,
    combine,
    read_best,
    read_scores,
)

logger = logging.getLogger(__name__)

MISSING = "–"
_LIKELIHOODS = {NLL: "NLL", NLL_ENSEMBLE: "NLL Ens-Pred"}


@dataclass(frozen=True)
class Style:
    """Columns of a table.

    Attributes:
        metric: of quality.
        measures: for each out-of-domain set.
        combination: of n-best lists.
        temperature: of a weighted combination.
    """

    metric: Metric
    measures: Tuple[str, ...]
    combination: Combination = Combination.best
    temperature: float = 1.0


# the paper's Tables 4 and 3
TRANSLATION = Style(Metric.bleu, ("total", "rmi"))
SPEECH = Style(Metric.wer, ("total", "rmi", "mutual_information", "epkl"))


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        group: the out-of-domain set, without ``ood_``; empty for columns of the test set.
        name: what the column has of it.
        key: of its values in :class:`Table`.
        digits: shown behind the point.
    """

    group: str
    name: str
    key: str
    digits: int


Row = Dict[str, Optional[float]]
# for each set the first run that has it, and its ids
_Sentences = Dict[str, Tuple[Path, np.ndarray]]


@dataclass(frozen=True)
class Table:
    """What was measured.

    Attributes:
        columns: in their order.
        rows: for each system a dictionary a run, by the columns' keys; ``None`` where the model
            has no such measure.
        notes: how to read it, a sentence each.
    """

    columns: List[Column]
    rows: Dict[str, List[Row]]
    notes: List[str]

    def cells(self) -> List[List[str]]:
        """A row a system, its name first: mean ± standard deviation over its runs."""
        return [
            [system, *(_cell([run[c.key] for run in runs], c.digits) for c in self.columns)]
            for system, runs in self.rows.items()
        ]


def build_table(systems: Sequence[System], style: Style) -> Table:
    """Assess every run on every set; AUCs are in %.

    A measure that no system has is logged.

    Raises:
        UsageError: a run lacks a set that another one has, or sentences of it; or a measure is
            unknown.
    """
    check_measures(style.measures, (*MEASURES, *(EXPR + measure for measure in MEASURES)))
    sets = sets_of(systems)
    ood_sets = [name for name in sets if name.startswith(OOD_PREFIX)]
    seen: _Sentences = {}
    rows: Dict[str, List[Row]] = {system.name: [] for system in systems}
    runs = [(system.name, run) for system in systems for run in system.runs]
    for name, run in tqdm(runs, "assessing", unit="run", leave=False, disable=None):
        row, signature = _assess(run, sets, ood_sets, style, seen)
        rows[name].append(row)
    columns = _columns(style, row, ood_sets)
    for measure in style.measures if ood_sets else ():
        keys = [f"{name} {measure}" for name in ood_sets]
        if all(run[key] is None for runs in rows.values() for run in runs for key in keys):
            logger.warning("no system has the measure '%s'", measure)
    return Table(columns, rows, _notes(style, signature, rows, seen, ood_sets))


def _assess(
    run: Path, sets: Sequence[str], ood_sets: Sequence[str], style: Style, seen: _Sentences
) -> Tuple[Row, str]:
    """The values of one run, and the signature of its quality."""
    records, test = read_best(run / f"{TEST}.jsonl")
    _same_sentences(seen, TEST, run, test)
    quality = corpus_quality(records, style.metric)
    row: Row = {_quality_name(style): quality.value}
    for name, key in _LIKELIHOODS.items():
        if name in sets:
            row[key] = negative_log_likelihood(best(read_records(run / f"{name}.jsonl")))
    inside = combine(test, style.combination, style.temperature)
    for name in ood_sets:
        scores = read_scores(run / f"{name}.jsonl")
        _same_sentences(seen, name, run, scores)
        outside = combine(scores, style.combination, style.temperature)
        for measure in style.measures:
            auc = None
            if measure in inside and measure in outside:
                auc = 100 * detect(inside[measure], outside[measure], 0).roc_auc.value
            row[f"{name} {measure}"] = auc
    return row, quality.signature


def _columns(style: Style, row: Row, ood_sets: Sequence[str]) -> List[Column]:
    quality = _quality_name(style)
    columns = [Column("", quality, quality, 1)]
    columns += [Column("", key, key, 2) for key in _LIKELIHOODS.values() if key in row]
    for name in ood_sets:
        group = set_name(name)
        columns += [Column(group, m, f"{name} {m}", 1) for m in style.measures]
    return columns


def _quality_name(style: Style) -> str:
    return {Metric.bleu: "BLEU", Metric.chrf: "chrF", Metric.wer: "WER"}[style.metric]


def _same_sentences(seen: _Sentences, name: str, run: Path, scores: SequenceScores) -> None:
    own = np.unique(scores.ids)
    other, expected = seen.setdefault(name, (run, own))
    odd = np.setxor1d(own, expected)
    if len(odd):
        raise UsageError(
            f"{run}/{name}.jsonl and {other}/{name}.jsonl have not the same sentences: only one "
            f"has id {odd[0]}, and {len(odd) - 1} more differ"
        )


def _notes(
    style: Style,
    signature: str,
    rows: Dict[str, List[Row]],
    seen: _Sentences,
    ood_sets: Sequence[str],
) -> List[str]:
    notes = [f"{_quality_name(style)} in %: `{signature}`, {len(seen[TEST][1])} sentences."]
    measured = next(iter(rows.values()))[0]
    targets = {"NLL": "references", "NLL Ens-Pred": "the ensemble's output"}
    of_what = " and on ".join(text for key, text in targets.items() if key in measured)
    if of_what:
        notes[0] += f" NLL: nats a token, on {of_what}."
    if ood_sets:
        of = {
            Combination.best: "the best hypothesis",
            Combination.mean: "the n-best list (plain mean)",
            Combination.weighted: f"the n-best list (weights exp(ln P / {style.temperature:g}))",
        }[style.combination]
        sizes = ", ".join(f"{set_name(name)} {len(seen[name][1])}" for name in ood_sets)
        notes.append(
            f"Other columns: ROC-AUC in % of the test set against out-of-domain sentences "
            f"({sizes}), by the mean of a measure over the tokens of {of}; {MISSING}: the model "
            "has no such measure."
        )
    several = [f"{name} ({len(runs)})" for name, runs in rows.items() if len(runs) > 1]
    if several:
        notes.append(
            f"Mean ± standard deviation over runs: {', '.join(several)}; all else one run."
        )
    return notes


def _cell(values: List[Optional[float]], digits: int) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return MISSING
    text = f"{np.mean(known):.{digits}f}"
    return text + (f" ± {np.std(known, ddof=1):.{digits}f}" if len(known) > 1 else "")
