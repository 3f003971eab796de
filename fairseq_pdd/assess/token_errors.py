"""Token errors: whether the words of an output that are wrong are the uncertain ones."""

import enum
import logging
from dataclasses import dataclass
from typing import Dict, List, NamedTuple, Optional, Tuple

import numpy as np
from scipy.stats import norm, rankdata
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score
from sklearn.model_selection import GroupKFold

from ..errors import UsageError
from .records import Record
from .scores import EXPR
from .words import correct_words, pieces_of_words

logger = logging.getLogger(__name__)

SCORE = "score"
_FOLDS = 5
# probabilities are written with 7 digits, so that of 1 may be as far from it as this
_LEAST = 2.0**-24


class Pieces(str, enum.Enum):
    """How the values of a word's pieces become the word's."""

    sum = "sum"
    max = "max"


@dataclass(frozen=True)
class WordScores:
    """The W words of all outputs.

    Attributes:
        sentences: ``[W]``, which output a word is of.
        correct: ``[W]``, whether it is right.
        measures: ``[W]`` for each measure that the model has, nats a word.
        absent: names of measures that the records have a place for but the model has not.
        left_out: outputs that are not among them, as their tokens do not spell their text.
    """

    sentences: np.ndarray
    correct: np.ndarray
    measures: Dict[str, np.ndarray]
    absent: List[str]
    left_out: int


class WordErrors(NamedTuple):
    """How well a measure tells wrong words (positive) from right ones.

    Attributes:
        aupr: area under precision and recall (average precision); the share of wrong words says
            nothing.
        roc_auc: chance that a wrong word is the more uncertain one; 0.5 says nothing.
        nce: normalised cross-entropy ``(H(r) - H(correct; p)) / H(r)`` of the word's own
            probability ``p = exp(-score)``, for ``score`` alone, with r the share of right
            words: 1 is perfect, 0 says nothing, negative is worse than r for every word.
        nce_calibrated: the same, with p from a logistic regression on the measure (in normal
            scores of its ranks, so that its scale does not count), fitted to the other four
            fifths of the outputs. ``None`` where there are too few wrong or right words.
    """

    aupr: float
    roc_auc: float
    nce: Optional[float]
    nce_calibrated: Optional[float]


def word_scores(records: List[Record], pieces: Pieces = Pieces.sum) -> WordScores:
    """Label the words of outputs, and give them measures.

    Args:
        records: one a sentence.
        pieces: a word's measure is the sum over its pieces, which for ``score`` is ``-ln`` of the
            word's probability and for entropies follows the chain rule; or the largest of them.

    Raises:
        UsageError: a reference is missing, no output is spelt by its tokens, or an output has
            not as many values as tokens.
    """
    kept, groups, tokens = [], [], 0
    positions: List[int] = []
    for record in records:
        if record.get("reference") is None:
            raise UsageError(f"id {record['id']} has no reference, so its errors are unknown")
        words = pieces_of_words(record["tokens"], record["hypothesis"])
        if words is None:
            continue
        for word in words:
            groups.append(len(positions))
            positions.extend(tokens + index for index in word)
        tokens += len(record["tokens"])
        kept.append((record, len(words)))
    left_out = len(records) - len(kept)
    if not groups:
        raise UsageError(
            "no output has words that its tokens spell: only SentencePiece's and subword-nmt's "
            "marks are known"
        )
    if left_out:
        logger.warning(
            "%d of %d outputs are left out: their tokens do not spell their text",
            left_out,
            len(records),
        )
    chosen = [record for record, _ in kept]
    labels = correct_words(
        [record["hypothesis"] for record in chosen], [record["reference"] for record in chosen]
    )
    columns, absent = _columns(chosen)
    reduce = np.add.reduceat if pieces is Pieces.sum else np.maximum.reduceat
    return WordScores(
        sentences=np.repeat(np.arange(len(kept)), [count for _, count in kept]),
        correct=np.array([right for sentence in labels for right in sentence]),
        measures={name: reduce(column[positions], groups) for name, column in columns.items()},
        absent=absent,
        left_out=left_out,
    )


def word_errors(words: WordScores) -> Dict[str, WordErrors]:
    """Assess each measure.

    Raises:
        UsageError: all words are right, or all are wrong.
    """
    if len(np.unique(words.correct)) == 1:
        what = "right" if words.correct[0] else "wrong"
        raise UsageError(f"every word is {what}: there are no errors to tell from the rest")
    wrong = ~words.correct
    result = {}
    for name, values in words.measures.items():
        ranks = rankdata(values)  # finite
        probable = np.exp(-values) if name in (SCORE, EXPR + SCORE) else None
        result[name] = WordErrors(
            aupr=float(average_precision_score(wrong, ranks)),
            roc_auc=float(roc_auc_score(wrong, ranks)),
            nce=None if probable is None else normalised_cross_entropy(words.correct, probable),
            nce_calibrated=_calibrated(words, ranks),
        )
    return result


def normalised_cross_entropy(correct: np.ndarray, probability: np.ndarray) -> float:
    """``(H(r) - H(correct; p)) / H(r)``, where r is the share of what is correct.

    Args:
        correct: ``[W]``, of both kinds.
        probability: ``[W]``, that it is correct; moved into ``[2^-24, 1 - 2^-24]``.
    """
    share = np.mean(correct)
    base = log_loss(correct, np.full(len(correct), share))
    bounded = np.clip(probability, _LEAST, 1 - _LEAST)
    return float((base - log_loss(correct, bounded)) / base)


def _calibrated(words: WordScores, ranks: np.ndarray) -> Optional[float]:
    feature = norm.ppf((ranks - 0.5) / len(ranks))[:, None]
    folds = min(_FOLDS, len(np.unique(words.sentences)))
    if folds < 2:
        return None
    probability = np.empty(len(ranks))
    for train, test in GroupKFold(folds).split(feature, groups=words.sentences):
        if len(np.unique(words.correct[train])) == 1:
            return None
        model = LogisticRegression()
        model.fit(feature[train], words.correct[train])
        probability[test] = model.predict_proba(feature[test])[:, 1]
    return normalised_cross_entropy(words.correct, probability)


def _columns(records: List[Record]) -> Tuple[Dict[str, np.ndarray], List[str]]:
    """Token values of all records, one after another, and measures that the model has not."""
    blocks = {"": [record["token"] for record in records]}
    if all(record.get("expr") for record in records):
        blocks[EXPR] = [record["expr"]["token"] for record in records]
    values, absent = {}, []
    for prefix, block in blocks.items():
        for name in block[0]:
            columns = [tokens.get(name) for tokens in block]
            if any(column is None for column in columns):
                absent.append(prefix + name)
                continue
            for record, column in zip(records, columns):
                if len(column) != len(record["tokens"]):
                    raise UsageError(
                        f"id {record['id']} has {len(record['tokens'])} tokens but {len(column)} "
                        f"values of {prefix + name}"
                    )
            flat = np.array([value for column in columns for value in column], dtype=np.float64)
            # null was too large for a number
            values[prefix + name] = np.where(np.isnan(flat), np.inf, flat)
    return values, absent
