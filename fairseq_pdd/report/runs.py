"""One run of a system: what the tables and plots of the page are made of."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Sequence

import numpy as np

from ..assess import (
    Metric,
    Record,
    Rejection,
    Reliability,
    combine,
    read_best,
    read_scores,
    rejection,
    reliability_diagram,
    sentence_errors,
    word_errors,
    word_scores,
)
from ..assess.layout import TEST
from ..assess.scores import EXPR
from ..assess.table import Column, Row
from ..errors import UsageError

logger = logging.getLogger(__name__)

_MEASURES = ("total", "rmi", "score")
_CONFIDENCES = {"PrEx": "score", "ExPr": EXPR + "score"}
ERRORS = {
    Metric.bleu: "1 − sentence BLEU",
    Metric.chrf: "1 − chrF",
    Metric.wer: "word error rate",
}
ERROR_COLUMNS = [
    Column("", "Wrong words %", "wrong", 1),
    Column("", "ECE %", "ece", 1),
    *(Column("PRR of sentences", name, f"prr {name}", 2) for name in _MEASURES),
    *(Column("ROC-AUC of wrong words", name, f"word {name}", 1) for name in _MEASURES),
]


@dataclass(frozen=True)
class Run:
    """Measures and errors of a run.

    Attributes:
        inside: by measure ``[S]``, the best hypotheses of the test set.
        outside: the same of each out-of-domain set.
        rejections: by measure, over the errors of the test set.
        diagrams: word-level calibration, for each way of combining an ensemble's members.
        errors: a row of :data:`ERROR_COLUMNS`.
    """

    inside: Dict[str, np.ndarray]
    outside: Dict[str, Dict[str, np.ndarray]]
    rejections: Dict[str, Rejection]
    diagrams: Dict[str, Reliability]
    errors: Row


def assess_run(folder: Path, ood_sets: Sequence[str], metric: Metric) -> Run:
    """Read and assess a run.

    Words are left out, with a warning, where tokens do not spell them or all are right or wrong.

    Args:
        folder: of the run's records.
        ood_sets: files there, without ending.
        metric: of the errors of sentences.

    Raises:
        UsageError: a file holds no records, or the test set no references.
    """
    records, scores = read_best(folder / f"{TEST}.jsonl")
    inside = combine(scores)
    errors = sentence_errors(records, metric)
    rejections = {name: rejection(errors, inside[name]) for name in _MEASURES if name in inside}
    row: Row = {column.key: None for column in ERROR_COLUMNS}
    row.update({f"prr {name}": curve.prr for name, curve in rejections.items()})
    diagrams: Dict[str, Reliability] = {}
    try:
        row.update(_assess_words(records, diagrams))
    except UsageError as error:
        logger.warning("%s/%s.jsonl, words: %s", folder, TEST, error.message)
    outside = {name: combine(read_scores(folder / f"{name}.jsonl")) for name in ood_sets}
    return Run(inside, outside, rejections, diagrams, row)


def _assess_words(records: List[Record], diagrams: Dict[str, Reliability]) -> Row:
    words = word_scores(records)
    for kind, name in _CONFIDENCES.items():
        if name in words.measures:
            diagrams[kind] = reliability_diagram(np.exp(-words.measures[name]), words.correct)
    found = word_errors(words)
    return {
        "wrong": 100 * float(1 - words.correct.mean()),
        "ece": 100 * diagrams["PrEx"].ece,
        **{f"word {name}": 100 * found[name].roc_auc for name in _MEASURES if name in found},
    }
