"""Losses and measures of ensemble distribution distillation in plain PyTorch.

This package imports PyTorch only. Conventions: classes are the last dimension, leading dimensions
are free, values are in nats, higher means more uncertain, arithmetic is float32 under any autocast
(float64 for float64 input).

``z`` are a model's logits, ``e = exp(z)`` its concentrations, ``K`` the number of classes,
``M`` the number of ensemble members. Equation numbers are those of Ryabinin, Malinin and
Gales, "Scaling Ensemble Distribution Distillation to Many Classes with Proxy Targets" (2021).

``reverse_kl_proxy_dirichlet`` is compiled with ``torch.compile`` at its first call in training; the
environment variable ``FAIRSEQ_PDD_COMPILE=0`` keeps it in eager mode, some twenty times slower.
Everything else runs in eager mode.
"""

from .dirichlet_nll import dirichlet_nll
from .ensemble import EnsembleStatistics, ensemble_measures, sequence_ensemble_measures
from .forward_kl import forward_kl_proxy_dirichlet
from .mean_kl import mean_kl
from .measures import (
    TokenMeasures,
    UncertaintyMeasures,
    dirichlet_measures,
    dirichlet_token_measures,
)
from .reverse_kl import reverse_kl_proxy_dirichlet
from .topk import MeanProbs, TopKProbs

__all__ = [
    "EnsembleStatistics",
    "MeanProbs",
    "TokenMeasures",
    "TopKProbs",
    "UncertaintyMeasures",
    "dirichlet_measures",
    "dirichlet_nll",
    "dirichlet_token_measures",
    "ensemble_measures",
    "forward_kl_proxy_dirichlet",
    "mean_kl",
    "reverse_kl_proxy_dirichlet",
    "sequence_ensemble_measures",
]
