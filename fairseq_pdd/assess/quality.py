"""How good outputs are: BLEU and chrF as sacreBLEU has them, WER as jiwer has it."""

import enum
from importlib.metadata import version
from typing import List, NamedTuple, Tuple

import numpy as np
import sacrebleu

from ..errors import UsageError
from .records import Record
from .words import plain_text, word_error_rate, word_error_rates


class Metric(str, enum.Enum):
    """Measure of an output's quality against its reference."""

    bleu = "bleu"
    chrf = "chrf"
    wer = "wer"


class Quality(NamedTuple):
    """A figure of a whole set.

    Attributes:
        value: in %; higher is better but for WER.
        signature: what it was computed with.
    """

    value: float
    signature: str


def corpus_quality(records: List[Record], metric: Metric) -> Quality:
    """BLEU, chrF or WER of a set.

    Args:
        records: one a sentence.
        metric: which.

    Raises:
        UsageError: a reference is missing.
    """
    hypotheses, references = _texts(records)
    if metric is Metric.wer:
        signature = f"words as they are written|jiwer:{version('jiwer')}"
        return Quality(100 * word_error_rate(hypotheses, references), signature)
    scorer = sacrebleu.BLEU() if metric is Metric.bleu else sacrebleu.CHRF()
    score = scorer.corpus_score(hypotheses, [references])
    return Quality(score.score, str(scorer.get_signature()))


def sentence_errors(records: List[Record], metric: Metric) -> np.ndarray:
    """Error of each sentence, 0 for a perfect one.

    ``1 - sentence BLEU / 100`` (smoothing ``exp``, effective order), ``1 - chrF / 100``, or the
    sentence's word error rate, which exceeds 1 where more is inserted than there should be.

    Args:
        records: one a sentence.
        metric: which.

    Returns:
        ``[S]``.

    Raises:
        UsageError: a reference is missing.
    """
    hypotheses, references = _texts(records)
    if metric is Metric.wer:
        return np.array(word_error_rates(hypotheses, references))
    scorer = sacrebleu.BLEU(effective_order=True) if metric is Metric.bleu else sacrebleu.CHRF()
    scores = [scorer.sentence_score(h, [r]).score for h, r in zip(hypotheses, references)]
    # sacreBLEU's 100 is off by a rounding error
    return np.maximum(1 - np.array(scores) / 100, 0.0)


def _texts(records: List[Record]) -> Tuple[List[str], List[str]]:
    for record in records:
        if record.get("reference") is None:
            raise UsageError(
                f"id {record['id']} has no reference, so its quality is unknown: translate a set "
                "that has a target side"
            )
    return (
        [plain_text(record["hypothesis"]) for record in records],
        [plain_text(record["reference"]) for record in records],
    )
