"""Independent expected values for the tests of the numeric core.

Textbook formulas without regard to speed and rounding: in mpmath (60 digits, more for logits beyond
40), and in float64 PyTorch for comparisons with autograd and ``torch.distributions``. This module
does not import the package.
"""

import functools
from collections import Counter
from typing import List, NamedTuple, Sequence

import mpmath as mp
import torch
from torch import Tensor
from torch.distributions import Dirichlet

DIGITS = 60


class Row(NamedTuple):
    """A loss, its gradient, and the sum of the absolute terms of the loss."""

    loss: mp.mpf
    grad: List[mp.mpf]
    scale: mp.mpf


def _exactly(function):
    """Run ``function`` with enough digits for terms of size ``exp(z)`` that cancel."""

    @functools.wraps(function)
    def wrapped(logits, *args, **kwargs):
        largest = max([0.0, *(float(z) for z in logits)])
        with mp.workdps(DIGITS + int(largest / 2)):
            return function(logits, *args, **kwargs)

    return wrapped


class _Memo(dict):
    """A function of one mpf argument that is evaluated once per distinct value."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def __missing__(self, x):
        self[x] = self.function(x)
        return self[x]


def _floats(values) -> List[float]:
    return values.tolist() if isinstance(values, Tensor) else [float(v) for v in values]


def _mpf(values) -> List[mp.mpf]:
    return [mp.mpf(v) for v in _floats(values)]


def _exp(z: mp.mpf) -> mp.mpf:
    return mp.mpf(0) if z == -mp.inf else mp.exp(z)


@_exactly
def reverse_kl(
    logits: Sequence[float], mean: Sequence[float], lam: float, offset: float = 1.0
) -> Row:
    """Compute Eq. 17 directly: the loss from ln Gamma and digamma, the gradient from trigamma.

    Classes of equal logit and mean are evaluated once, so large vocabularies are affordable.
    """
    lam, offset = mp.mpf(float(lam)), mp.mpf(float(offset))
    pairs = list(zip(_floats(logits), _floats(mean)))
    unique = {pair: (mp.mpf(count), *_mpf(pair)) for pair, count in Counter(pairs).items()}
    counts, z, pi = zip(*unique.values())

    def total_of(values):
        return sum(n * v for n, v in zip(counts, values))

    psi, lgamma, trigamma = _Memo(mp.digamma), _Memo(mp.loggamma), _Memo(lambda x: mp.psi(1, x))
    k = len(pairs)
    e = [_exp(v) for v in z]
    alpha = [v + offset for v in e]
    total, alpha0 = total_of(e), total_of(alpha)
    gap = [psi[a] - psi[alpha0] for a in alpha]
    entropy = lgamma[alpha0] - total_of(lgamma[a] for a in alpha)
    entropy += total_of((a - 1) * g for a, g in zip(alpha, gap))
    loss = -total_of(p * g for p, g in zip(pi, gap)) + lam * entropy
    loss -= lam * (offset - 1) * total_of(gap)
    grad = [
        v * (trigamma[a] * (lam * v - p) - trigamma[alpha0] * (lam * total - 1))
        for v, a, p in zip(e, alpha, pi)
    ]
    grad_of = dict(zip(unique, grad))

    def h(x):
        return abs(lgamma[x] - (x - 1) * psi[x] + x)

    scale = total_of(p * abs(g) for p, g in zip(pi, gap))
    scale += lam * (h(alpha0) + (k - 1) * abs(psi[alpha0]) + total_of(h(a) for a in alpha))
    scale += lam * abs(offset - 1) * total_of(abs(g) for g in gap)
    return Row(loss, [grad_of[pair] for pair in pairs], scale)


@_exactly
def forward_kl(
    logits: Sequence[float], mean: Sequence[float], lam: float, offset: float = 1.0
) -> Row:
    """Compute KL(Dir(beta + offset) || Dir(alpha))."""
    z, pi, lam, offset = _mpf(logits), _mpf(mean), mp.mpf(float(lam)), mp.mpf(float(offset))
    alpha = [_exp(v) + offset for v in z]
    beta = [p / lam + offset for p in pi]
    alpha0, beta0 = sum(alpha), sum(beta)
    expected = [mp.digamma(b) - mp.digamma(beta0) for b in beta]
    loss = mp.loggamma(beta0) - sum(map(mp.loggamma, beta))
    loss -= mp.loggamma(alpha0) - sum(map(mp.loggamma, alpha))
    loss += sum((b - a) * g for a, b, g in zip(alpha, beta, expected))
    grad = [
        _exp(v) * (mp.digamma(a) - mp.digamma(alpha0) - g) for v, a, g in zip(z, alpha, expected)
    ]
    return Row(loss, grad, abs(loss))


@_exactly
def dirichlet_nll(logits: Sequence[float], mean_log: Sequence[float], offset: float = 1.0) -> Row:
    """Compute -ln Dir(pi; alpha), averaged over members of mean log-probability ``mean_log``."""
    z, g, offset = _mpf(logits), _mpf(mean_log), mp.mpf(float(offset))
    alpha = [_exp(v) + offset for v in z]
    alpha0 = sum(alpha)
    evidence = [(a - 1) * v for a, v in zip(alpha, g)]
    loss = sum(map(mp.loggamma, alpha)) - mp.loggamma(alpha0) - sum(evidence)
    grad = [_exp(v) * (mp.digamma(a) - mp.digamma(alpha0) - u) for v, a, u in zip(z, alpha, g)]
    scale = sum(abs(mp.loggamma(a)) for a in alpha) + abs(mp.loggamma(alpha0))
    return Row(loss, grad, scale + sum(map(abs, evidence)))


@_exactly
def measures(logits: Sequence[float], offset: float = 0.0) -> dict:
    """Compute the token-level measures of Dir(exp(z) + offset)."""
    a = [v + mp.mpf(float(offset)) for v in map(_Memo(_exp).__getitem__, _mpf(logits))]
    a0 = sum(a)
    counts = Counter(a)
    total = -sum(n * v / a0 * mp.log(v / a0) for v, n in counts.items() if v)
    data = -sum(n * v / a0 * (mp.digamma(v + 1) - mp.digamma(a0 + 1)) for v, n in counts.items())
    epkl = (len(a) - 1) / a0
    return {
        "total": total,
        "data": data,
        "mutual_information": total - data,
        "epkl": epkl,
        "rmi": epkl - (total - data),
    }


@_exactly
def expected_log_prob(logits: Sequence[float], index: int, offset: float = 0.0) -> tuple:
    """Compute ln E[pi_k] and E[ln pi_k] under Dir(exp(z) + offset)."""
    a = [_exp(v) + mp.mpf(float(offset)) for v in _mpf(logits)]
    a0 = sum(a)
    return mp.log(a[index] / a0), mp.digamma(a[index]) - mp.digamma(a0)


def ensemble_measures(probs: Tensor) -> dict:
    """Compute measures of an ensemble ``[M, K]`` by their definitions over members and pairs."""
    p = probs.double()
    members, mean = len(p), p.mean(0)

    def entropy(q: Tensor) -> Tensor:
        return -torch.xlogy(q, q).sum(-1)

    def kl(q: Tensor, r: Tensor) -> Tensor:
        return (torch.xlogy(q, q) - torch.xlogy(q, r)).sum(-1)

    return {
        "total": entropy(mean),
        "data": torch.stack([entropy(q) for q in p]).mean(),
        "mutual_information": torch.stack([kl(q, mean) for q in p]).mean(),
        "epkl": sum(kl(q, r) for q in p for r in p) / members**2,
        "rmi": torch.stack([kl(mean, q) for q in p]).mean(),
    }


def weighted_ensemble_measures(probs: Tensor, weights: Tensor) -> dict:
    """Compute measures of an ensemble ``[M, K]`` whose members have weights ``[M]`` of sum 1.

    The weighted members are compared with members of equal weights.
    """
    p = probs.double()
    mean = weights @ p

    def kl(q: Tensor, r: Tensor) -> Tensor:
        return (torch.xlogy(q, q) - torch.xlogy(q, r)).sum(-1)

    return {
        "total": -torch.xlogy(mean, mean).sum(),
        "data": -(weights * torch.xlogy(p, p).sum(-1)).sum(),
        "mutual_information": sum(w * kl(q, mean) for w, q in zip(weights, p)),
        "epkl": sum(w * kl(q, r) for w, q in zip(weights, p) for r in p) / len(p),
        "rmi": sum(kl(mean, r) for r in p) / len(p),
    }


def reverse_kl_float64(logits: Tensor, mean: Tensor, lam: Tensor, offset: float = 1.0) -> Tensor:
    """Compute lambda * KL(Dir(alpha) || Dir(beta + offset)) by torch.distributions, lambda > 0."""
    alpha = logits.double().exp() + offset
    beta = mean.double() / lam.double().unsqueeze(-1) + offset
    return lam * torch.distributions.kl_divergence(Dirichlet(alpha), Dirichlet(beta))


def forward_kl_float64(logits: Tensor, mean: Tensor, lam: Tensor, offset: float = 1.0) -> Tensor:
    alpha = logits.double().exp() + offset
    beta = mean.double() / lam.double().unsqueeze(-1) + offset
    return torch.distributions.kl_divergence(Dirichlet(beta), Dirichlet(alpha))


def dirichlet_nll_float64(logits: Tensor, members: Tensor, offset: float = 1.0) -> Tensor:
    """Compute the mean -ln Dir(pi; alpha) of members' probabilities ``[M, ..., K]``."""
    return -Dirichlet(logits.double().exp() + offset).log_prob(members.double()).mean(0)


def mean_kl_float64(logits: Tensor, mean: Tensor) -> Tensor:
    mean = mean.double()
    return (torch.xlogy(mean, mean) - mean * logits.double().log_softmax(-1)).sum(-1)


def relative_error(value: Tensor, truth: mp.mpf, scale: mp.mpf) -> float:
    """Compute ``|value - truth| / scale`` with all digits."""
    return float(abs(mp.mpf(float(value)) - truth) / scale)


def max_norm_error(values: Tensor, truth: Sequence[mp.mpf]) -> float:
    """Compute the largest error of a row, relative to the largest value of the row."""
    largest = max(map(abs, truth))
    errors = max(abs(mp.mpf(v) - t) for v, t in set(zip(values.tolist(), truth)))
    return float(errors / largest) if largest else float(errors)
