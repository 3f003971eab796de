"""Faithfulness: agreement of a student's measures with its ensemble's on the same outputs."""

import enum
import logging
from pathlib import Path
from typing import Dict, Mapping, NamedTuple, Optional, Sequence

import numpy as np

from ..errors import UsageError
from ..records import EXPR_PREFIX, RecordSet
from .ood import Estimate, check_same_measures, detect, log_undefined
from .scores import combine
from .sentences import check_same_sentences, sentences_of

logger = logging.getLogger(__name__)

TOTAL = "total"
# sentences below which no correlation is defined; each measure that is partialled out needs one
_LEAST = 3
# 1 - r² below which a measure determines another, so that nothing is left to correlate
_NOTHING = 1e-9


class Level(str, enum.Enum):
    """Unit of a correlation: all tokens of a set, or its sentences."""

    token = "token"
    sentence = "sentence"


class Faithfulness(NamedTuple):
    """Rank correlations (Spearman) that concern one measure, in [-1, 1].

    Attributes:
        spearman: student's and ensemble's values of the measure.
        given_total: the same, with the student's total uncertainty partialled out.
        given_total_and_length: the same, with the length of the output partialled out, too;
            sentences only.
        by_total: the student's total uncertainty and the ensemble's values of the measure.
        student_coupling: the measure and total uncertainty, both of the student.
        ensemble_coupling: the same of the ensemble.

    ``None`` where it is not defined, or trivial: a system has no such measure, a measure has one
    value only or follows from what is partialled out, or there are too few sentences.
    """

    spearman: Optional[Estimate] = None
    given_total: Optional[Estimate] = None
    given_total_and_length: Optional[Estimate] = None
    by_total: Optional[Estimate] = None
    student_coupling: Optional[Estimate] = None
    ensemble_coupling: Optional[Estimate] = None


class WithoutTotal(NamedTuple):
    """ROC-AUC of out-of-domain detection by a measure, and by its part that total does not explain.

    Attributes:
        roc_auc: detection by the measure; ``None`` where it is not defined.
        residual: detection by the measure with total uncertainty regressed out; 0.5 where it is
            chance, ``None`` where nothing is left.
    """

    roc_auc: Optional[Estimate]
    residual: Optional[Estimate]


def check_same_outputs(student: RecordSet, ensemble: RecordSet) -> None:
    """Refuse files of different outputs.

    Args:
        student: one hypothesis per sentence, with its tokens.
        ensemble: the same of the other system.

    Raises:
        UsageError: names both files and the first id that differs.
    """
    check_same_sentences(
        sentences_of(Path(ensemble.name), ensemble), sentences_of(Path(student.name), student)
    )
    for index, number in enumerate(student.ids.tolist()):
        if student.tokens.symbols(index) != ensemble.tokens.symbols(index):
            raise UsageError(
                f"{student.name} and {ensemble.name} have different outputs, first of id {number}: "
                "score the same ones with fairseq-generate --score-reference"
            )


def plain_measures(records: RecordSet, level: Level) -> Dict[str, np.ndarray]:
    """Return the measures of outputs, without an ensemble's ``expr``.

    Args:
        records: one hypothesis per sentence, with its tokens.
        level: tokens, which gives ``[T]``, or sentences, which gives ``[S]``.

    Raises:
        UsageError: see :func:`~fairseq_pdd.assess.combine`; sentences only.
    """
    values = records.tokens.measures if level is Level.token else combine(records)
    return {name: column for name, column in values.items() if not name.startswith(EXPR_PREFIX)}


