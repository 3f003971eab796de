"""What models say of the next token at N positions, read as measures of uncertainty.

A Prior Network has one reading, its Dirichlet. An ensemble has two: as a product of
expectations (PrEx) and as an expectation of products (ExPr). An ordinary model is an ensemble
of one and has PrEx alone.

A measure is of a position, a joint value of a token there. For joint values it is enough to
know of a position its ``context``, which has no dimension of the classes.
"""

import math
from typing import Iterable, NamedTuple, Tuple, Union

import torch
from torch import Tensor

from ..core import (
    DirichletSums,
    EnsembleStatistics,
    UncertaintyMeasures,
    expected_log_probs,
    measures_and_sums,
)

MEASURES = UncertaintyMeasures._fields
JOINT = ("score", "rmi_score")


class Reading(NamedTuple):
    """Of N positions, in R readings."""

    measures: Tensor
    """Values of :data:`MEASURES`, ``[R, 5, N]``."""
    context: Tensor
    """What the reader needs to know for joint values, ``[C, N]``."""


class PriorNetworkReader:
    """Reads a Prior Network.

    Args:
        offset: 0 for Dir(e), δ for Dir(e + δ).
    """

    def __init__(self, offset: float) -> None:
        self.offset = offset

    def read(self, logits: Tensor) -> Reading:
        """Read logits ``[N, K]``; the context is :class:`~fairseq_pdd.core.DirichletSums`."""
        measures, sums = measures_and_sums(logits, self.offset)
        return Reading(torch.stack(measures).unsqueeze(0), torch.stack(sums))

    def joint(self, context: Tensor, chosen: Tensor) -> Tensor:
        """Values of :data:`JOINT` ``[1, 2, n]`` of tokens, by their logits ``[1, n]``."""
        sums = DirichletSums(*context.unsqueeze(1))
        return _joint(*expected_log_probs(chosen, sums, self.offset))


class EnsembleReader:
    """Reads an ensemble, or one ordinary model.

    Args:
        members: number of models.
    """

    def __init__(self, members: int) -> None:
        self.members = members

    def read(self, members: Iterable[Tuple[Tensor, Tensor]]) -> Reading:
        """Read what the members say, one after another.

        Args:
            members: of each log-probabilities ``[N, K]``, and what it gave to the tokens before
                each position, ``ln P(y_<l|x)``, ``[N]``, float64.

        Returns:
            PrEx and, of several members, ExPr; the context is what members gave to the tokens
            before, ``[M, N]``.
        """
        statistics, prefixes = EnsembleStatistics(), []
        for log_probs, prefix in members:
            statistics.update(log_probs, prefix if self.members > 1 else None)
            prefixes.append(prefix)
        readings = [statistics.unweighted, statistics][: self.members]
        measures = torch.stack([torch.stack(reading.measures()) for reading in readings])
        return Reading(measures, torch.stack(prefixes))

    def joint(self, context: Tensor, chosen: Tensor) -> Tensor:
        """Values of :data:`JOINT` ``[R, 2, n]`` of tokens, by what members give them ``[M, n]``."""
        log_means = [chosen.logsumexp(0) - math.log(len(chosen))]
        if len(chosen) > 1:
            log_means.append((context + chosen).logsumexp(0) - context.logsumexp(0))
        return _joint(torch.stack(log_means), chosen.mean(0))


Reader = Union[PriorNetworkReader, EnsembleReader]


def _joint(log_mean: Tensor, mean_log: Tensor) -> Tensor:
    return torch.stack((-log_mean, log_mean - mean_log), dim=1)
