"""The formulation of the authors' code, and the proxy Dirichlet of an ensemble itself."""

from dataclasses import dataclass, field
from typing import Any, Sequence, Tuple

import torch
from fairseq.criterions import register_criterion
from fairseq.dataclass import ChoiceEnum
from fairseq.models import BaseFairseqModel
from fairseq.tasks import register_task
from torch import Tensor

from fairseq_pdd.core import (
    EnsembleStatistics,
    dirichlet_token_measures,
    reverse_kl_proxy_dirichlet,
)
from fairseq_pdd.criterions.pd_send2 import PDSEnD2Criterion, PDSEnD2CriterionConfig
from fairseq_pdd.generation import HypothesisScorer
from fairseq_pdd.generation.estimators import EnsembleEstimator
from fairseq_pdd.records import FIELDS
from fairseq_pdd.tasks import DistillTranslationTask
from fairseq_pdd.tasks.distill_translation import DistillTranslationConfig
from fairseq_pdd.teacher import TeacherStatistics


@register_criterion("pd_send2_authors", dataclass=PDSEnD2CriterionConfig)
class AuthorsCriterion(PDSEnD2Criterion):
    """Reverse KL as in the authors' code, whose prior is divided by β̂₀ + δK in place of β̂₀.

    The rest is Eq. 17, so it is the loss of this package with λ / (1 + δKλ). Its optimum is
    e = (β̂₀ + δK)·π̂: precisions are too high by δK.
    """

    def distillation_loss(self, logits: Tensor, teacher: TeacherStatistics) -> Tensor:
        """Compute the loss of each target token, ``[N]``."""
        assert self.offset is not None
        weight = authors_prior_weight(teacher.inverse_precision, self.offset, logits.size(-1))
        return reverse_kl_proxy_dirichlet(
            logits, teacher.mean_probs, weight, self.offset, self.compiled
        )


def authors_prior_weight(inverse_precision: Tensor, offset: float, classes: int) -> Tensor:
    """Return 1 / (β̂₀ + δK) from λ = 1/β̂₀."""
    return inverse_precision / (1 + offset * classes * inverse_precision)


class _DirichletEstimator(EnsembleEstimator):
    """Base: models' outputs become the values of one Dirichlet, so there is no ExPr."""

    def __init__(self, models: Sequence[BaseFairseqModel]) -> None:
        super().__init__(models)
        self.fields: Sequence[str] = FIELDS

    def measures(self, outputs: Sequence[Tensor], tokens: Tensor, prefix_log_probs: Any) -> Tensor:
        """Compute all measures, ``[1, 7, N]``; see :class:`fairseq_pdd.generation.Estimator`."""
        *values, log_mean, mean_log = self.dirichlet(outputs, tokens)
        rows = [*values, -log_mean, log_mean - mean_log]
        return torch.stack([row.float() for row in rows]).unsqueeze(0)

    def dirichlet(self, outputs: Sequence[Tensor], tokens: Tensor) -> Tuple[Tensor, ...]:
        """Return total, data, I, EPKL, RMI, ``ln E π_y`` and ``E ln π_y``, each ``[N]``."""
        raise NotImplementedError


class ProxyEstimator(_DirichletEstimator):
    """Measures of the proxy Dirichlet of an ensemble, Eq. 16: what a perfect student would have."""

    def dirichlet(self, outputs: Sequence[Tensor], tokens: Tensor) -> Tuple[Tensor, ...]:
        """Compute the measures of Dir(β̂₀·π̂)."""
        statistics = EnsembleStatistics()
        for log_probs in outputs:
            statistics.update(log_probs)
        # where members agree to the last bit, the precision is the greatest of float32
        least = torch.finfo(torch.float32).eps / statistics.mean_probs.size(-1)
        log_precision = -statistics.inverse_precision.clamp(min=least).log()
        log_mean = statistics.mean_probs.log()
        found = dirichlet_token_measures(log_mean + log_precision.unsqueeze(-1), tokens)
        return (*found.measures, found.log_mean, found.mean_log)


class AuthorsEstimator(_DirichletEstimator):
    """Measures of the authors' code for sequences.

    The mean is softmax(z), the concentrations are e + 1, and mutual information has the other
    sign before negative values become 0.
    """

    def outputs(self, model: BaseFairseqModel, net_output: Tuple[Any, ...]) -> Tensor:
        """Return logits ``[N, K]``."""
        logits: Tensor = net_output[0]
        return logits.squeeze(0)

    def dirichlet(self, outputs: Sequence[Tensor], tokens: Tensor) -> Tuple[Tensor, ...]:
        """Compute the measures in float64."""
        logits = outputs[0].double()
        log_mean, alpha = logits.log_softmax(-1), logits.exp() + 1
        mean, alpha0 = log_mean.exp(), alpha.sum(-1, keepdim=True)
        total = -(mean * log_mean).sum(-1)
        data = -(mean * (torch.digamma(alpha + 1) - torch.digamma(alpha0 + 1))).sum(-1)
        mean_log = torch.digamma(alpha) - torch.digamma(alpha0)
        rmi = (mean * (log_mean - mean_log)).sum(-1)
        epkl = (alpha.size(-1) - 1) / alpha0.squeeze(-1)
        of_tokens = (each.gather(-1, tokens.unsqueeze(-1)) for each in (log_mean, mean_log))
        information = (data - total).clamp(min=0)
        return (total, data, information, epkl, rmi, *(each.squeeze(-1) for each in of_tokens))


_ESTIMATORS = {"proxy": ProxyEstimator, "authors": AuthorsEstimator}


@dataclass
class StudyTranslationConfig(DistillTranslationConfig):
    """Options of ``study_translation``."""

    formulation: ChoiceEnum(list(_ESTIMATORS)) = field(  # type: ignore[valid-type]
        default="proxy",
        metadata={
            "help": "measures of fairseq-generate: those of the proxy Dirichlet of the ensemble in "
            "--path, or those of a student as in the authors' code"
        },
    )


@register_task("study_translation", dataclass=StudyTranslationConfig)
class StudyTranslationTask(DistillTranslationTask):
    """Translation with the measures of another formulation."""

    def hypothesis_scorer(self, models: Sequence[BaseFairseqModel]) -> HypothesisScorer:
        """Return the scorer of the formulation."""
        dictionary = self.target_dictionary
        estimator = _ESTIMATORS[str(self.cfg.formulation)](models)
        return HypothesisScorer(estimator, dictionary.pad(), dictionary.eos())