def faithfulness_of(
    student: RecordSet,
    ensemble: RecordSet,
    level: Level,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Dict[str, Faithfulness]:
    """Correlate the measures of two systems on the same outputs.

    Values are ranked over all tokens or all sentences; ties have their mean rank. A partial
    correlation is Pearson's correlation of what least squares leaves of the ranks.

    Confidence intervals are those of the percentile bootstrap over sentences, each drawn with all
    its tokens. Every resample is ranked anew. Resamples in which a number is not defined do not
    count for it.

    Args:
        student: one hypothesis per sentence, with its tokens.
        ensemble: the same outputs. Its plain measures are used, not ``expr``.
        level: unit of the correlations.
        resamples: number of resamples; 0 gives intervals of no width.
        confidence: level of the intervals.
        seed: seed of the resamples.

    Returns:
        Correlations by measure of the ensemble.

    Raises:
        UsageError: the outputs differ, or a system has no measure.
    """
    check_same_outputs(student, ensemble)
    columns = {}
    for system, records in (("student", student), ("ensemble", ensemble)):
        for name, values in plain_measures(records, level).items():
            columns[f"{system} {name}"] = values
            if len(np.unique(values)) == 1:
                logger.warning(
                    "%s: %s has the same value for every %s, so its correlations are not defined",
                    records.name,
                    name,
                    level.value,
                )
    size = len(ensemble)
    sentences = np.arange(size)
    if level is Level.token:
        sentences = np.repeat(sentences, ensemble.lengths)
    else:
        columns["length"] = ensemble.lengths
    if size < _LEAST:
        logger.warning("%s: fewer than %d sentences: nothing is defined", ensemble.name, _LEAST)
    drawn = _correlations(list(columns.values()), sentences, resamples, seed)
    index = {name: number for number, name in enumerate(columns)}

    def estimate(x: str, y: str, *given: str) -> Optional[Estimate]:
        if not index.keys() >= {x, y, *given} or size < _LEAST + len(given):
            return None
        values = partial_correlation(drawn, index[x], index[y], [index[name] for name in given])
        return _estimate(values, confidence)

    result = {}
    for column in columns:
        system, _, name = column.partition(" ")
        if system != "ensemble":
            continue
        ours, total = f"student {name}", f"student {TOTAL}"
        found = Faithfulness(spearman=estimate(ours, column), by_total=estimate(total, column))
        if name != TOTAL:
            found = found._replace(
                given_total=estimate(ours, column, total),
                given_total_and_length=estimate(ours, column, total, "length"),
                student_coupling=estimate(ours, total),
                ensemble_coupling=estimate(column, f"ensemble {TOTAL}"),
            )
        result[name] = found
    return result


def partial_correlation(matrix: np.ndarray, x: int, y: int, given: Sequence[int]) -> np.ndarray:
    """Compute ``r_xy.z = (r_xy - r_xz r_yz) / sqrt((1 - r_xz²)(1 - r_yz²))``.

    Args:
        matrix: ``[…, K, K]``, correlations of K variables.
        x: index of a variable.
        y: index of another.
        given: indices of those that are partialled out, one after the other.

    Returns:
        ``[…]``; NaN where x or y follows from the others.
    """
    if not given:
        return matrix[..., x, y]
    *others, z = given
    xy, xz, yz = (partial_correlation(matrix, a, b, others) for a, b in ((x, y), (x, z), (y, z)))
    left_x, left_y = 1 - xz**2, 1 - yz**2
    left = np.where(np.minimum(left_x, left_y) > _NOTHING, left_x * left_y, np.nan)
    return np.asarray((xy - xz * yz) / np.sqrt(left))


def detect_without_total(
    in_domain: Mapping[str, np.ndarray],
    out_of_domain: Mapping[str, np.ndarray],
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Dict[str, WithoutTotal]:
    """Detect out-of-domain input by each measure of a system, with total regressed out.

    A straight line by least squares, fitted to the in-domain sentences, predicts the rank of the
    measure from the rank of total; the residuals detect. Ranks are over the sentences of both
    sets. A measure that is a function of total, rising but not linear, thus detects nothing,
    which is not true for a line through values; and ranks of infinite values are finite.
    Intervals are those of the percentile bootstrap, which draws the sentences of either set, ranks
    them and fits the line anew.

    Args:
        in_domain: ``[N]`` by measure; may be infinite.
        out_of_domain: ``[M]`` by measure.
        resamples: number of resamples; 0 gives intervals of no width.
        confidence: level of the intervals.
        seed: seed of the resamples.

    Returns:
        By measure, without total; empty where the system has no total.

    Raises:
        UsageError: the two do not have the same measures, or a value is NaN.
    """
    check_same_measures(in_domain, out_of_domain)
    if TOTAL not in in_domain:
        return {}
    size = len(in_domain[TOTAL])
    columns = {
        name: np.concatenate([values, out_of_domain[name]]) for name, values in in_domain.items()
    }
    result = {}
    for name, values in columns.items():
        if name == TOTAL:
            continue
        log_undefined(name, values[:size], values[size:])
        found = detect(values[:size], values[size:], resamples, confidence, seed)
        residual = None
        if found is not None:
            areas = _residual_areas(columns[TOTAL], values, size, resamples, seed)
            residual = _estimate(areas, confidence)
            if residual is None:
                logger.warning("%s follows from total: nothing is left that could detect", name)
        result[name] = WithoutTotal(None if found is None else found.roc_auc, residual)
    return result


def _correlations(
    columns: Sequence[np.ndarray], sentences: np.ndarray, resamples: int, seed: int
) -> np.ndarray:
    """Compute Spearman's correlations of the sample and of resamples of its sentences.

    A resample is a count of sentences, so ranking it takes no sort: the values are sorted once.

    Args:
        columns: K columns ``[N]``.
        sentences: ``[N]``, index of the sentence of each value, ascending from 0.
        resamples: number of resamples.
        seed: seed of the resamples.

    Returns:
        ``[1 + resamples, K, K]``, the sample first; NaN for a column with one value only.
    """
    rng = np.random.default_rng(seed)
    size = int(sentences[-1]) + 1
    codes = [_codes(column) for column in columns]
    result = np.empty((1 + resamples, len(columns), len(columns)))
    for number in range(1 + resamples):
        weights = (_draw(rng, size) if number else np.ones(size))[sentences]
        ranks = np.stack([_ranks(code, weights) for code in codes]) - weights.sum() / 2
        products = (ranks * weights) @ ranks.T
        spread = np.sqrt(np.diag(products))
        with np.errstate(invalid="ignore"):  # 0 / 0 in a column with one value only
            result[number] = np.clip(products / np.outer(spread, spread), -1, 1)
    return result


def _residual_areas(
    total: np.ndarray, values: np.ndarray, size: int, resamples: int, seed: int
) -> np.ndarray:
    """Compute the area under the ROC curve of residuals, of the sample and of resamples.

    Args:
        total: ``[N + M]``, the in-domain sentences first.
        values: ``[N + M]``, the measure to regress on it.
        size: N.
        resamples: number of resamples.
        seed: seed of the resamples.

    Returns:
        ``[1 + resamples]``, the sample first; NaN where all residuals are equal.
    """
    rng = np.random.default_rng(seed)
    codes = _codes(total), _codes(values)
    others = len(total) - size
    result = np.full(1 + resamples, np.nan)
    for number in range(1 + resamples):
        weights = np.ones(len(total))
        if number:
            weights = np.concatenate([_draw(rng, size), _draw(rng, others)])
        ranks = [_ranks(code, weights) for code in codes]
        x, y = (column - weights[:size] @ column[:size] / size for column in ranks)
        spread = weights[:size] @ x[:size] ** 2
        slope = weights[:size] @ (x * y)[:size] / spread if spread > 0 else 0.0
        # rounding errors have no order
        residuals = np.round(y - slope * x, 6)
        if np.ptp(residuals[weights > 0]) > 0:
            above = weights[size:] @ _ranks(_codes(residuals), weights)[size:] / others
            result[number] = (above - others / 2) / size
    return result


def _codes(column: np.ndarray) -> np.ndarray:
    """Return the index of each value among the sorted distinct ones."""
    return np.unique(column, return_inverse=True)[1]


def _draw(rng: np.random.Generator, size: int) -> np.ndarray:
    """Count how often each of ``size`` sentences is in a sample with replacement."""
    return np.bincount(rng.integers(0, size, size), minlength=size).astype(float)


def _ranks(codes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the mean rank of each value, from 0, where a value counts ``weights`` times."""
    ties = np.bincount(codes, weights)
    return (np.cumsum(ties) - ties / 2)[codes]


def _estimate(values: np.ndarray, confidence: float) -> Optional[Estimate]:
    """Return the first value, with the interval of the others; NaN is not defined."""
    if np.isnan(values[0]):
        return None
    known = values[1:][~np.isnan(values[1:])]
    tail = (1 - confidence) / 2
    low, high = np.quantile(known if len(known) else values[:1], [tail, 1 - tail])
    return Estimate(float(values[0]), float(low), float(high))
