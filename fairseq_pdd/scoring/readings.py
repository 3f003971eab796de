"""What models say of the next token, read as measures of uncertainty.

A Prior Network has one reading, its Dirichlet. An ensemble has two: as a product of
expectations (PrEx) and as an expectation of products (ExPr). An ordinary model is an ensemble
of one and has PrEx alone.

Of a position, all that there is to know once its classes were read is its *context*, C numbers.
"""

import math
from typing import Any, Sequence, Tuple, Union

import torch
from fairseq.models import BaseFairseqModel
from torch import Tensor

from ..core import (
    DirichletSums,
    UncertaintyMeasures,
    dirichlet_sums,
    expected_log_probs,
    measures_of_sums,
    sequence_ensemble_measures,
)

MEASURES = UncertaintyMeasures._fields
JOINT = ("score", "rmi_score")
LOGITS, LOG_PROBS = "logits", "log-probabilities"


class PriorNetworkReader:
    """Reads a Prior Network, of which logits are taken.

    Args:
        offset: 0 for Dir(e), δ for Dir(e + δ).
    """

    takes, weighs_members = LOGITS, False

    def __init__(self, offset: float) -> None:
        self._offset = offset
        self._classes = 0  # not the dictionary's: fairseq-generate adds words to it

    @staticmethod
    def said(model: BaseFairseqModel, net_output: Tuple[Any, ...]) -> Tensor:
        """What is taken of a decoder's output, ``[n, K]``."""
        logits: Tensor = net_output[0]
        return logits.squeeze(0).float()

    def read(self, said: Sequence[Tensor], prefixes: Tensor) -> Tensor:
        """Context of n positions, ``[C, n]``: their :class:`~fairseq_pdd.core.DirichletSums`.

        Args:
            said: of each of M models what is taken of it, ``[n, K]``.
            prefixes: what each gave to the tokens before a position, ``ln P(y_<l|x)``, ``[M, n]``.
        """
        self._classes = said[0].size(-1)
        return torch.stack(dirichlet_sums(said[0], self._offset)).double()

    def values(self, context: Tensor, chosen: Tensor) -> Tensor:
        """Values of :data:`MEASURES` and :data:`JOINT` of N tokens in R readings, ``[R, 7, N]``.

        Args:
            context: of each token's position, ``[C, N]``.
            chosen: what each model said of it, ``[M, N]``; see :func:`choose`.
        """
        sums = DirichletSums(*context.float())
        measures = measures_of_sums(sums, self._classes)
        joint = _joint(*expected_log_probs(chosen[0], sums, self._offset))
        return torch.stack((*measures, *joint)).unsqueeze(0)


class EnsembleReader:
    """Reads an ensemble, or one ordinary model, of which log-probabilities are taken.

    Args:
        members: number of models.
    """

    takes = LOG_PROBS

    def __init__(self, members: int) -> None:
        self.weighs_members = members > 1
        self._readings = min(members, 2)

    @staticmethod
    def said(model: BaseFairseqModel, net_output: Tuple[Any, ...]) -> Tensor:
        """As of :class:`PriorNetworkReader`."""
        log_probs: Tensor = model.get_normalized_probs(net_output, log_probs=True)
        return log_probs.squeeze(0)

    def read(self, said: Sequence[Tensor], prefixes: Tensor) -> Tensor:
        """As of :class:`PriorNetworkReader`; the context is the measures and ``prefixes``."""
        weights = prefixes if self.weighs_members else None
        readings = sequence_ensemble_measures(said, weights)
        measures = [measure for reading in readings for measure in reading]
        return torch.cat((torch.stack(measures).double(), prefixes))

    def values(self, context: Tensor, chosen: Tensor) -> Tensor:
        """As of :class:`PriorNetworkReader`."""
        size = self._readings * len(MEASURES)
        measures, prefixes = context[:size].unflatten(0, (self._readings, -1)), context[size:]
        log_means = [chosen.logsumexp(0) - math.log(len(chosen))]
        if self.weighs_members:
            log_means.append((prefixes + chosen).logsumexp(0) - prefixes.logsumexp(0))
        joint = [torch.stack(_joint(log_mean, chosen.mean(0))) for log_mean in log_means]
        return torch.cat((measures, torch.stack(joint)), dim=1).float()


Reader = Union[PriorNetworkReader, EnsembleReader]


def choose(said: Sequence[Tensor], rows: Tensor, tokens: Tensor) -> Tensor:
    """What each of M models said of N tokens, ``[M, N]``, float64.

    Args:
        said: what is taken of each at n positions, ``[n, K]``.
        rows: position of each token, ``[N]``.
        tokens: their classes, ``[N]``.
    """
    return torch.stack([of_model[rows, tokens] for of_model in said]).double()


def _joint(log_mean: Tensor, mean_log: Tensor) -> Tuple[Tensor, Tensor]:
    return -log_mean, log_mean - mean_log
