"""Token errors: detection of the wrong words of an output by their uncertainty."""

import enum
import logging
from dataclasses import dataclass
from typing import Dict, List, NamedTuple, Optional

import numpy as np

from ..errors import UsageError
from ..records import EXPR_PREFIX, RecordSet
from ..records.subwords import mark_of
from .scores import check_values
from .words import correct_words, pieces_of_words, plain_texts

logger = logging.getLogger(__name__)

SCORE = "score"
_FOLDS = 5
# probabilities have 7 digits, so a written 1 may be as far from 1 as this
_LEAST = 2.0**-24


class Pieces(str, enum.Enum):
    """Rule that makes one value of a word from the values of its pieces."""

    sum = "sum"
    max = "max"


@dataclass(frozen=True)
class WordScores:
    """Uncertainty of the W words of all outputs.

    Attributes:
        sentences: ``[W]``, index of the word's output.
        correct: ``[W]``, true where the word is right.
        measures: ``[W]`` for each measure that the model has, nats per word.
        absent: names of measures in the records that the model does not have.
        skipped: number of outputs without words here, as their tokens do not spell their text.
        name: path of the file, for messages.
    """

    sentences: np.ndarray
    correct: np.ndarray
    measures: Dict[str, np.ndarray]
    absent: List[str]
    skipped: int
    name: str = "words"


class WordErrors(NamedTuple):
    """Quality of a measure as a detector of wrong words (positive).

    Attributes:
        aupr: area under precision and recall (average precision); the share of wrong words is
            chance.
        roc_auc: probability that a wrong word is more uncertain than a right one; 0.5 is chance.
        nce: normalised cross-entropy ``(H(r) - H(correct; p)) / H(r)`` of the word's own
            probability ``p = exp(-score)``, for ``score`` alone, with r the share of right
            words: 1 is perfect, 0 is as good as r for every word, negative is worse.
        nce_calibrated: the same, with p from a logistic regression on the measure (in normal
            scores of its ranks, so that its scale does not matter), fitted to the other four
            fifths of the outputs. ``None`` where there are too few wrong or right words.

    All are ``None`` where the measure has one value for all words.
    """

    aupr: Optional[float]
    roc_auc: Optional[float]
    nce: Optional[float]
    nce_calibrated: Optional[float]


def word_scores(records: RecordSet, pieces: Pieces = Pieces.sum) -> WordScores:
    """Label the words of outputs, and compute their measures.

    Outputs whose tokens do not spell their text are skipped, which is logged.

    Args:
        records: one hypothesis per sentence, with its tokens.
        pieces: a word's measure is the sum over its pieces, which for ``score`` is ``-ln`` of the
            word's probability and for entropies follows the chain rule; or the largest of them.

    Raises:
        UsageError: a reference is missing, or no output is spelt by its tokens.
    """
    hypotheses, references = plain_texts(records)
    mark = mark_of(records.tokens.vocabulary)
    spelt: List[int] = []
    counts: List[int] = []
    starts: List[int] = []
    positions: List[int] = []
    for index, hypothesis in enumerate(hypotheses):
        words = pieces_of_words(records.tokens.symbols(index), hypothesis, mark)
        if words is None:
            continue
        offset = int(records.tokens.offsets[index])
        for word in words:
            starts.append(len(positions))
            positions.extend(offset + token for token in word)
        spelt.append(index)
        counts.append(len(words))
    skipped = len(records) - len(spelt)
    if not starts:
        raise UsageError(
            f"{records.name}: no output has words that its tokens spell; only SentencePiece's and "
            "subword-nmt's marks are supported"
        )
    if skipped:
        logger.warning(
            "%s: %d of %d outputs are skipped, as their tokens do not spell their text",
            records.name,
            skipped,
            len(records),
        )
    labels = correct_words(
        [hypotheses[index] for index in spelt], [references[index] for index in spelt]
    )
    reduce = np.add.reduceat if pieces is Pieces.sum else np.maximum.reduceat
    columns = records.tokens.measures.items()
    with np.errstate(invalid="ignore"):  # infinity of either sign in a word is refused later
        measures = {name: reduce(column[positions], starts) for name, column in columns}
    return WordScores(
        sentences=np.repeat(np.arange(len(spelt)), counts),
        correct=np.array([right for sentence in labels for right in sentence]),
        measures=measures,
        absent=records.tokens.absent,
        skipped=skipped,
        name=records.name,
    )


def word_errors(words: WordScores) -> Dict[str, WordErrors]:
    """Assess each measure.

    What is not defined is ``None`` and logged: a measure with one value for all words, and any
    measure of the words of a single output.

    Raises:
        UsageError: all words are right, or all are wrong, or a value is NaN.
    """
    from scipy.stats import rankdata
    from sklearn.metrics import average_precision_score, roc_auc_score

    if len(np.unique(words.correct)) == 1:
        label = "right" if words.correct[0] else "wrong"
        raise UsageError(
            f"{words.name}: every word is {label}, so the detection of wrong words is not defined: "
            "it needs words of both kinds"
        )
    if len(np.unique(words.sentences)) == 1:
        logger.warning("%s: the words of one output: no detection is defined", words.name)
        return dict.fromkeys(words.measures, WordErrors(None, None, None, None))
    wrong = ~words.correct
    result = {}
    for name, values in words.measures.items():
        check_values(**{f"{words.name}: {name} of words": values})
        if len(np.unique(values)) == 1:
            logger.warning(
                "%s: %s has the same value for every word, so it detects nothing", words.name, name
            )
            result[name] = WordErrors(None, None, None, None)
            continue
        ranks = rankdata(values)  # finite
        probable = np.exp(-values) if name in (SCORE, EXPR_PREFIX + SCORE) else None
        result[name] = WordErrors(
            aupr=float(average_precision_score(wrong, ranks)),
            roc_auc=float(roc_auc_score(wrong, ranks)),
            nce=None if probable is None else normalised_cross_entropy(words.correct, probable),
            nce_calibrated=_calibrated(words, ranks),
        )
    return result


def normalised_cross_entropy(correct: np.ndarray, probability: np.ndarray) -> float:
    """Compute ``(H(r) - H(correct; p)) / H(r)``, where r is the share of correct words.

    Args:
        correct: ``[W]``, true and false values.
        probability: ``[W]``, probability of being correct; clipped to ``[2^-24, 1 - 2^-24]``.
    """
    from sklearn.metrics import log_loss

    share = np.mean(correct)
    base = log_loss(correct, np.full(len(correct), share))
    bounded = np.clip(probability, _LEAST, 1 - _LEAST)
    return float((base - log_loss(correct, bounded)) / base)


def _calibrated(words: WordScores, ranks: np.ndarray) -> Optional[float]:
    from scipy.stats import norm
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold

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
