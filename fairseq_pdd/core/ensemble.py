"""What an ensemble of categorical distributions says: its mean, its diversity, its measures."""

import math
from typing import Optional, Tuple

import torch
from torch import Tensor

from ._checks import check_logits, check_per_row
from ._compile import PATIENCE_FOR_MEASURES
from ._rowwise import compute_dtype, row_function
from .measures import UncertaintyMeasures
from .special import exp

_LEAST = torch.finfo(torch.float64).min
_NO_MEMBER = "no member was added to EnsembleStatistics yet"


class EnsembleStatistics:
    """Statistics of an ensemble from its members' log-probabilities, one member at a time.

    Holds two tensors ``[..., K]`` (three with weights) and few of ``[...]`` however many members
    there are. Two tensors leave the teacher: the mean π̂ and λ = 1/β̂₀, the proxy Dirichlet of
    Eq. 16 (or, for the Dirichlet likelihood, the mean log-probability).

    **Weights.** In an autoregressive ensemble that is read as an expectation of products (ExPr),
    ``P(y) = mean_m P_m(y)``, what was said so far tells the members apart: at step l member m
    has the posterior weight ``w_m ∝ P_m(y_<l)`` (Malinin and Gales, "Uncertainty Estimation in
    Autoregressive Structured Prediction", 2021). With :meth:`update` given these weights,

    =================== ==========================================================
    mean π̂              ``Σ_m w_m π_m``, the conditional ``P(y_l | y_<l)``
    total               ``H[π̂]``
    data                ``Σ_m w_m H[π_m]``
    mutual information  ``Σ_m w_m KL[π_m ‖ π̂]``
    EPKL                ``Σ_m w_m mean_n KL[π_m ‖ π_n]``
    RMI                 ``mean_n KL[π̂ ‖ π_n]``
    =================== ==========================================================

    The member n that is compared with keeps its prior weight 1/M: it did not say y. Just so the
    chain rule holds. Summed over the steps, with ``y`` from the ensemble, each has the measure
    of whole sequences as its expectation, and the identities of the measures hold at each step.

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
        self._weights: Optional[_Weights] = None
        self._unweighted: Optional[EnsembleStatistics] = None
        self._of_mean: Optional[Tuple[Tensor, Tensor]] = None

    @torch.no_grad()
    def update(self, log_probs: Tensor, log_weight: Optional[Tensor] = None) -> None:
        """Add one member.

        Args:
            log_probs: normalised log-probabilities, ``[..., K]``; ``-inf`` is a zero.
            log_weight: logarithm of the member's weight, ``[...]``, but for a constant that all
                members share; ``-inf`` is a zero. Without it members weigh the same.

        Raises:
            ValueError: not floating, fewer than two classes, another shape than the members
                before, or a weight for some members only.
        """
        check_logits(log_probs, "log_probs")
        if log_weight is not None:
            check_per_row("log_weight", log_weight, log_probs)
        if self.num_members > 0 and (log_weight is None) != (self._weights is None):
            raise ValueError("either all members have a weight or none has")
        if self._prob_sum is None or self._log_prob_sum is None or self._entropy_sum is None:
            dtype = compute_dtype(log_probs)
            self._prob_sum = torch.zeros_like(
                log_probs, dtype=dtype, memory_format=torch.contiguous_format
            )
            self._log_prob_sum = torch.zeros_like(self._prob_sum)
            self._entropy_sum = self._prob_sum.new_zeros(log_probs.shape[:-1])
            if log_weight is not None:
                self._weights = _Weights(self._entropy_sum)
                self._unweighted = plain = EnsembleStatistics()
                plain._prob_sum = torch.zeros_like(self._prob_sum)
                plain._log_prob_sum = self._log_prob_sum
                plain._entropy_sum = torch.zeros_like(self._entropy_sum)
        elif self._prob_sum.shape != log_probs.shape:
            raise ValueError(
                f"member {self.num_members} has log-probabilities of shape "
                f"{tuple(log_probs.shape)}, the members before {tuple(self._prob_sum.shape)}"
            )
        k = log_probs.shape[-1]
        member = log_probs.detach().reshape(-1, k)
        prob_sum, log_prob_sum = self._prob_sum.view(-1, k), self._log_prob_sum.view(-1, k)
        entropy_sum = self._entropy_sum.view(-1)
        if log_weight is None or self._weights is None or self._unweighted is None:
            entropy_sum += _add_member(prob_sum, log_prob_sum, member)
        else:
            decay, gain = self._weights.add(log_weight)
            plain = self._unweighted
            assert plain._prob_sum is not None
            assert plain._entropy_sum is not None
            entropy = _add_member(
                plain._prob_sum.view(-1, k), log_prob_sum, member, prob_sum, decay, gain
            )
            plain._entropy_sum.view(-1).add_(entropy)
            entropy_sum.mul_(decay.view(-1)).add_(gain.view(-1) * entropy)
            plain.num_members, plain._of_mean = self.num_members + 1, None
        self.num_members += 1
        self._of_mean = None

    @property
    def unweighted(self) -> "EnsembleStatistics":
        """The same members without their weights."""
        return self if self._unweighted is None else self._unweighted

    @property
    def mean_probs(self) -> Tensor:
        """Ensemble mean π̂, ``[..., K]`` (Eq. 3)."""
        return self._weighted_mean(self._prob_sum)

    @property
    def mean_log_probs(self) -> Tensor:
        """Mean log-probability g, ``[..., K]``; never weighted."""
        if self._log_prob_sum is None:
            raise ValueError(_NO_MEMBER)
        return self._log_prob_sum / self.num_members

    @property
    def data(self) -> Tensor:
        """Mean member entropy, ``[...]``."""
        return self._weighted_mean(self._entropy_sum)

    @property
    def total(self) -> Tensor:
        """Entropy of the mean, ``[...]``."""
        return self._measures_of_mean()[0]

    @property
    def rmi(self) -> Tensor:
        """Reverse mutual information ``Σ π̂ (ln π̂ - g)``, ``[...]``; "MKL" in Eq. 16."""
        return self._measures_of_mean()[1]

    @property
    def inverse_precision(self) -> Tensor:
        """λ = 1/β̂₀ = 2·MKL/(K-1), ``[...]`` (Eq. 16); 0 where the members agree."""
        rmi = self.rmi
        assert self._prob_sum is not None
        return rmi * (2.0 / (self._prob_sum.shape[-1] - 1))

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
        total, rmi = self._measures_of_mean()
        information = (total - self.data).clamp(min=0)
        return UncertaintyMeasures(
            total=total,
            data=total - information,
            mutual_information=information,
            epkl=information + rmi,
            rmi=rmi,
        )

    @torch.no_grad()
    def _measures_of_mean(self) -> Tuple[Tensor, Tensor]:
        """Total uncertainty and RMI, ``[...]``: what needs a pass over the finished mean."""
        if self._of_mean is not None:
            return self._of_mean
        if self._prob_sum is None or self._log_prob_sum is None:
            raise ValueError(_NO_MEMBER)
        k, lead = self._prob_sum.shape[-1], self._prob_sum.shape[:-1]
        prob_sum, log_prob_sum = self._prob_sum.view(-1, k), self._log_prob_sum.view(-1, k)
        # a tensor, since another constant would have the function compiled again
        members = torch.full_like(prob_sum[:, :1], self.num_members)
        weights = members if self._weights is None else self._weights.sum.view(-1, 1)
        total, rmi = _entropy_and_rmi(prob_sum, log_prob_sum, weights, members)
        # equal members leave rounding of either sign
        self._of_mean = total.view(lead), rmi.clamp(min=0).view(lead)
        return self._of_mean

    def _weighted_mean(self, total: Optional[Tensor]) -> Tensor:
        if total is None:
            raise ValueError(_NO_MEMBER)
        if self._weights is None:
            return total / self.num_members
        weights = self._weights.sum
        return total / (weights.unsqueeze(-1) if total.dim() > weights.dim() else weights)


class _Weights:
    """Sum of the members' weights, divided by the largest so far: logarithms may be any."""

    def __init__(self, like: Tensor) -> None:
        self.sum = torch.zeros_like(like)
        # the logarithms of long outputs are large; finite, as all weights may be zero
        self._log_scale = torch.full_like(like, _LEAST, dtype=torch.float64)

    def add(self, log_weight: Tensor) -> Tuple[Tensor, Tensor]:
        """Factors ``[N, 1]`` of what was summed before and of the next member."""
        log_weight = log_weight.detach().double().clamp(min=_LEAST)
        scale = torch.maximum(self._log_scale, log_weight)
        decay, gain = (
            (log - scale).exp().to(self.sum.dtype) for log in (self._log_scale, log_weight)
        )
        self.sum = self.sum * decay + gain
        self._log_scale = scale
        return decay.reshape(-1, 1), gain.reshape(-1, 1)


