"""What systems predict for a set of images, and how good that is."""

from typing import Dict, List, NamedTuple, Optional

import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError

from fairseq_pdd.core import EnsembleStatistics, UncertaintyMeasures, dirichlet_measures

ECE_BINS = 15


class Prediction(NamedTuple):
    """Of N images, with K classes; uncertainties in nats."""

    log_probs: Tensor
    """``[N, K]``."""
    total: Tensor
    """Entropy of the prediction, ``[N]``."""
    knowledge: Optional[Tensor]
    """Mutual information, ``[N]``; ``None`` for systems that know none."""


def of_classifier(logits: Tensor) -> Prediction:
    """An ordinary model's."""
    log_probs = logits.log_softmax(-1)
    return Prediction(log_probs, -(log_probs.exp() * log_probs).sum(-1), None)


def of_prior_network(logits: Tensor) -> Prediction:
    """A distribution-distilled student's: of the Dirichlet of concentrations exp(logits)."""
    return _with(logits.log_softmax(-1), dirichlet_measures(logits))


def of_ensemble(statistics: EnsembleStatistics) -> Prediction:
    """The ensemble's own."""
    return _with(statistics.mean_probs.log(), statistics.measures())


def of_proxy(statistics: EnsembleStatistics) -> Prediction:
    """The Proxy-Dirichlet's of concentrations β̂₀ π̂ (Eq. 16): what students are taught."""
    # members that agree in every bit would make it infinitely sharp
    inverse = statistics.inverse_precision.double()
    log_precision = -inverse.clamp(min=torch.finfo(torch.float32).tiny).log()
    log_mean = statistics.mean_probs.log()
    measures = dirichlet_measures(log_mean.double() + log_precision.unsqueeze(-1))
    return _with(log_mean, measures)


def _with(log_probs: Tensor, measures: UncertaintyMeasures) -> Prediction:
    return Prediction(log_probs, measures.total, measures.mutual_information)


class Scores:
    """Accumulates the quality and the uncertainties of one system on one set, batch by batch."""

    def __init__(self, num_classes: int) -> None:
        self.accuracy = MulticlassAccuracy(num_classes, average="micro")
        self.ece = MulticlassCalibrationError(num_classes, n_bins=ECE_BINS)
        self.nll, self.brier = MeanMetric(), MeanMetric()
        self.has_labels = False
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
        self.has_labels = True
        log_probs, labels = prediction.log_probs.cpu()[known], labels.cpu()[known]
        probs = log_probs.exp()
        self.accuracy.update(probs, labels)
        self.ece.update(probs, labels)
        self.nll.update(F.nll_loss(log_probs, labels, reduction="none"))
        self.brier.update((probs - F.one_hot(labels, probs.shape[-1])).square().sum(-1))

    @property
    def total(self) -> Tensor:
        """Total uncertainty of all images."""
        return torch.cat(self._total)

    @property
    def knowledge(self) -> Optional[Tensor]:
        """Knowledge uncertainty of all images, if the system knows any."""
        return torch.cat(self._knowledge) if self._knowledge else None

    def quality(self) -> Dict[str, float]:
        """Accuracy and ECE in %, NLL in nats, Brier score; nothing without labels."""
        if not self.has_labels:
            return {}
        return {
            "accuracy": 100 * float(self.accuracy.compute()),
            "ece": 100 * float(self.ece.compute()),
            "nll": float(self.nll.compute()),
            "brier": float(self.brier.compute()),
        }

    def detection(self, in_domain: "Scores") -> Dict[str, float]:
        """ROC-AUC in % of telling these images from in-domain ones, by each uncertainty."""
        aucs = {"auc_total": _auc(in_domain.total, self.total)}
        if self.knowledge is not None and in_domain.knowledge is not None:
            aucs["auc_knowledge"] = _auc(in_domain.knowledge, self.knowledge)
        return aucs


def _auc(inside: Tensor, outside: Tensor) -> float:
    labels = torch.cat([torch.zeros(len(inside)), torch.ones(len(outside))])
    return 100 * float(roc_auc_score(labels.numpy(), torch.cat([inside, outside]).numpy()))
