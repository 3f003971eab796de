"""Errors of one run, and the quality of uncertainty as their detector."""

import logging
from dataclasses import dataclass
from typing import Dict, Mapping, NamedTuple

import numpy as np

from ..assess import (
    Metric,
    Rejection,
    Reliability,
    RunSummary,
    WordScores,
    rejection,
    reliability_diagram,
    sentence_errors,
    word_errors,
    word_scores,
)
from ..assess.table import Column, Row
from ..errors import UsageError
from ..records import EXPR_PREFIX, RecordSet

logger = logging.getLogger(__name__)

_MEASURES = ("total", "rmi", "score")
_CONFIDENCES = {"PrEx": "score", "ExPr": f"{EXPR_PREFIX}score"}
ERROR_COLUMNS = [
    Column("", "Wrong words %", "wrong", 1),
    Column("", "ECE %", "ece", 1),
    *(Column("PRR of sentences", name, f"prr {name}", 2) for name in _MEASURES),
    *(Column("ROC-AUC of wrong words", name, f"word {name}", 1) for name in _MEASURES),
]


@dataclass(frozen=True)
class RunErrors:
    """Errors of the test set of a run.

    Attributes:
        rejections: rejection curves by measure, over the errors of sentences.
        diagrams: word-level calibration by way of combining an ensemble's members.
        row: a row of :data:`ERROR_COLUMNS`.
    """

    rejections: Dict[str, Rejection]
    diagrams: Dict[str, Reliability]
    row: Row


class Run(NamedTuple):
    """One run of a system, as tables and plots show it.

    Attributes:
        summary: its values of sentences.
        errors: its errors on the test set.
        scored: total and RMI of given outputs (:func:`~fairseq_pdd.assess.layout.is_scored`), by
            set, with those of tokens.
    """

    summary: RunSummary
    errors: RunErrors
    scored: Dict[str, RecordSet]


def assess_errors(
    outputs: RecordSet, uncertainty: Mapping[str, np.ndarray], metric: Metric
) -> RunErrors:
    """Assess the errors of sentences and words.

    Words are skipped, with a warning, where tokens do not spell them or all are right or wrong.

    Args:
        outputs: the S best hypotheses of the test set, with their tokens.
        uncertainty: ``[S]`` by measure.
        metric: metric of the errors of sentences.

    Raises:
        UsageError: a reference is missing.
    """
    errors = sentence_errors(outputs, metric)
    rejections = {
        name: rejection(errors, uncertainty[name]) for name in _MEASURES if name in uncertainty
    }
    row: Row = {column.key: None for column in ERROR_COLUMNS}
    row.update({f"prr {name}": curve.prr for name, curve in rejections.items()})
    diagrams: Dict[str, Reliability] = {}
    try:
        words = word_scores(outputs)
        row["wrong"] = 100 * float(1 - words.correct.mean())
        diagrams = _diagrams(words)  # they remain where detection is impossible
        if "PrEx" in diagrams:
            row["ece"] = 100 * diagrams["PrEx"].ece
        row.update(_word_row(words))
    except UsageError as error:
        logger.warning("%s, words: %s", outputs.name, error)
    return RunErrors(rejections, diagrams, row)


def _diagrams(words: WordScores) -> Dict[str, Reliability]:
    if len(np.unique(words.sentences)) == 1:  # the words of one output are no sample
        return {}
    return {
        kind: reliability_diagram(np.exp(-words.measures[name]), words.correct)
        for kind, name in _CONFIDENCES.items()
        if name in words.measures
    }


def _word_row(words: WordScores) -> Row:
    found = word_errors(words)
    areas = {name: found[name].roc_auc for name in _MEASURES if name in found}
    return {f"word {n}": None if area is None else 100 * area for n, area in areas.items()}
