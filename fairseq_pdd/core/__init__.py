"""Losses and measures of ensemble distribution distillation in plain PyTorch.

Nothing here knows fairseq. Conventions, everywhere: classes are the last dimension, leading
dimensions are free, values are in nats, higher means more uncertain, arithmetic is float32
whatever the autocast (float64 for float64 input).

``z`` are a model's logits, ``e = exp(z)`` its concentrations, ``K`` the number of classes,
``M`` the number of ensemble members. Equation numbers are those of Ryabinin, Malinin and
Gales, "Scaling Ensemble Distribution Distillation to Many Classes with Proxy Targets" (2021).

``reverse_kl_proxy_dirichlet`` and the measures compile themselves once they were given enough work;
on the CPU, once on a machine, as kernels are kept. The environment variable
``FAIRSEQ_PDD_COMPILE=0`` keeps everything in eager mode, for the loss some twenty times slower.
"""

from .dirichlet_nll import dirichlet_nll
from .ensemble import (
    EnsembleStatistics,
    ensemble_measures,
    log_mean_probs,
    sequence_ensemble_measures,
)
from .forward_kl import forward_kl_proxy_dirichlet
from .mean_kl import mean_kl
from .measures import (
    DirichletSums,
    UncertaintyMeasures,
    dirichlet_measures,
    dirichlet_sums,
    expected_log_probs,
    measures_of_sums,
)
from .reverse_kl import reverse_kl_proxy_dirichlet
from .topk import MeanProbs, TopKProbs

__all__ = [
    "DirichletSums",
    "EnsembleStatistics",
    "MeanProbs",
    "TopKProbs",
    "UncertaintyMeasures",
    "dirichlet_measures",
    "dirichlet_nll",
    "dirichlet_sums",
    "ensemble_measures",
    "expected_log_probs",
    "forward_kl_proxy_dirichlet",
    "log_mean_probs",
    "mean_kl",
    "measures_of_sums",
    "reverse_kl_proxy_dirichlet",
    "sequence_ensemble_measures",
]
