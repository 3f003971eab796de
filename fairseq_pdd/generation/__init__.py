"""Scoring of outputs: teacher forcing, then measures, for every kind of model and of search.

::

    outputs of any search, or given ones
        ─▶ teacher_forcing   decoder outputs of M models, M × [N, K]
        ─▶ estimators        measures(outputs, tokens, prefix log-probabilities), [R, 7, N]
        ─▶ scorer            values per token and their means per output
"""

from .estimators import EnsembleEstimator, Estimator, PriorNetworkEstimator
from .scorer import HypothesisScorer, make_scorer
from .search import EncoderKeepingEnsemble

__all__ = [
    "EncoderKeepingEnsemble",
    "EnsembleEstimator",
    "Estimator",
    "HypothesisScorer",
    "PriorNetworkEstimator",
    "make_scorer",
]
