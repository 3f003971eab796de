"""What an ensemble of categorical distributions says: its mean, its diversity, its measures."""

import math
from typing import Optional, Sequence, Tuple

import torch
from torch import Tensor

from ._checks import check_logits
from ._compile import PATIENCE_FOR_MEASURES
from ._rowwise import compute_dtype, row_chunks, row_function
from .measures import UncertaintyMeasures
from .special import exp

_LEAST = torch.finfo(torch.float64).min
_NO_MEMBER = "no member was added to EnsembleStatistics yet"


class EnsembleStatistics:
    """Statistics of an ensemble from its members' log-probabilities, one member at a time.

    Holds two tensors ``[..., K]`` and few of ``[...]`` however many members there are. Two
    tensors leave the teacher: the mean π̂ and λ = 1/β̂₀, the proxy Dirichlet of Eq. 16 (or, for the
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
        """Total uncertainty and RMI, ``[...]``: what needs a pass over the finished mean."""
        if self._of_mean is not None:
            return self._of_mean
        if self._prob_sum is None or self._log_prob_sum is None:
            raise ValueError(_NO_MEMBER)
        k, lead = self._prob_sum.shape[-1], self._prob_sum.shape[:-1]
        prob_sum, log_prob_sum = self._prob_sum.view(-1, k), self._log_prob_sum.view(-1, k)
        # a tensor, since another constant would have the function compiled again
        members = torch.full_like(prob_sum[:, :1], self.num_members)
        total, rmi = _entropy_and_rmi(prob_sum, log_prob_sum, members)
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
    """``[N]`` of ``[N, K]``."""
    # the clamp makes 0 · ln 0 a zero
    return -(log_probs.clamp(min=torch.finfo(log_probs.dtype).min).mul_(probs)).sum(-1)


def _compare(mean: Tensor, mean_log_probs: Tensor) -> Tuple[Tensor, Tensor]:
    """Entropy of a mean and its RMI with the members, ``[N]`` of ``[N, K]``."""
    log_mean = mean.log().clamp_(min=torch.finfo(mean.dtype).min)
    gap = (log_mean - mean_log_probs).mul_(mean)
    # a class that no member gives anything, 0 · infinity, counts nothing
    rmi = gap.nan_to_num_(nan=0.0, posinf=math.inf).sum(-1)
    entropy = -log_mean.mul_(mean).sum(-1)
    # of members that are equal, or of a mean that is 1, rounding of either sign is left
    return entropy.clamp_(min=0), rmi.clamp_(min=0)


@row_function(compilable=True, patience=PATIENCE_FOR_MEASURES)
def _add_member(prob_sum: Tensor, log_prob_sum: Tensor, log_probs: Tensor) -> Tensor:
    """Entropy ``[N]`` of a member, which is added to the sums, all ``[N, K]``."""
    probs = exp(log_probs)
    prob_sum += probs
    log_prob_sum += log_probs
    return _entropy(probs, log_probs)


@row_function(compilable=True, patience=PATIENCE_FOR_MEASURES)
def _entropy_and_rmi(
    prob_sum: Tensor, log_prob_sum: Tensor, members: Tensor
) -> Tuple[Tensor, Tensor]:
    """Entropy of the mean and RMI, ``[N]``, from sums ``[N, K]`` and their number ``[N, 1]``."""
    return _compare(prob_sum / members, log_prob_sum / members)


@row_function(compilable=True, patience=PATIENCE_FOR_MEASURES, at_once=True)
def _of_members(*members_and_weights: Tensor, members: int) -> Tuple[Tensor, ...]:
    """Total and data uncertainty and RMI, ``[N]``, of members ``[N, K]``; with as many weights
    ``[N, 1]`` of the weighted members, too. Of a chunk of rows all members are read while it is in
    the cache.
    """
    all_log_probs, weights = members_and_weights[:members], members_and_weights[members:]
    first = all_log_probs[0]
    prob_sum, log_prob_sum = torch.zeros_like(first), torch.zeros_like(first)
    weighted_mean = torch.zeros_like(first)
    entropies = []
    for m, log_probs in enumerate(all_log_probs):
        probs = exp(log_probs)
        prob_sum += probs
        log_prob_sum += log_probs
        if weights:
            weighted_mean.addcmul_(probs, weights[m])
        entropies.append(_entropy(probs, log_probs))
    entropy = torch.stack(entropies, dim=-1)
    mean_log_probs = log_prob_sum.div_(members)
    total, rmi = _compare(prob_sum.div_(members), mean_log_probs)
    unweighted = total, entropy.mean(-1), rmi
    if not weights:
        return unweighted
    total, rmi = _compare(weighted_mean, mean_log_probs)
    return (*unweighted, total, (entropy * torch.cat(weights, dim=-1)).sum(-1), rmi)


@torch.no_grad()
def log_mean_probs(log_probs: Sequence[Tensor]) -> Tensor:
    """Logarithm of the ensemble mean, ``ln π̂`` (Eq. 3).

    Of a chunk of rows all members are read while they are in the cache: to stack them all, as is
    done for a logsumexp of the whole, takes some times as long.

    Args:
        log_probs: of each of M members normalised log-probabilities ``[..., K]``; ``-inf`` is a
            zero.

    Returns:
        ``[..., K]``, float32 (float64 for float64 members).

    Raises:
        ValueError: not floating, no members, fewer than two classes, or shapes that differ.
    """
    _check_members(log_probs)
    members = [member.detach().reshape(-1, member.shape[-1]) for member in log_probs]
    result = torch.empty_like(members[0], dtype=compute_dtype(members[0]))
    for rows in row_chunks(result):
        sums = torch.stack([member[rows] for member in members]).to(result.dtype).logsumexp(0)
        torch.sub(sums, math.log(len(members)), out=result[rows])
    return result.view(log_probs[0].shape)


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
    return sequence_ensemble_measures(log_probs.unbind(dim))[0]


@torch.no_grad()
def sequence_ensemble_measures(
    log_probs: Sequence[Tensor], log_weights: Optional[Tensor] = None
) -> Tuple[UncertaintyMeasures, ...]:
    """Measures of an autoregressive ensemble, read as a product of expectations (PrEx) and, with
    weights, as an expectation of products (ExPr), too.

    As PrEx members weigh the same at each step. As ExPr, ``P(y) = mean_m P_m(y)``, what was said
    so far tells them apart: at step l member m has the posterior weight ``w_m ∝ P_m(y_<l)``
    (Malinin and Gales, "Uncertainty Estimation in Autoregressive Structured Prediction", 2021), and

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

    Args:
        log_probs: of each of M members normalised log-probabilities ``[..., K]``; ``-inf`` is a
            zero.
        log_weights: logarithms of the members' weights, ``[M, ...]``, but for a constant that all
            members share; ``-inf`` is a zero.

    Returns:
        Measures ``[...]`` in nats, of PrEx and, with weights, of ExPr.

    Raises:
        ValueError: not floating, no members, fewer than two classes, or shapes that differ.
    """
    _check_members(log_probs)
    lead, k = log_probs[0].shape[:-1], log_probs[0].shape[-1]
    weights: Sequence[Tensor] = ()
    if log_weights is not None:
        if log_weights.shape != (len(log_probs), *lead):
            raise ValueError(
                f"log_weights must have the shape {(len(log_probs), *lead)}, not "
                f"{tuple(log_weights.shape)}"
            )
        # finite, as all weights may be zero
        normalised = log_weights.detach().double().clamp(min=_LEAST).softmax(0)
        weights = normalised.reshape(len(log_probs), -1, 1).unbind()
    members = (member.reshape(-1, k) for member in log_probs)
    results = _of_members(*members, *weights, members=len(log_probs))
    values = [value.view(lead) for value in results]
    return tuple(_measures(*values[i : i + 3]) for i in range(0, len(values), 3))
