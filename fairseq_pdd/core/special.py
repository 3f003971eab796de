r"""Gamma-type functions in the combinations that stay exact in float32.

The losses and measures need differences of :math:`\ln\Gamma, \psi, \psi'` in which terms of
the size of :math:`x \ln x` cancel. They are taken here in forms whose large terms cancelled on
paper: below ``_SWITCH`` from PyTorch's own special functions, above it from the asymptotic
series, which has nothing left to cancel and needs no more than ``1/x``.

Functions of a large argument take ``log_x`` beside ``x``: ``x`` may then overflow to infinity
(``1/x`` is 0, its correct limit) while the result stays finite and exact.
"""

import math
from typing import NamedTuple, Sequence, Tuple

import torch
from torch import Tensor

# With terms up to B_14 the first omitted term at 10 is below 5e-17, so float64 is exact too.
_SWITCH = 10.0
_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6)  # B_2, B_4, ..., B_14
_DIGAMMA = tuple(b / (2 * n) for n, b in enumerate(_BERNOULLI, 1))
_LGAMMA = tuple(b / (2 * n * (2 * n - 1)) for n, b in enumerate(_BERNOULLI, 1))


def _horner(coefficients: Sequence[float], x: Tensor) -> Tensor:
    """Evaluate ``c0 + c1 x + c2 x² + …``."""
    result = torch.full_like(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        result = torch.addcmul(torch.full_like(x, c), result, x)
    return result


def _split(x: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
    """Return ``(is_large, argument for the direct branch, 1/x for the series branch)``."""
    return x > _SWITCH, x.clamp(max=_SWITCH), x.clamp(min=_SWITCH).reciprocal()


def digamma_minus_log(x: Tensor) -> Tensor:
    r""":math:`\psi(x) - \ln x` for ``x > 0``; tends to :math:`-1/(2x)`."""
    large, small, w = _split(x)
    series = -w * (0.5 + w * _horner(_DIGAMMA, w * w))
    return torch.where(large, series, torch.digamma(small) - small.log())


def entropy_term(x: Tensor, log_x: Tensor) -> Tensor:
    r""":math:`h(x) = \ln\Gamma(x) - (x - 1)\psi(x) + x`, for ``x > 0``.

    The negative differential entropy of Dir(α) is
    :math:`h(\alpha_0) + (K - 1)\psi(\alpha_0) - \sum_k h(\alpha_k)`; ``h`` grows only like
    :math:`\tfrac12 \ln x`.
    """
    large, small, w = _split(x)
    direct = torch.lgamma(small) - (small - 1) * torch.digamma(small) + small
    s = _horner(_DIGAMMA, w * w)  # ψ(x) = ln x - 1/(2x) - s/x²
    mu = w * _horner(_LGAMMA, w * w)
    series = 0.5 * log_x + (0.5 * math.log(2 * math.pi) + 0.5)
    series = series - 0.5 * w + mu + w * s * (1 - w)
    return torch.where(large, series, direct)


class TrigammaRatio(NamedTuple):
    r"""How :math:`x\,\psi'(x + \delta)` divides 1: ``ratio + complement = 1``.

    Each is exact where it is small. The ratio rises from 0 to 1 with ``x``; the complement
    falls towards :math:`(\delta - \tfrac12)/x`, and ``x · complement`` stays bounded.
    """

    ratio: Tensor
    complement: Tensor
    scaled_complement: Tensor


def trigamma_ratio(x: Tensor, offset: float) -> TrigammaRatio:
    """:class:`TrigammaRatio` for ``x ≥ 0`` and δ = ``offset > 0``; finite for infinite ``x``."""
    y = x + offset
    large, small, w = _split(y)
    x_small = x.clamp(max=_SWITCH)
    direct = x_small * torch.polygamma(1, small)
    t = w * _horner(_BERNOULLI, w * w)  # ψ'(y) = 1/y + 1/(2y²) + t/y²
    x_over_y = 1 - offset * w
    yc = (offset - 0.5) - t + offset * w * (0.5 + t)
    # where the offset is nearly all of y, x/y is not the difference from 1
    series_ratio = torch.where(x < offset, x * w, x_over_y) * (1 + w * (0.5 + t))
    return TrigammaRatio(
        ratio=torch.where(large, series_ratio, direct),
        complement=torch.where(large, w * yc, 1 - direct),
        scaled_complement=torch.where(large, x_over_y * yc, x_small * (1 - direct)),
    )


def digamma_information(x: Tensor, log_x: Tensor) -> Tensor:
    r""":math:`u(x) = x\,[\psi(x + 1) - \ln x]` for ``x ≥ 0``; rises from 0 to ½."""
    large, small, w = _split(x)
    series = 0.5 - w * _horner(_DIGAMMA, w * w)
    # at x = 0 the product is 0, although the logarithm is infinite
    finite_log = torch.where(x > 0, log_x, torch.zeros_like(log_x))
    return torch.where(large, series, small * (torch.digamma(small + 1) - finite_log))
