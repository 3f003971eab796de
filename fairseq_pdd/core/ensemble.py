"""Statistics and measures of an ensemble of categorical distributions."""

from typing import Any, Optional, Sequence, Tuple

import torch
from torch import Tensor

from ._checks import check_logits
from ._rowwise import RowFunction, compute_dtype
from .measures import UncertaintyMeasures
from .special import exp

_LEAST = torch.finfo(torch.float64).min
_NO_MEMBER = "no member was added to EnsembleStatistics yet"


class EnsembleStatistics:
    """Statistics of an ensemble from its members' log-probabilities, one member at a time.

    It holds two tensors ``[..., K]`` and a few of ``[...]``, however many members there are. The
    losses need two of its values: the mean π̂ and λ = 1/β̂₀, which are the proxy Dirichlet of
    Eq. 16 (the Dirichlet likelihood needs the mean log-probability instead).

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
        self._of_mean: Optional[Tuple[Tensor, Tensor]] = None

    @torch.no_grad()
    def update(self, log_probs: Tensor) -> None:
        """Add one member.

        Args:
            log_probs: normalised log-probabilities, ``[..., K]``; ``-inf`` is a zero.

        Raises:
            ValueError: not floating, fewer than two classes, or another shape than the members
                before.
        """
        check_logits(log_probs, "log_probs")
        if self._prob_sum is None or self._log_prob_sum is None or self._entropy_sum is None:
            dtype = compute_dtype(log_probs)
            self._prob_sum = torch.zeros_like(
                log_probs, dtype=dtype, memory_format=torch.contiguous_format
            )
            self._log_prob_sum = torch.zeros_like(self._prob_sum)
            self._entropy_sum = self._prob_sum.new_zeros(log_probs.shape[:-1])
        else:
            _check_member(self.num_members, log_probs, self._prob_sum)
        k = log_probs.shape[-1]
        self._entropy_sum.view(-1).add_(
            _add_member(
                self._prob_sum.view(-1, k),
                self._log_prob_sum.view(-1, k),
                log_probs.detach().reshape(-1, k),
            )
        )
        self.num_members += 1
        self._of_mean = None

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
        return _measures(total, self.data, rmi)

    @torch.no_grad()
    def _measures_of_mean(self) -> Tuple[Tensor, Tensor]:
        """Return total uncertainty and RMI, ``[...]``, which need a pass over the mean."""
        if self._of_mean is not None:
            return self._of_mean
        if self._prob_sum is None or self._log_prob_sum is None:
            raise ValueError(_NO_MEMBER)
        k, lead = self._prob_sum.shape[-1], self._prob_sum.shape[:-1]
        prob_sum, log_prob_sum = self._prob_sum.view(-1, k), self._log_prob_sum.view(-1, k)
        total, rmi = _entropy_and_rmi(prob_sum, log_prob_sum, members=self.num_members)
        self._of_mean = total.view(lead), rmi.view(lead)
        return self._of_mean

    def _mean(self, total: Optional[Tensor]) -> Tensor:
        if total is None:
            raise ValueError(_NO_MEMBER)
        return total / self.num_members


def _check_members(log_probs: Sequence[Tensor]) -> None:
    if not log_probs:
        raise ValueError("an ensemble needs members, log_probs are empty")
    check_logits(log_probs[0], "log_probs")
    for m, member in enumerate(log_probs):
        _check_member(m, member, log_probs[0])


def _check_member(number: int, log_probs: Tensor, before: Tensor) -> None:
    if log_probs.shape != before.shape:
        raise ValueError(
            f"member {number} has log-probabilities of shape {tuple(log_probs.shape)}, the members "
            f"before {tuple(before.shape)}"
        )


def _measures(total: Tensor, data: Tensor, rmi: Tensor) -> UncertaintyMeasures:
    information = (total - data).clamp(min=0)
    return UncertaintyMeasures(
        total=total,
        data=total - information,
        mutual_information=information,
        epkl=information + rmi,
        rmi=rmi,
    )


def _entropy(probs: Tensor, log_probs: Tensor) -> Tensor:
    """Return entropies ``[N]`` of distributions ``[N, K]``."""
    # the clamp makes 0 · ln 0 a zero
    return -(log_probs.clamp(min=torch.finfo(log_probs.dtype).min).mul_(probs)).sum(-1)


def _compare(mean: Tensor, mean_log_probs: Tensor) -> Tuple[Tensor, Tensor]:
    """Return the entropy of a mean and its RMI with the members, ``[N]`` from ``[N, K]``."""
    log_mean = mean.log().clamp_(min=torch.finfo(mean.dtype).min)
    gap = (log_mean - mean_log_probs).mul_(mean)
    # 0 · infinity, of a class to which no member gives probability, is 0; NaN remains NaN
    rmi = gap.masked_fill_(mean == 0, 0.0).sum(-1)
    entropy = -log_mean.mul_(mean).sum(-1)
    # for equal members, or a mean of 1, rounding errors of either sign remain
    return entropy.clamp_(min=0), rmi.clamp_(min=0)


@RowFunction
def _add_member(prob_sum: Tensor, log_prob_sum: Tensor, log_probs: Tensor) -> Tensor:
    """Add a member to the sums, all ``[N, K]``, and return its entropy ``[N]``."""
    probs = exp(log_probs)
    prob_sum += probs
    log_prob_sum += log_probs
    return _entropy(probs, log_probs)


@RowFunction
def _entropy_and_rmi(prob_sum: Tensor, log_prob_sum: Tensor, members: int) -> Tuple[Tensor, Tensor]:
    """Return entropy of the mean and RMI, ``[N]``, from sums ``[N, K]`` over the members."""
    return _compare(prob_sum / members, log_prob_sum / members)


@RowFunction
def _sequence_measures(*members_and_weights: Any) -> Tuple[Tensor, ...]:
    """Return total and data uncertainty and RMI, ``[N]``, of members ``[N, K]``; if the last
    argument is not None but weights ``[N, M]``, also those of the weighted members.

    All members of a chunk of rows are read while the chunk is in the cache.
    """
    *members, weights = members_and_weights
    prob_sum, log_prob_sum = torch.zeros_like(members[0]), torch.zeros_like(members[0])
    weighted_mean = torch.zeros_like(members[0])
    entropies = []
    for m, log_probs in enumerate(members):
        probs = exp(log_probs)
        prob_sum += probs
        log_prob_sum += log_probs
        if weights is not None:
            weighted_mean.addcmul_(probs, weights[:, m : m + 1])
        entropies.append(_entropy(probs, log_probs))
    entropy = torch.stack(entropies, dim=-1)
    mean_log_probs = log_prob_sum.div_(len(members))
    total, rmi = _compare(prob_sum.div_(len(members)), mean_log_probs)
    unweighted = total, entropy.mean(-1), rmi
    if weights is None:
        return unweighted
    total, rmi = _compare(weighted_mean, mean_log_probs)
    return (*unweighted, total, (entropy * weights).sum(-1), rmi)


def ensemble_measures(log_probs: Tensor, dim: int = -2) -> UncertaintyMeasures:
    """Compute the measures of an ensemble from one tensor of log-probabilities.

    Args:
        log_probs: normalised log-probabilities with classes last and members along ``dim``;
            ``[..., M, K]`` for the default.
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
    return sequence_ensemble_measures(log_probs.unbind(dim))[0]


