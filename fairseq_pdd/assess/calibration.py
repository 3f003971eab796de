"""Calibration: agreement of the probabilities of outputs with the share that is right."""

from dataclasses import dataclass

import numpy as np

from ..errors import UsageError
from .scores import check_values

# products of probabilities near 1 may have a rounding error
_ROUNDING = 1e-3


@dataclass(frozen=True)
class Reliability:
    """Confidence and accuracy by bins of equal width.

    Attributes:
        edges: ``[B + 1]``, from 0 to 1; a bin holds its lower edge, the last one both.
        counts: ``[B]``, predictions in each bin.
        confidence: ``[B]``, their mean confidence; NaN in an empty bin.
        accuracy: ``[B]``, share of them that is right; NaN in an empty bin.
        ece: expected calibration error, the mean over predictions of
            ``|confidence - accuracy|`` of their bin, in [0, 1].
    """

    edges: np.ndarray
    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    ece: float


def reliability_diagram(confidence: np.ndarray, correct: np.ndarray, bins: int = 15) -> Reliability:
    """Compare confidence with accuracy.

    Args:
        confidence: ``[N]``, probability that the model gives to its prediction.
        correct: ``[N]``, true where the prediction is right.
        bins: number of bins.

    Raises:
        UsageError: a confidence is no probability, or see
            :func:`~fairseq_pdd.assess.scores.check_values`.
    """
    odd = confidence[~((confidence >= 0) & (confidence <= 1 + _ROUNDING))]
    if len(odd):
        raise UsageError(f"the confidence {odd[0]:g} is no probability: scores must be -ln P >= 0")
    check_values(confidence=confidence, correct=correct)
    edges = np.linspace(0.0, 1.0, bins + 1)
    index = np.digitize(confidence, edges[1:-1])
    counts = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore"):  # 0 / 0 in empty bins
        mean_confidence = np.bincount(index, confidence, bins) / counts
        accuracy = np.bincount(index, correct, bins) / counts
    gaps = np.nan_to_num(np.abs(mean_confidence - accuracy))
    ece = float(np.dot(counts, gaps) / len(confidence))
    return Reliability(edges, counts, mean_confidence, accuracy, ece)
