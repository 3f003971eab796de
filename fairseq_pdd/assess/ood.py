"""Detection of out-of-domain input by a measure of uncertainty."""

import logging
from pathlib import Path
from typing import Dict, Iterable, Mapping, NamedTuple, Optional

import numpy as np

from ..errors import UsageError
from ..records import RecordSet
from .layout import label_of
from .scores import check_measures, check_values

logger = logging.getLogger(__name__)

TPR = 0.95
# limit of the bootstrap's memory: numbers in a table of resamples by values
_MAX_ELEMENTS = 1 << 22


class Estimate(NamedTuple):
    """A number with the ends of its bootstrap confidence interval."""

    value: float
    low: float
    high: float


class Detection(NamedTuple):
    """Quality of a measure as a detector of out-of-domain input (positive).

    Attributes:
        roc_auc: probability that an out-of-domain sentence is more uncertain than an in-domain
            one; 0.5 is chance.
        aupr: area under precision and recall (average precision); the share of out-of-domain
            sentences is chance.
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
) -> Optional[Detection]:
    """Assess a measure.

    Confidence intervals are those of the percentile bootstrap, which draws the sentences of
    either set with replacement. ``scipy.stats.bootstrap`` gives the same but sorts again for each
    resample: here a resample is a count of the sorted values, and a thousand of them take seconds
    for 10,000 sentences.

    Args:
        in_domain: ``[N]``, a value per sentence; may be infinite.
        out_of_domain: ``[M]``, the same.
        resamples: number of resamples; 0 gives intervals of no width.
        confidence: level of the intervals.
        seed: seed of the resamples.

    Returns:
        ``None`` where detection is not defined, see :func:`why_undefined`.

    Raises:
        UsageError: a value is NaN.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

    for name, column in (("in_domain", in_domain), ("out_of_domain", out_of_domain)):
        if len(column):
            check_values(**{name: column})
    if why_undefined(in_domain, out_of_domain):
        return None
    labels = np.repeat([0, 1], [len(in_domain), len(out_of_domain)])
    # only the order of values matters, and ranks are finite
    _, ranks = np.unique(np.concatenate([in_domain, out_of_domain]), return_inverse=True)
    # every threshold counts: scikit-learn drops those on a straight line of the curve
    fpr, tpr, _ = roc_curve(labels, ranks, drop_intermediate=False)
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


def why_undefined(in_domain: np.ndarray, out_of_domain: np.ndarray) -> str:
    """Return the reason for which detection by a measure is not defined; empty if it is."""
    if min(len(in_domain), len(out_of_domain)) < 2:
        return "is of a set with one sentence"
    if len(np.unique(np.concatenate([in_domain, out_of_domain]))) == 1:
        return "has the same value for every sentence"
    return ""


def detect_all(
    in_domain: Dict[str, np.ndarray],
    out_of_domain: Dict[str, np.ndarray],
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Dict[str, Optional[Detection]]:
    """Assess each measure with :func:`detect`; log a measure whose detection is not defined.

    Raises:
        UsageError: the two do not have the same measures.
    """
    check_same_measures(in_domain, out_of_domain)
    for name, values in in_domain.items():
        log_undefined(name, values, out_of_domain[name])
    return {
        name: detect(values, out_of_domain[name], resamples, confidence, seed)
        for name, values in in_domain.items()
    }


def check_same_measures(in_domain: Iterable[str], out_of_domain: Iterable[str]) -> None:
    """Refuse sets of different systems.

    Args:
        in_domain: measures of one set.
        out_of_domain: measures of the other.

    Raises:
        UsageError: the two do not have the same measures.
    """
    odd = set(in_domain) ^ set(out_of_domain)
    if odd:
        raise UsageError(
            f"only one of the two files has {', '.join(sorted(odd))}: are they of one system?"
        )


def log_copies(
    first: Path, second: Path, ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]
) -> None:
    """Log two files or folders that have the same values in every sentence."""
    if ours.keys() == theirs.keys() and all(
        np.array_equal(values, theirs[name]) for name, values in ours.items()
    ):
        logger.warning(
            "%s and %s have the same values in every sentence: is one a copy of the other?",
            label_of(str(first)),
            label_of(str(second)),
        )


def log_undefined(name: str, in_domain: np.ndarray, out_of_domain: np.ndarray) -> None:
    """Log a measure whose detection is not defined."""
    reason = why_undefined(in_domain, out_of_domain)
    if reason:
        logger.warning("%s %s: ROC-AUC, AUPR and FPR@95 are not defined", name, reason)


def roc_auc(in_domain: RecordSet, out_of_domain: RecordSet, measure: str) -> Optional[float]:
    """Compute the area under the ROC curve of a sequence-level measure, out-of-domain positive.

    Args:
        in_domain: one hypothesis per sentence.
        out_of_domain: one hypothesis per sentence.
        measure: name of a column, such as ``total``, ``rmi`` or ``expr.rmi``.

    Returns:
        A number in [0, 1], 0.5 for chance; ``None`` where the model has no such measure, or where
        detection is not defined.

    Raises:
        UsageError: the measure is unknown.
    """
    columns = []
    for records in (in_domain, out_of_domain):
        if measure in records.absent:
            return None
        check_measures([measure], [*records.measures, *records.absent])
        columns.append(records.measures[measure])
    found = detect(columns[0], columns[1], resamples=0)
    return None if found is None else found.roc_auc.value


def _bootstrap(inside: np.ndarray, outside: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Compute ROC-AUC, AUPR and FPR of resamples from ranks; returns ``[resamples, 3]``."""
    rng = np.random.default_rng(seed)
    size = int(max(inside.max(), outside.max())) + 1
    # reverse the ranks: the threshold falls from left to right
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
        # no flag at all has precision 0 / 0, with weight 0
        precision = true / np.maximum(true + false, 1)
        aupr = np.einsum("rv,rv->r", positives, precision) / m
        first = np.argmax(true / m >= TPR, axis=1)
        fpr = np.take_along_axis(false, first[:, None], axis=1)[:, 0] / n
        results.append(np.stack([areas, aupr, fpr], axis=1))
    return np.concatenate(results)


def _draw(rng: np.random.Generator, ranks: np.ndarray, rows: int, size: int) -> np.ndarray:
    """Count each rank in samples with replacement; returns ``[rows, size]``."""
    drawn = ranks[rng.integers(0, len(ranks), (rows, len(ranks)))]
    drawn += np.arange(rows)[:, None] * size
    return np.bincount(drawn.ravel(), minlength=rows * size).reshape(rows, size)
