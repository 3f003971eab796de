"""Detection of out-of-domain input by a measure of uncertainty."""

import logging
from typing import Dict, List, NamedTuple, Optional

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from ..errors import UsageError
from .records import Record
from .scores import check_measures, sequence_scores

logger = logging.getLogger(__name__)

TPR = 0.95
# bounds the memory of the bootstrap: numbers in a table of resamples by values
_MAX_ELEMENTS = 1 << 22


class Estimate(NamedTuple):
    """A number with the ends of its bootstrap confidence interval."""

    value: float
    low: float
    high: float


class Detection(NamedTuple):
    """How well a measure tells out-of-domain input (positive) from in-domain input.

    Attributes:
        roc_auc: chance that an out-of-domain sentence is the more uncertain one; 0.5 says nothing.
        aupr: area under precision and recall (average precision); the share of out-of-domain
            sentences among all says nothing.
        fpr95: share of in-domain sentences that are flagged where the threshold flags at least
            95 % of the out-of-domain ones.
    """

    roc_auc: Estimate
    aupr: Estimate
    fpr95: Estimate


def detect(
    in_domain: np.ndarray,
    out_of_domain: np.ndarray,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Detection:
    """Assess a measure.

    Confidence intervals are those of the percentile bootstrap, the sentences of either set drawn
    with replacement. ``scipy.stats.bootstrap`` gives the same but sorts anew for each resample:
    here a resample is a count of the sorted values, and a thousand of them take seconds for
    10,000 sentences.

    Args:
        in_domain: ``[N]``, a value a sentence; may be infinite.
        out_of_domain: ``[M]``.
        resamples: of the bootstrap; 0 leaves intervals of no width.
        confidence: of the intervals.
        seed: of the bootstrap.
    """
    labels = np.repeat([0, 1], [len(in_domain), len(out_of_domain)])
    # only the order of values counts, and ranks are finite
    _, ranks = np.unique(np.concatenate([in_domain, out_of_domain]), return_inverse=True)
    fpr, tpr, _ = roc_curve(labels, ranks)
    values = (
        float(roc_auc_score(labels, ranks)),
        float(average_precision_score(labels, ranks)),
        float(fpr[np.argmax(tpr >= TPR)]),
    )
    if resamples == 0:
        return Detection(*(Estimate(value, value, value) for value in values))
    drawn = _bootstrap(ranks[labels == 0], ranks[labels == 1], resamples, seed)
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)
    return Detection(*(Estimate(v, float(a), float(b)) for v, a, b in zip(values, low, high)))


def detect_all(
    in_domain: Dict[str, np.ndarray],
    out_of_domain: Dict[str, np.ndarray],
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Dict[str, Detection]:
    """:func:`detect` by each measure that the system has; one that never varies is logged.

    Raises:
        UsageError: the two have not the same measures.
    """
    if in_domain.keys() != out_of_domain.keys():
        odd = ", ".join(sorted(in_domain.keys() ^ out_of_domain.keys()))
        raise UsageError(f"only one of the two files has {odd}: are they of one system?")
    for name, values in in_domain.items():
        if len(np.unique(np.concatenate([values, out_of_domain[name]]))) == 1:
            logger.warning("%s has the same value for every sentence, so it detects nothing", name)
    return {
        name: detect(values, out_of_domain[name], resamples, confidence, seed)
        for name, values in in_domain.items()
    }


def roc_auc(in_domain: List[Record], out_of_domain: List[Record], measure: str) -> Optional[float]:
    """Area under the ROC curve of a sequence-level measure, out-of-domain being positive.

    Args:
        in_domain: one record a sentence.
        out_of_domain: one record a sentence.
        measure: key of the records' ``sequence``, such as ``total`` or ``rmi``, or of an
            ensemble's ``expr``, such as ``expr.rmi``.

    Returns:
        A number in [0, 1], 0.5 for a measure that tells nothing; ``None`` where the model has no
        such measure.

    Raises:
        UsageError: the measure is unknown.
    """
    columns = []
    for records in (in_domain, out_of_domain):
        scores = sequence_scores(records)
        if measure in scores.absent:
            return None
        check_measures([measure], [*scores.measures, *scores.absent])
        columns.append(scores.measures[measure])
    return detect(columns[0], columns[1], resamples=0).roc_auc.value


def _bootstrap(inside: np.ndarray, outside: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """ROC-AUC, AUPR and FPR of ``resamples`` draws, ``[resamples, 3]``, from ranks."""
    rng = np.random.default_rng(seed)
    size = int(max(inside.max(), outside.max())) + 1
    # thresholds fall along an axis of V distinct values
    inside, outside = size - 1 - inside, size - 1 - outside
    chunk = max(1, _MAX_ELEMENTS // size)
    results = []
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        negatives = _draw(rng, inside, rows, size)
        positives = _draw(rng, outside, rows, size)
        false, true = np.cumsum(negatives, axis=1), np.cumsum(positives, axis=1)
        n, m = len(inside), len(outside)
        areas = np.einsum("rv,rv->r", negatives, true - positives / 2) / (n * m)
        # where nothing is flagged yet there is no positive to weight the precision with
        precision = true / np.maximum(true + false, 1)
        aupr = np.einsum("rv,rv->r", positives, precision) / m
        first = np.argmax(true / m >= TPR, axis=1)
        fpr = np.take_along_axis(false, first[:, None], axis=1)[:, 0] / n
        results.append(np.stack([areas, aupr, fpr], axis=1))
    return np.concatenate(results)


def _draw(rng: np.random.Generator, ranks: np.ndarray, rows: int, size: int) -> np.ndarray:
    """How often each rank comes in samples with replacement, ``[rows, size]``."""
    drawn = ranks[rng.integers(0, len(ranks), (rows, len(ranks)))]
    drawn += np.arange(rows)[:, None] * size
    return np.bincount(drawn.ravel(), minlength=rows * size).reshape(rows, size)
