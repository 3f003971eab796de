"""Sequence-level measures of a file as columns, and what an n-best list as a whole says."""

import enum
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, Optional, Tuple, Union

import numpy as np

from ..errors import UsageError
from .records import Record, best, iter_records

logger = logging.getLogger(__name__)

# what fairseq-generate writes with this plugin; ensembles have all again under `expr.`
MEASURES = ("total", "data", "mutual_information", "epkl", "rmi", "score", "rmi_score")
EXPR = "expr."


class Combination(str, enum.Enum):
    """How the measures of an n-best list become those of its sentence."""

    best = "best"
    mean = "mean"
    weighted = "weighted"


@dataclass(frozen=True)
class SequenceScores:
    """What a file says of its sequences: N hypotheses, those of a sentence together by rank.

    Attributes:
        name: of the file, for messages.
        ids: ``[N]``, ascending.
        log_probs: ``ln P(y|x)``, ``[N]``; under the key ``expr.`` that of the expectation of
            products.
        measures: ``[N]`` each, nats a token, of those that the model has; ``expr.total`` and so
            on are an ensemble's combined as an expectation of products. A value that was too
            large for a number is infinite.
        absent: names of measures that the records have a place for but the model has not.
    """

    name: str
    ids: np.ndarray
    log_probs: Dict[str, np.ndarray]
    measures: Dict[str, np.ndarray]
    absent: List[str]


def read_scores(path: Union[str, Path]) -> SequenceScores:
    """Read the sequence-level values of a file.

    Raises:
        UsageError: as :func:`~fairseq_pdd.assess.read_records`, or measures are not the same in
            all lines.
    """
    return sequence_scores(iter_records(path), str(path))


def read_best(path: Union[str, Path]) -> Tuple[List[Record], SequenceScores]:
    """The best hypothesis of each sentence by ascending id, and :func:`read_scores` of all.

    Token values of other hypotheses, most of a large file, do not stay in memory.
    """
    firsts: List[Record] = []

    def note_firsts() -> Iterator[Record]:
        for record in iter_records(path):
            if record["rank"] == 0:
                firsts.append(record)
            yield record

    scores = sequence_scores(note_firsts(), str(path))
    return best(firsts), scores


def sequence_scores(records: Iterable[Record], name: str = "records") -> SequenceScores:
    """Columns of sequence-level values.

    Raises:
        UsageError: measures are not the same in all records, or no numbers.
    """
    keys: List[tuple] = []
    rows: List[List[Optional[float]]] = []
    columns: Optional[List[str]] = None
    for record in records:
        blocks = {"": record, **({EXPR: record["expr"]} if record.get("expr") else {})}
        names = [p + m for p, block in blocks.items() for m in ("log_prob", *block["sequence"])]
        if columns is None:
            columns = names
        elif names != columns:
            raise UsageError(
                f"{name}: id {record['id']} has other measures than the lines before it; are "
                "there several systems in the file?"
            )
        keys.append((record["id"], record["rank"]))
        rows.append(
            [
                v
                for block in blocks.values()
                for v in (block["log_prob"], *block["sequence"].values())
            ]
        )
    assert columns is not None, "no record"
    try:
        values = np.array(rows, dtype=np.float64)  # null becomes NaN
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name}: a sequence-level value is no number: {error}") from error
    order = sorted(range(len(keys)), key=keys.__getitem__)
    table = dict(zip(columns, values[order].T))
    log_probs = {p: table.pop(f"{p}log_prob") for p in ("", EXPR) if f"{p}log_prob" in table}
    absent = [measure for measure, column in table.items() if np.isnan(column).all()]
    measures = {
        measure: _infinite(column, f"{name}: {measure}")
        for measure, column in table.items()
        if measure not in absent
    }
    ids = np.array([keys[i][0] for i in order])
    return SequenceScores(name, ids, log_probs, measures, absent)


def check_measures(chosen: Iterable[str], known: Iterable[str]) -> None:
    """Refuse a measure that does not exist.

    Raises:
        UsageError: names it, and those that exist.
    """
    known = list(known)
    for name in chosen:
        if name not in known:
            raise UsageError(f"no measure '{name}' in the records: they have {', '.join(known)}")


def combine(
    scores: SequenceScores, how: Combination = Combination.best, temperature: float = 1.0
) -> Dict[str, np.ndarray]:
    """Measures of the S sentences of a file.

    Args:
        scores: of all hypotheses.
        how: the best hypothesis alone; the plain mean over the n-best list; or its mean with
            weights ``w_b ∝ exp(ln P(y_b|x) / T)``.
        temperature: T; large values approach the plain mean, small ones the most probable
            hypothesis.

    Returns:
        ``[S]`` for each measure, by ascending id.
    """
    _, starts, counts = np.unique(scores.ids, return_index=True, return_counts=True)
    if how is Combination.best:
        return {name: values[starts] for name, values in scores.measures.items()}
    if counts.max() == 1:
        logger.warning(
            "%s has one hypothesis a sentence, so there is nothing to combine: give "
            "fairseq-generate --nbest",
            scores.name,
        )
    if how is Combination.mean:
        weights = {prefix: np.repeat(1 / counts, counts) for prefix in scores.log_probs}
    else:
        weights = {
            prefix: _importance(log_probs / temperature, starts, counts)
            for prefix, log_probs in scores.log_probs.items()
        }
    result = {}
    for name, values in scores.measures.items():
        weight = weights[EXPR if name.startswith(EXPR) else ""]
        # an infinite value without weight says nothing
        with np.errstate(invalid="ignore"):
            terms = np.where(weight > 0, weight * values, 0.0)
        result[name] = np.add.reduceat(terms, starts)
    return result


def _importance(logits: np.ndarray, starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Softmax within each n-best list; a null log-probability is that of an impossible output."""
    logits = np.nan_to_num(logits, nan=-np.inf, neginf=-np.inf)
    largest = np.repeat(np.maximum.reduceat(logits, starts), counts)
    weights = np.exp(logits - np.where(np.isfinite(largest), largest, 0.0))
    sums = np.repeat(np.add.reduceat(weights, starts), counts)
    return np.where(
        sums > 0, weights / np.where(sums > 0, sums, 1.0), np.repeat(1 / counts, counts)
    )


def _infinite(column: np.ndarray, what: str) -> np.ndarray:
    nulls = np.isnan(column)
    if nulls.any():
        logger.warning(
            "%s is null in %d of %d hypotheses, which counts as the most uncertain: the model has "
            "hardly any evidence there, and the value was too large for a number",
            what,
            nulls.sum(),
            len(column),
        )
    return np.where(nulls, np.inf, column)
