"""What an ensemble of categorical distributions says: its mean, its diversity, its measures."""

from typing import Optional

import torch
from torch import Tensor

from ._rowwise import compute_dtype
from .measures import UncertaintyMeasures


class EnsembleStatistics:
    """Statistics of an ensemble from its members' log-probabilities, one member at a time.

    Holds two tensors ``[..., K]`` and one ``[...]`` however many members there are. Two of
    them leave the teacher: the mean π̂ and λ = 1/β̂₀, the proxy Dirichlet of Eq. 16 (or, for the
    Dirichlet likelihood, the mean log-probability).

    Example::

        stats = EnsembleStatistics()
        for model in members:
            stats.update(model(x).log_softmax(-1))
        loss = reverse_kl_proxy_dirichlet(z, stats.mean_probs, stats.inverse_precision)
    """

    def __init__(self) -> None:
        self.num_members = 0
        self._prob_sum: Optional[Tensor] = None
        self._log_prob_sum: Optional[Tensor] = None
        self._entropy_sum: Optional[Tensor] = None

    @torch.no_grad()
    def update(self, log_probs: Tensor) -> None:
        """Add one member.

        Args:
            log_probs: normalised log-probabilities, ``[..., K]``; ``-inf`` is a zero.

        Raises:
            ValueError: the shape differs from that of the members before.
        """
        with torch.autocast(log_probs.device.type, enabled=False):
            log_probs = log_probs.detach().to(compute_dtype(log_probs))
            probs = log_probs.exp()
            entropy = -torch.where(probs > 0, probs * log_probs, torch.zeros_like(probs)).sum(-1)
            if self._prob_sum is None or self._log_prob_sum is None or self._entropy_sum is None:
                self._prob_sum, self._log_prob_sum = probs, log_probs.clone()
                self._entropy_sum = entropy
            elif self._prob_sum.shape != log_probs.shape:
                raise ValueError(
                    f"member {self.num_members} has log-probabilities of shape "
                    f"{tuple(log_probs.shape)}, the members before {tuple(self._prob_sum.shape)}"
                )
            else:
                self._prob_sum += probs
                self._log_prob_sum += log_probs
                self._entropy_sum += entropy
        self.num_members += 1

    @property
    def mean_probs(self) -> Tensor:
        """Ensemble mean π̂, ``[..., K]`` (Eq. 3)."""
        return self._mean(self._prob_sum)

    @property
    def mean_log_probs(self) -> Tensor:
        """Mean log-probability g, ``[..., K]``."""
        return self._mean(self._log_prob_sum)

    @property
    def data(self) -> Tensor:
        """Mean member entropy, ``[...]``."""
        return self._mean(self._entropy_sum)

    @property
    def rmi(self) -> Tensor:
        """Reverse mutual information ``Σ π̂ (ln π̂ - g)``, ``[...]``; "MKL" in Eq. 16."""
        mean = self.mean_probs
        gap = torch.where(mean > 0, mean.log() - self.mean_log_probs, torch.zeros_like(mean))
        # equal members leave rounding of either sign
        return (mean * gap).sum(-1).clamp(min=0)

    @property
    def inverse_precision(self) -> Tensor:
        """λ = 1/β̂₀ = 2·MKL/(K-1), ``[...]`` (Eq. 16); 0 where the members agree."""
        return self.rmi * (2.0 / (self.mean_probs.shape[-1] - 1))

    @property
    def total(self) -> Tensor:
        """Entropy of the mean, ``[...]``."""
        mean = self.mean_probs
        return -torch.xlogy(mean, mean).sum(-1)

    @property
    def mutual_information(self) -> Tensor:
        """``total - data``, ``[...]`` (Eq. 4)."""
        return self.measures().mutual_information

    @property
    def epkl(self) -> Tensor:
        """Expected pairwise KL-divergence ``-Σ π̂ g - data``, ``[...]``."""
        return self.measures().epkl

    def measures(self) -> UncertaintyMeasures:
        """All measures, each ``[...]``, in nats."""
        total, rmi = self.total, self.rmi
        information = (total - self.data).clamp(min=0)
        return UncertaintyMeasures(
            total=total,
            data=total - information,
            mutual_information=information,
            epkl=information + rmi,
            rmi=rmi,
        )

    def _mean(self, total: Optional[Tensor]) -> Tensor:
        if total is None:
            raise ValueError("no member was added to EnsembleStatistics yet")
        return total / self.num_members


def ensemble_measures(log_probs: Tensor, dim: int = -2) -> UncertaintyMeasures:
    """Measures of an ensemble whose members' log-probabilities stand in one tensor.

    Args:
        log_probs: normalised log-probabilities, classes last, members along ``dim``; for the
            default ``[..., M, K]``.
        dim: dimension of the members.

    Returns:
        Measures of the remaining leading shape, in nats.

    Raises:
        ValueError: ``dim`` is that of the classes.
    """
    if dim % log_probs.dim() == log_probs.dim() - 1:
        raise ValueError("dim is the dimension of the members; the last one holds the classes")
    statistics = EnsembleStatistics()
    for member in log_probs.unbind(dim):
        statistics.update(member)
    return statistics.measures()
