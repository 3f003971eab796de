"""Quality of outputs: BLEU and chrF by sacreBLEU, WER by jiwer, and likelihood."""

import enum
import logging
from importlib.metadata import version
from typing import TYPE_CHECKING, NamedTuple, Union

import numpy as np

from ..errors import UsageError
from ..records import RecordSet
from .words import plain_texts, word_error_rate, word_error_rates

if TYPE_CHECKING:
    from sacrebleu import BLEU, CHRF

logger = logging.getLogger(__name__)


class Metric(str, enum.Enum):
    """Measure of an output's quality against its reference."""

    bleu = "bleu"
    chrf = "chrf"
    wer = "wer"


ERROR_LABELS = {
    Metric.bleu: "1 − sentence BLEU",
    Metric.chrf: "1 − chrF",
    Metric.wer: "word error rate",
}
"""Name of the error of a sentence by metric."""


class Quality(NamedTuple):
    """Quality of a whole set.

    Attributes:
        value: in %; higher is better, except for WER.
        signature: versions and settings behind the value.
    """

    value: float
    signature: str


def corpus_quality(records: RecordSet, metric: Metric) -> Quality:
    """Compute BLEU, chrF or WER of a set.

    Args:
        records: one hypothesis per sentence.
        metric: metric to compute.

    Raises:
        UsageError: a reference is missing.
    """
    hypotheses, references = plain_texts(records)
    if metric is Metric.wer:
        signature = f"words as they are written|jiwer:{version('jiwer')}"
        return Quality(100 * word_error_rate(hypotheses, references), signature)
    scorer = _scorer(metric)
    score = scorer.corpus_score(hypotheses, [references])
    return Quality(score.score, str(scorer.get_signature()))


def sentence_errors(records: RecordSet, metric: Metric) -> np.ndarray:
    """Compute the error of each sentence, 0 for a perfect output.

    ``1 - sentence BLEU / 100`` (smoothing ``exp``, effective order), ``1 - chrF / 100``, or the
    word error rate of the sentence, which exceeds 1 where the output has many words too much.

    Args:
        records: one hypothesis per sentence.
        metric: metric to compute.

    Returns:
        ``[S]``.

    Raises:
        UsageError: a reference is missing.
    """
    hypotheses, references = plain_texts(records)
    if metric is Metric.wer:
        return np.array(word_error_rates(hypotheses, references))
    scorer = _scorer(metric, effective_order=True)
    scores = [scorer.sentence_score(h, [r]).score for h, r in zip(hypotheses, references)]
    # sacreBLEU's 100 is off by a rounding error
    return np.maximum(1 - np.array(scores) / 100, 0.0)


def negative_log_likelihood(records: RecordSet) -> float:
    """Compute the mean of ``-ln P`` over all tokens, end-of-sequence included; nats per token.

    Hypotheses that are not the references are logged: the likelihood of a model's own output is
    another number.

    Args:
        records: scored references, one hypothesis per sentence.

    Raises:
        UsageError: an output is impossible to the model (its ``log_prob`` is minus infinity).
    """
    log_probs = records.log_probs[""]
    impossible = np.flatnonzero(np.isneginf(log_probs))
    if len(impossible):
        raise UsageError(
            f"{records.name}: id {records.ids[impossible[0]]} has probability 0, so the likelihood "
            "of the set is zero and its NLL infinite: remove such sentences from the data"
        )
    # fairseq's mark of an unknown word in a reference
    references = [text and text.replace("<<unk>>", "<unk>") for text in records.references]
    others = sum(t is not None and t != h for h, t in zip(records.hypotheses, references))
    if 2 * others > len(records):
        logger.warning(
            "%s: %d of %d hypotheses are not the references, so the NLL is that of a model's "
            "output: write the file with --score-reference",
            records.name,
            others,
            len(records),
        )
    return -sum(log_probs.tolist()) / int(records.lengths.sum())


def _scorer(metric: Metric, effective_order: bool = False) -> "Union[BLEU, CHRF]":
    from sacrebleu import BLEU, CHRF

    return BLEU(effective_order=effective_order) if metric is Metric.bleu else CHRF()
