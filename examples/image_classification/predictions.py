"""Predictions of all systems for images, and their quality."""

from typing import Dict, List, NamedTuple, Optional

import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import Tensor

from fairseq_pdd.assess import reliability_diagram
from fairseq_pdd.core import EnsembleStatistics, UncertaintyMeasures, dirichlet_measures

ECE_BINS = 15


class Prediction(NamedTuple):
    """Prediction for N images with K classes; uncertainties in nats."""

    log_probs: Tensor
    """Log-probabilities, ``[N, K]``."""
    total: Tensor
    """Entropy of the prediction, ``[N]``."""
    knowledge: Optional[Tensor]
    """Mutual information, ``[N]``; ``None`` for systems without knowledge uncertainty."""


def of_classifier(logits: Tensor) -> Prediction:
    """Predict with the logits of an ordinary model."""
    log_probs = logits.log_softmax(-1)
    return Prediction(log_probs, -(log_probs.exp() * log_probs).sum(-1), None)


def of_prior_network(logits: Tensor) -> Prediction:
    """Predict with the Dirichlet of concentrations exp(logits) of a student."""
    return _prediction(logits.log_softmax(-1), dirichlet_measures(logits))


def of_ensemble(statistics: EnsembleStatistics) -> Prediction:
    """Predict with the ensemble."""
    return _prediction(statistics.mean_probs.log(), statistics.measures())


def of_proxy(statistics: EnsembleStatistics) -> Prediction:
    """Predict with the Proxy-Dirichlet of concentrations β̂₀ π̂ (Eq. 16), the students' target."""
    # members that agree in every bit would give an infinite precision
    inverse = statistics.inverse_precision.double()
    log_precision = -inverse.clamp(min=torch.finfo(torch.float32).tiny).log()
    log_mean = statistics.mean_probs.log()
    measures = dirichlet_measures(log_mean.double() + log_precision.unsqueeze(-1))
    return _prediction(log_mean, measures)


def _prediction(log_probs: Tensor, measures: UncertaintyMeasures) -> Prediction:
    return Prediction(log_probs, measures.total, measures.mutual_information)


class Scores:
    """Accumulates the quality and the uncertainties of one system on one set, batch by batch."""

    def __init__(self) -> None:
        self._confidence: List[Tensor] = []
        self._correct: List[Tensor] = []
        self._nll: List[Tensor] = []
        self._brier: List[Tensor] = []
        self._total: List[Tensor] = []
        self._knowledge: List[Tensor] = []

    def update(self, prediction: Prediction, labels: Tensor) -> None:
        """Add a batch; labels ``[N]``, -1 for images of unknown classes."""
        self._total.append(prediction.total.double().cpu())
        if prediction.knowledge is not None:
            self._knowledge.append(prediction.knowledge.double().cpu())
        known = (labels >= 0).cpu()
        if not known.any():
            return
        log_probs, labels = prediction.log_probs.cpu()[known], labels.cpu()[known]
        probs = log_probs.exp()
        confidence, predicted = probs.max(-1)
        self._confidence.append(confidence)
        self._correct.append(predicted == labels)
        self._nll.append(F.nll_loss(log_probs, labels, reduction="none"))
        self._brier.append((probs - F.one_hot(labels, probs.shape[-1])).square().sum(-1))

    @property
    def total(self) -> Tensor:
        """Total uncertainty of all images."""
        return torch.cat(self._total)

    @property
    def knowledge(self) -> Optional[Tensor]:
        """Knowledge uncertainty of all images; ``None`` if the system has none."""
        return torch.cat(self._knowledge) if self._knowledge else None

    def quality(self) -> Dict[str, float]:
        """Compute accuracy and ECE in %, NLL in nats, Brier score; empty without labels."""
        if not self._correct:
            return {}
        confidence, correct = torch.cat(self._confidence), torch.cat(self._correct)
        bins = reliability_diagram(confidence.double().numpy(), correct.numpy(), ECE_BINS)
        return {
            "accuracy": 100 * float(correct.double().mean()),
            "ece": 100 * bins.ece,
            "nll": float(torch.cat(self._nll).double().mean()),
            "brier": float(torch.cat(self._brier).double().mean()),
        }

    def detection(self, in_domain: "Scores") -> Dict[str, float]:
        """Compute the ROC-AUC in % of these images against in-domain ones, by each uncertainty."""
        aucs = {"auc_total": _auc(in_domain.total, self.total)}
        if self.knowledge is not None and in_domain.knowledge is not None:
            aucs["auc_knowledge"] = _auc(in_domain.knowledge, self.knowledge)
        return aucs


def _auc(inside: Tensor, outside: Tensor) -> float:
    labels = torch.cat([torch.zeros(len(inside)), torch.ones(len(outside))])
    return 100 * float(roc_auc_score(labels.numpy(), torch.cat([inside, outside]).numpy()))
