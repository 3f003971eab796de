"""Sequence errors: the gain from rejecting the most uncertain outputs."""

from dataclasses import dataclass
from typing import Optional

import numpy as np

from .scores import check_values


@dataclass(frozen=True)
class Rejection:
    """Error of a set while its most uncertain outputs are rejected.

    Attributes:
        fractions: ``[P]``, share of outputs that are rejected, from 0.
        errors: ``[P]``, error of the set at that share, rejected by uncertainty.
        oracle: ``[P]``, the same, rejected by the true error: the best possible order.
        random: ``[P]``, the expectation for a random order.
        prr: prediction rejection ratio, the part of the oracle's gain over random that the
            uncertainty has: 1 is the oracle, 0 random, negative is worse than random. ``None``
            where all outputs have the same error, or the same uncertainty, so that there is no
            order to assess.
    """

    fractions: np.ndarray
    errors: np.ndarray
    oracle: np.ndarray
    random: np.ndarray
    prr: Optional[float]


def rejection(errors: np.ndarray, uncertainty: np.ndarray, retained: bool = False) -> Rejection:
    """Compute rejection curves and their prediction rejection ratio.

    ``PRR = (AUC_unc - AUC_random) / (AUC_oracle - AUC_random)``.

    Outputs of equal uncertainty are rejected in random order; the curve is the expectation.

    Args:
        errors: ``[N]``, at least 0, 0 for a perfect output.
        uncertainty: ``[N]``, higher is rejected earlier; may be infinite.
        retained: definition of the error of a set with rejected outputs. ``False``: the mean
            over all outputs, with rejected ones replaced by perfect ones (Malinin & Gales, ICLR
            2021); the random curve is a line to 0. ``True``: the mean over the retained outputs;
            the random curve is flat, and the last point retains one output.

    Raises:
        UsageError: see :func:`~fairseq_pdd.assess.scores.check_values`.
    """
    from sklearn.metrics import auc

    check_values(errors=errors, uncertainty=uncertainty)
    n = len(errors)
    _, group = np.unique(-uncertainty, return_inverse=True)
    group_mean = np.bincount(group, errors) / np.bincount(group)
    rejected = np.arange(n if retained else n + 1)
    mean = float(np.mean(errors))
    random = np.full(n, mean) if retained else mean * (1 - rejected / n)

    def curve(in_order: np.ndarray) -> np.ndarray:
        remaining = np.append(np.cumsum(in_order[::-1])[::-1], 0.0)
        return remaining[:n] / (n - rejected) if retained else remaining / n

    fractions = rejected / n
    by_uncertainty = curve(group_mean[np.sort(group)])
    oracle = curve(np.sort(errors)[::-1])
    prr = None
    if np.ptp(errors) > 0 and len(np.unique(uncertainty)) > 1:
        base = auc(fractions, random)
        prr = float((auc(fractions, by_uncertainty) - base) / (auc(fractions, oracle) - base))
    return Rejection(fractions, by_uncertainty, oracle, random, prr)
