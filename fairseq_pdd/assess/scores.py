"""Uncertainty of sentences: the measures of an n-best list, combined."""

import enum
import logging
from pathlib import Path
from typing import Dict, Iterable, Mapping

import numpy as np

from ..errors import UsageError
from ..records import EXPR_PREFIX, RecordSet

logger = logging.getLogger(__name__)


class Combination(str, enum.Enum):
    """Rule that makes one value per sentence of the measures of its n-best list."""

    best = "best"
    mean = "mean"
    weighted = "weighted"


def check_measures(names: Iterable[str], known: Iterable[str]) -> None:
    """Refuse a measure that does not exist.

    Raises:
        UsageError: names it, and those that exist.
    """
    known = list(known)
    for name in names:
        if name not in known:
            raise UsageError(f"no measure '{name}' in the records: they have {', '.join(known)}")


def check_values(**columns: np.ndarray) -> None:
    """Refuse columns that are not of the same length, are empty, or hold NaN.

    Args:
        columns: ``[N]`` each, by the name that messages give to it; may be infinite.

    Raises:
        UsageError: names the column.
    """
    sizes = {name: len(values) for name, values in columns.items()}
    if len(set(sizes.values())) > 1 or 0 in sizes.values():
        raise UsageError(f"the number of values must be the same, and not 0: {sizes}")
    for name, values in columns.items():
        odd = np.flatnonzero(np.isnan(values))
        if len(odd):
            raise UsageError(f"{name} is NaN at index {odd[0]}: give numbers only")


def check_temperature(temperature: float) -> None:
    """Refuse a temperature that is no positive number.

    Raises:
        UsageError: names it.
    """
    if not 0 < temperature < np.inf:
        raise UsageError(f"the temperature {temperature:g} is no positive number: 1 is usual")


def combine(
    records: RecordSet, how: Combination = Combination.best, temperature: float = 1.0
) -> Dict[str, np.ndarray]:
    """Compute the measures of the S sentences of a file.

    Infinite values, which are beyond float32, are logged.

    Args:
        records: all hypotheses.
        how: the best hypothesis alone; the plain mean over the n-best list; or its mean with
            weights ``w_b ∝ exp(ln P(y_b|x) / T)``.
        temperature: T; large values approach the plain mean, small ones the most probable
            hypothesis.

    Returns:
        ``[S]`` for each measure, by ascending id.

    Raises:
        UsageError: the temperature is no positive number, the model has no measure at all, or an
            n-best list has infinite values of either sign.
    """
    check_temperature(temperature)
    if not records.measures:
        raise UsageError(
            f"{records.name}: every measure is null, so the model has none: there is nothing to "
            "assess"
        )
    _log_infinite(records)
    _, starts, counts = np.unique(records.ids, return_index=True, return_counts=True)
    if how is Combination.best:
        return {name: values[starts] for name, values in records.measures.items()}
    if counts.max() == 1:
        logger.warning(
            "%s has one hypothesis per sentence, so there is nothing to combine: give "
            "fairseq-generate --nbest",
            records.name,
        )
    if how is Combination.mean:
        weights = {prefix: np.repeat(1 / counts, counts) for prefix in records.log_probs}
    else:
        weights = {
            prefix: _importance(log_probs, temperature, starts, counts)
            for prefix, log_probs in records.log_probs.items()
        }
    result = {}
    for name, values in records.measures.items():
        weight = weights[EXPR_PREFIX if name.startswith(EXPR_PREFIX) else ""]
        # an infinite value of weight 0 adds nothing
        with np.errstate(invalid="ignore"):
            terms = np.where(weight > 0, weight * values, 0.0)
            result[name] = np.add.reduceat(terms, starts)
        check_values(**{f"{records.name}: {name}": result[name]})
    return result


def check_same_lists(sizes: Mapping[Path, int], how: Combination) -> None:
    """Refuse to combine n-best lists of different sizes, whose means are not comparable.

    Args:
        sizes: size of the longest n-best list by file.
        how: rule for n-best lists; the best hypothesis alone needs no lists.

    Raises:
        UsageError: names two files of different sizes.
    """
    (first, size), *others = sizes.items()
    for path, other in others if how is not Combination.best else ():
        if other != size:
            raise UsageError(
                f"{first} has up to {size} hypotheses per sentence and {path} up to {other}, whose "
                f"means are not comparable: write both with one --nbest, or give --nbest "
                f"{Combination.best.value}"
            )


def _importance(
    log_probs: np.ndarray, temperature: float, starts: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """Compute the softmax within each n-best list; uniform where all outputs are impossible."""
    largest = np.repeat(np.maximum.reduceat(log_probs, starts), counts)
    # divide the differences, as the logarithms over a small temperature may all overflow
    with np.errstate(over="ignore"):
        weights = np.exp((log_probs - np.where(np.isfinite(largest), largest, 0.0)) / temperature)
    sums = np.repeat(np.add.reduceat(weights, starts), counts)
    return np.where(
        sums > 0, weights / np.where(sums > 0, sums, 1.0), np.repeat(1 / counts, counts)
    )


def _log_infinite(records: RecordSet) -> None:
    for name, values in records.measures.items():
        infinite = int(np.isinf(values).sum())
        if infinite:
            logger.warning(
                "%s: %s is beyond float32 in %d of %d hypotheses and counts as infinite: the model "
                "has hardly any evidence there",
                records.name,
                name,
                infinite,
                len(values),
            )