@row_function(compilable=True, patience=PATIENCE_FOR_MEASURES)
def _add_member(
    prob_sum: Tensor,
    log_prob_sum: Tensor,
    log_probs: Tensor,
    weighted_sum: Optional[Tensor] = None,
    decay: Optional[Tensor] = None,
    gain: Optional[Tensor] = None,
) -> Tensor:
    """Entropy ``[N]`` of a member, which is added to the sums, all ``[N, K]``.

    With weights: to another sum, with factors of what that is so far and of the member, ``[N, 1]``.
    """
    probs = exp(log_probs)
    prob_sum += probs
    log_prob_sum += log_probs
    if weighted_sum is not None and decay is not None and gain is not None:
        weighted_sum.mul_(decay).addcmul_(probs, gain)
    # the clamp makes 0 · ln 0 a zero
    return -(probs * log_probs.clamp(min=torch.finfo(log_probs.dtype).min)).sum(-1)


@row_function(compilable=True, patience=PATIENCE_FOR_MEASURES)
def _entropy_and_rmi(
    prob_sum: Tensor, log_prob_sum: Tensor, weights: Tensor, members: Tensor
) -> Tuple[Tensor, Tensor]:
    """Entropy of the mean and RMI, ``[N]``, from sums ``[N, K]``.

    What they are to be divided by, ``[N, 1]``: the sum of weights, the number of members.
    """
    mean = prob_sum / weights
    log_mean = mean.log().clamp_(min=torch.finfo(mean.dtype).min)
    gap = (log_mean - log_prob_sum / members).mul_(mean)
    # a class that no member gives anything, 0 · infinity, counts nothing
    return -(mean * log_mean).sum(-1), gap.nan_to_num_(nan=0.0, posinf=math.inf).sum(-1)


def ensemble_measures(log_probs: Tensor, dim: int = -2) -> UncertaintyMeasures:
    """Measures of an ensemble whose members' log-probabilities stand in one tensor.

    Args:
        log_probs: normalised log-probabilities, classes last, members along ``dim``; for the
            default ``[..., M, K]``.
        dim: dimension of the members.

    Returns:
        Measures of the remaining leading shape, in nats.

    Raises:
        ValueError: not floating, no members or fewer than two classes, or ``dim`` is not one of
            the leading dimensions.
    """
    check_logits(log_probs, "log_probs")
    last = log_probs.dim() - 1
    if last == 0:
        raise ValueError("log_probs need a dimension of the members beside that of the classes")
    if not -last - 1 <= dim < last or dim == -1:
        raise ValueError(
            f"dim is the dimension of the members, one of the first {last}, not {dim}; "
            f"the last one holds the classes"
        )
    if log_probs.shape[dim] == 0:
        raise ValueError(f"log_probs hold no members, shape {tuple(log_probs.shape)}")
    statistics = EnsembleStatistics()
    for member in log_probs.unbind(dim):
        statistics.update(member)
    return statistics.measures()