@torch.no_grad()
def sequence_ensemble_measures(
    log_probs: Sequence[Tensor], log_weights: Optional[Tensor] = None
) -> Tuple[UncertaintyMeasures, ...]:
    """Compute the measures of an autoregressive ensemble as a product of expectations (PrEx) and,
    with weights, also as an expectation of products (ExPr).

    PrEx gives all members the same weight at each step. ExPr, ``P(y) = mean_m P_m(y)``, weights
    them by the tokens before: at step l member m has the posterior weight ``w_m ∝ P_m(y_<l)``
    (Malinin and Gales, "Uncertainty Estimation in Autoregressive Structured Prediction", 2021), and

    =================== ==========================================================
    mean π̂              ``Σ_m w_m π_m``, the conditional ``P(y_l | y_<l)``
    total               ``H[π̂]``
    data                ``Σ_m w_m H[π_m]``
    mutual information  ``Σ_m w_m KL[π_m ‖ π̂]``
    EPKL                ``Σ_m w_m mean_n KL[π_m ‖ π_n]``
    RMI                 ``mean_n KL[π̂ ‖ π_n]``
    =================== ==========================================================

    The member n of a comparison keeps its prior weight 1/M, since y is not drawn from it. With
    these weights the chain rule holds: the sum of a measure over the steps, with ``y`` drawn from
    the ensemble, has the measure of whole sequences as its expectation. The identities of the
    measures hold at each step.

    Args:
        log_probs: normalised log-probabilities ``[..., K]`` of each of M members; ``-inf`` is a
            zero.
        log_weights: logarithms of the members' weights, ``[M, ...]``, up to a constant that all
            members share; ``-inf`` is a zero.

    Returns:
        Measures ``[...]`` in nats of PrEx and, with weights, of ExPr.

    Raises:
        ValueError: not floating, no members, fewer than two classes, or shapes that differ.
    """
    _check_members(log_probs)
    lead, k = log_probs[0].shape[:-1], log_probs[0].shape[-1]
    weights = None
    if log_weights is not None:
        if log_weights.shape != (len(log_probs), *lead):
            raise ValueError(
                f"log_weights must have the shape {(len(log_probs), *lead)}, not "
                f"{tuple(log_weights.shape)}"
            )
        # finite, as all weights may be zero
        normalised = log_weights.detach().double().clamp(min=_LEAST).softmax(0)
        weights = normalised.reshape(len(log_probs), -1).t()
    members = (member.reshape(-1, k) for member in log_probs)
    results = _sequence_measures(*members, weights)
    values = [value.view(lead) for value in results]
    return tuple(_measures(*values[i : i + 3]) for i in range(0, len(values), 3))
