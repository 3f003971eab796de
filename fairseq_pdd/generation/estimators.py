"""Estimators: from models' outputs along tokens to measures of uncertainty.

There are two. A Prior Network is read as a Dirichlet. An ensemble is combined in two ways: as a
product of expectations (PrEx), which is how fairseq decodes, and as an expectation of products
(ExPr). An ordinary model is an ensemble of one, which has PrEx, total uncertainty and score only.
"""

import math
from typing import Any, Optional, Protocol, Sequence, Tuple

import torch
import torch.nn.functional as F
from fairseq.models import BaseFairseqModel
from torch import Tensor

from ..core import sequence_ensemble_measures
from ..models.prior_network import PriorNetwork
from ..records import FIELDS

_SINGLE_MODEL_FIELDS = ("total", "score")


class Estimator(Protocol):
    """Measures of one kind of model."""

    @property
    def models(self) -> Sequence[BaseFairseqModel]:
        """M encoder-decoders that share their dictionaries."""
        ...

    @property
    def fields(self) -> Sequence[str]:
        """Names of the measures of these models, all or some of ``records.FIELDS``."""
        ...

    def outputs(self, model: BaseFairseqModel, net_output: Tuple[Any, ...]) -> Tensor:
        """Return logits or log-probabilities ``[N, K]``, whichever :meth:`measures` takes.

        Args:
            model: one of the models.
            net_output: return value of its decoder, logits ``[1, N, K]`` first.
        """
        ...

    def measures(
        self, outputs: Sequence[Tensor], tokens: Tensor, prefix_log_probs: Optional[Tensor]
    ) -> Tensor:
        """Compute all measures of N tokens, ``[R, 7, N]`` for R ways to combine the models.

        Args:
            outputs: logits or log-probabilities ``[N, K]`` of each model.
            tokens: token at each position, ``[N]``.
            prefix_log_probs: ``ln P(y_<l|x)`` of each model before each token, ``[M, N]``; None
                for a single model.

        Returns:
            Values in the order of :data:`~fairseq_pdd.records.FIELDS`, float32, nats.
        """
        ...


class PriorNetworkEstimator:
    """Measures of the Dirichlet of a Prior Network, from its logits."""

    def __init__(self, network: PriorNetwork) -> None:
        self.network = network
        self.models: Sequence[BaseFairseqModel] = [network.model]
        self.fields: Sequence[str] = FIELDS

    def outputs(self, model: BaseFairseqModel, net_output: Tuple[Any, ...]) -> Tensor:
        """Return logits ``[N, K]``."""
        return self.network.logits(net_output).squeeze(0)

    def measures(
        self, outputs: Sequence[Tensor], tokens: Tensor, prefix_log_probs: Optional[Tensor]
    ) -> Tensor:
        """Compute all measures, ``[1, 7, N]``; see :class:`Estimator`."""
        measures, log_mean, mean_log = self.network.token_measures(outputs[0], tokens)
        return torch.stack([*measures, *_joint(log_mean, mean_log)]).unsqueeze(0)


class EnsembleEstimator:
    """Measures of an ensemble or an ordinary model, from log-probabilities."""

    def __init__(self, models: Sequence[BaseFairseqModel]) -> None:
        self.models: Sequence[BaseFairseqModel] = list(models)
        self.fields: Sequence[str] = FIELDS if len(self.models) > 1 else _SINGLE_MODEL_FIELDS

    def outputs(self, model: BaseFairseqModel, net_output: Tuple[Any, ...]) -> Tensor:
        """Return log-probabilities ``[N, K]``."""
        log_probs: Tensor = model.get_normalized_probs(net_output, log_probs=True)
        return log_probs.squeeze(0)

    def measures(
        self, outputs: Sequence[Tensor], tokens: Tensor, prefix_log_probs: Optional[Tensor]
    ) -> Tensor:
        """Compute all measures, ``[2, 7, N]`` (PrEx, ExPr) or ``[1, 7, N]`` for one model."""
        prex, *expr = sequence_ensemble_measures(outputs, prefix_log_probs)
        token_log_probs = gather_tokens(outputs, tokens)
        mean_log = token_log_probs.mean(0)
        log_mean = token_log_probs.logsumexp(0) - math.log(len(outputs))
        rows = [[*prex, *_joint(log_mean, mean_log)]]
        if expr:
            assert prefix_log_probs is not None
            log_weights = _log_weights(prefix_log_probs)
            log_mean = (log_weights + token_log_probs).logsumexp(0)
            rows.append([*expr[0], *_joint(log_mean, mean_log)])
        return torch.stack([torch.stack([value.float() for value in row]) for row in rows])


def gather_tokens(outputs: Sequence[Tensor], tokens: Tensor) -> Tensor:
    """Return each model's output for the tokens, ``[M, N]`` float64, from ``[N, K]`` each."""
    return torch.stack(
        [each.gather(1, tokens.unsqueeze(1)).squeeze(1) for each in outputs]
    ).double()


def prefix_log_probs(token_log_probs: Tensor, lengths: Sequence[int]) -> Tensor:
    """Return the log-probability of the tokens before each token, ``[M, N]``.

    Args:
        token_log_probs: ``[M, N]``, one output after another.
        lengths: number of tokens of each output.
    """
    outputs = token_log_probs.split(list(lengths), dim=1)
    return torch.cat([F.pad(each.cumsum(1)[:, :-1], (1, 0)) for each in outputs], dim=1)


def _log_weights(prefix_log_probs: Tensor) -> Tensor:
    """Return the members' log-weights before each token, ``[M, N]``.

    After tokens that are impossible to every member, the weights are equal, as in
    :func:`~fairseq_pdd.core.sequence_ensemble_measures`.
    """
    impossible = prefix_log_probs.isneginf().all(0)
    return prefix_log_probs.masked_fill(impossible, 0.0).log_softmax(0)


def _joint(log_mean: Tensor, mean_log: Tensor) -> Tuple[Tensor, Tensor]:
    """Return score and joint estimate of RMI, ``[N]``.

    A token that is impossible to every member has an infinite score and an RMI of 0: the members
    agree on it.
    """
    rmi = (log_mean - mean_log).masked_fill(log_mean.isneginf() & mean_log.isneginf(), 0.0)
    return -log_mean, rmi
