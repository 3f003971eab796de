r"""Gamma-type functions in the combinations that stay exact in float32.

The losses and measures need differences of :math:`\ln\Gamma, \psi, \psi'` in which terms of
the size of :math:`x \ln x` cancel. They are taken here in forms whose large terms cancelled on
paper.

Functions for the loss are plain arithmetic, so that a compiler can fuse and vectorise them: an
argument below ``n`` is raised by ``n`` with the recurrence :math:`\Gamma(x + 1) = x\,\Gamma(x)`
(``n`` is 4 for float32 and 12 for float64), and the asymptotic series is used above. PyTorch's own
``polygamma`` is not exact enough: in float64 it has ten digits.

Measures run in eager mode, whose time goes into passes over memory. :func:`digamma_information`
therefore uses polynomials and needs neither conditions nor logarithms.

Functions of a large argument also take its logarithm. The argument may then overflow to infinity
(its reciprocal is 0, the correct limit) while the result stays finite and exact.
"""

import functools
import math
from typing import Callable, NamedTuple, Sequence, Tuple

import torch
from torch import Tensor

# The recurrence goes in strides of four (see ``shift``). At 4 the first omitted term is below
# 2e-8 for B_8, at 12 it is below 3e-18 for B_14.
_STRIDE = 4
_STRIDES = {torch.float32: 1, torch.float64: 3}
_SHIFTS = {dtype: _STRIDE * strides for dtype, strides in _STRIDES.items()}
_TERMS = {torch.float32: 4, torch.float64: 7}
# of the polynomials of ``digamma_information``; one more would not change the last digit
_SLOPE_DEGREES = {torch.float32: 3, torch.float64: 12}
_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6)  # B_2, B_4, ..., B_14
_DIGAMMA = tuple(b / (2 * n) for n, b in enumerate(_BERNOULLI, 1))
_LGAMMA = tuple(b / (2 * n * (2 * n - 1)) for n, b in enumerate(_BERNOULLI, 1))

LEAST_LOG = -1e4  # its exponential is 0 in any precision
_LOG2_E = 1 / math.log(2)


def exp(x: Tensor) -> Tensor:
    """Compute ``exp(x)`` by ``exp2``, which takes a third of the time in eager mode.

    Its relative error is that of ``x`` rounded once more.
    """
    return (x * _LOG2_E).exp2_()


def top_and_others(z: Tensor) -> Tuple[Tensor, Tensor]:
    """Return the largest of ``z`` and ``Σ exp(z - largest) - 1``, each ``[..., 1]``.

    The term 1 of one largest class is not added, so that the others keep their digits.
    """
    top = z.amax(dim=-1, keepdim=True)
    return top, sum_of_others(exp(z - top))


def sum_of_others(e: Tensor) -> Tensor:
    """Return ``Σ e - 1``, ``[..., 1]``, where no ``e`` is above 1 and at least one is 1.

    It uses no conditions, which in eager mode take many times as long as arithmetic.
    """
    below_one = e.frac().sum(dim=-1, keepdim=True)
    ones = (e.sum(dim=-1, keepdim=True) - below_one).round()
    return below_one + (ones - 1)


class Shifted(NamedTuple):
    """An argument ``x > 0`` raised to where the series holds: ``y = x + n`` if ``x < n``."""

    is_small: Tensor
    y: Tensor
    log_product: Tensor
    """ln of x(x+1)...(x+n-1); 0 where nothing was added, like the sums."""
    digamma_sum: Tensor
    """Sum of 1/(x+i)."""
    x_if_small: Tensor
    """x, or n where nothing was added."""


def shift_amount(x: Tensor) -> int:
    """Return n, by which arguments below n are raised."""
    return _SHIFTS[x.dtype]


def _strides(x: Tensor) -> Sequence[Tuple[Tensor, Tensor, Tensor]]:
    """Return x, ``u = x(x+3)`` and ``x(x+1)(x+2)(x+3)`` for each stride of four; ``u + 2`` is
    ``(x+1)(x+2)``.
    """
    result = []
    for _ in range(_STRIDES[x.dtype]):
        u = x * (x + 3)
        result.append((x, u, (u * (u + 2))))
        x = x + _STRIDE
    return result


def shift(x: Tensor) -> Shifted:
    """Raise small arguments, for :func:`digamma_series` and :func:`entropy_term`."""
    n = shift_amount(x)
    is_small = x < n
    low = x.clamp(max=n)
    product, digamma_sum = torch.ones_like(x), torch.zeros_like(x)
    for x_i, u, product_i in _strides(low):
        product = product * product_i
        # 1/x + 1/(x+3) and 1/(x+1) + 1/(x+2)
        digamma_sum = digamma_sum + (2 * x_i + 3) * (2 * u + 2) * product_i.reciprocal()
    zero = torch.zeros_like(x)
    return Shifted(
        is_small=is_small,
        y=torch.where(is_small, x + n, x),
        log_product=torch.where(is_small, product.log(), zero),
        digamma_sum=torch.where(is_small, digamma_sum, zero),
        x_if_small=low,
    )


def _log_ratio(numerator: Tensor, denominator: Tensor, bound: float) -> Tensor:
    r""":math:`\ln\frac{d + n}{d - n} = 2\,\mathrm{artanh}(n / d)` for ``|n / d| ≤ bound < 1``.

    It takes a fraction of the time of a logarithm.
    """
    t = numerator / denominator
    terms = math.ceil(math.log(torch.finfo(t.dtype).eps / 8) / (2 * math.log(bound)))
    square = t * t
    result = torch.full_like(t, 2 / (2 * terms - 1))
    for i in range(terms - 2, -1, -1):
        result = result * square + 2 / (2 * i + 1)
    return result * t


def log_add(z: Tensor, constant: float) -> Tensor:
    """``ln(exp(z) + constant)`` for a positive constant; ``torch.logaddexp``, but vectorised."""
    log_constant = math.log(constant)
    ratio = (-(z - log_constant).abs()).exp()
    return z.clamp(min=log_constant) + _log_ratio(ratio, 2 + ratio, 1 / 3)


def _middle(n: int) -> Tuple[float, float]:
    """Return b, the geometric mean of n and 2n, and the largest ``|y - b| / (y + b)`` there."""
    root = math.sqrt(2)
    return root * n, (root - 1) / (root + 1)


def log_shifted(shifted: Shifted, x: Tensor, log_x: Tensor, offset: float) -> Tuple[Tensor, Tensor]:
    """Return ln y for ``shifted = shift(x + offset)`` as two terms, the second at most ln 2.

    The relative error is small even where the offset changes ln x by little.
    """
    n = shift_amount(x)
    b, bound = _middle(n)
    small = shifted.is_small
    major = torch.where(small, torch.full_like(x, math.log(b)), log_x)
    numerator = torch.where(small, shifted.y - b, torch.full_like(x, offset))
    denominator = torch.where(small, shifted.y + b, 2 * x + offset)
    if offset <= n / 2:
        bound = max(bound, offset / (2 * n - offset))
    else:
        # then y may be large by its offset alone
        by_offset = ~small & (x < offset)
        major = torch.where(by_offset, torch.full_like(x, math.log(offset)), major)
        numerator = torch.where(by_offset, x, numerator)
        denominator = torch.where(by_offset, 2 * offset + x, denominator)
        bound = 1 / 3
    return major, _log_ratio(numerator, denominator, bound)


def _polynomial(coefficients: Sequence[float], x: Tensor) -> Tensor:
    """Evaluate ``c0 + c1 x + c2 x² + …`` with one pass per term except the first."""
    # slices, as torch.compile of PyTorch 2.6 to 2.9 does not know more of sequences
    result = torch.add(x.new_full((), coefficients[-2]), x, alpha=coefficients[-1])
    for c in coefficients[-3::-1]:
        torch.addcmul(x.new_full((), c), result, x, out=result)
    return result


def _series(coefficients: Sequence[float], w: Tensor) -> Tensor:
    """Evaluate ``c0 + c1 w² + c2 w⁴ + …``."""
    return _polynomial(coefficients[: _TERMS[w.dtype]], w * w)


def digamma_series(shifted: Shifted) -> Tensor:
    r"""Compute :math:`\psi(x) - \ln y`; the caller adds the logarithm."""
    w = shifted.y.reciprocal()
    return -w * (0.5 + w * _series(_DIGAMMA, w)) - shifted.digamma_sum


def digamma(x: Tensor) -> Tensor:
    r""":math:`\psi(x)` for ``x > 0``."""
    shifted = shift(x)
    return shifted.y.log() + digamma_series(shifted)


def digamma_minus_log(x: Tensor) -> Tensor:
    r""":math:`\psi(x) - \ln x` for ``x > 0``; tends to :math:`-1/(2x)`."""
    shifted = shift(x)
    ratio = (shifted.x_if_small + shift_amount(x)) / shifted.x_if_small
    return digamma_series(shifted) + torch.where(shifted.is_small, ratio.log(), torch.zeros_like(x))


def entropy_term(shifted: Shifted, log_y: Tensor) -> Tensor:
    r""":math:`h(x) = \ln\Gamma(x) - (x - 1)\psi(x) + x`, for ``x > 0``.

    The negative differential entropy of Dir(α) is
    :math:`h(\alpha_0) + (K - 1)\psi(\alpha_0) - \sum_k h(\alpha_k)`; ``h`` grows only like
    :math:`\tfrac12 \ln x`.
    """
    w = shifted.y.reciprocal()
    s = _series(_DIGAMMA, w)  # ψ(y) = ln y - 1/(2y) - s/y²
    mu = w * _series(_LGAMMA, w)
    large = 0.5 * log_y + (0.5 * math.log(2 * math.pi) + 0.5) - 0.5 * w + mu + w * s * (1 - w)
    raised = log_y - 1 - w * (0.5 + w * s)
    correction = shift_amount(w) * raised - shifted.log_product
    correction = correction + (shifted.x_if_small - 1) * shifted.digamma_sum
    return large + torch.where(shifted.is_small, correction, torch.zeros_like(w))


class TrigammaRatio(NamedTuple):
    r"""The ratio :math:`x\,\psi'(x + \delta)` and its complement, ``ratio + complement = 1``.

    Each is exact where it is small. The ratio rises from 0 to 1 with ``x``; the complement
    falls towards :math:`(\delta - \tfrac12)/x`, and ``x · complement`` stays bounded.
    """

    ratio: Tensor
    complement: Tensor
    scaled_complement: Tensor


def trigamma_ratio(x: Tensor, offset: float) -> TrigammaRatio:
    """Return the ratio for ``x ≥ 0`` and δ = ``offset > 0``; finite for infinite ``x``."""
    n = shift_amount(x)
    a = x + offset
    is_small = a < n
    w = torch.where(is_small, a + n, a).reciprocal()
    t = w * _series(_BERNOULLI, w)  # ψ'(y) = 1/y + 1/(2y²) + t/y²
    excess = w * (0.5 + t)

    low = x.clamp(max=n)
    trigamma = w * (1 + excess)
    for _, u, product in _strides(a.clamp(max=n)):
        # 1/x² + 1/(x+3)² and 1/(x+1)² + 1/(x+2)², of which each numerator is a sum of squares
        squares = (2 * u + 9) * (u + 2) * (u + 2) + (2 * u + 5) * u * u
        inverse = product.reciprocal()
        trigamma = trigamma + squares * inverse * inverse
    direct = low * trigamma

    # of two forms of x/y the one in which nothing cancels
    x_over_y = torch.where(x < offset, x * w, 1 - offset * w)
    yc = (offset - 0.5) - t + offset * excess
    return TrigammaRatio(
        ratio=torch.where(is_small, direct, x_over_y * (1 + excess)),
        complement=torch.where(is_small, 1 - direct, w * yc),
        scaled_complement=torch.where(is_small, low * (1 - direct), x_over_y * yc),
    )


class DigammaInformation(NamedTuple):
    r""":math:`\psi(x + 1)` and :math:`u(x) = x\,[\psi(x + 1) - \ln x]`, which rises from 0 to ½."""

    digamma_next: Tensor
    """ψ(min(x, n) + 1)."""
    information: Tensor


def digamma_information(x: Tensor, log_x: Tensor) -> DigammaInformation:
    """Return ψ(x + 1) and u(x) for ``x ≥ 0``; see :class:`DigammaInformation`.

    Polynomials approximate ψ below n and u above it. A condition, or a logarithm, would take as
    long as ten of their terms.
    """
    n = shift_amount(x)
    low = x.clamp(max=n)
    digamma_next = _digamma_next(low)
    information = log_x.clamp(LEAST_LOG, math.log(n))
    # at x = 0 the product is 0, although the logarithm is infinite
    torch.sub(digamma_next, information, out=information).mul_(low)
    # u(x) - u(n), exactly 0 below n
    gap = x.clamp(min=n).reciprocal_()
    torch.sub(x.new_full((), 1 / n), gap, out=gap)
    information.addcmul_(_polynomial(_SLOPE[x.dtype], gap), gap)
    return DigammaInformation(digamma_next, information)


def _digamma_next(x: Tensor) -> Tensor:
    r""":math:`\psi(x + 1)` on [0, n]."""
    if x.dtype == torch.float64:
        return digamma(x + 1)
    numerator, denominator = _DIGAMMA_RATIO
    return _polynomial(numerator, x).div_(_polynomial(denominator, x))


def _interpolate(
    function: Callable[[Tensor], Tensor], length: float, degree: int
) -> Sequence[float]:
    """Return the coefficients of the polynomial that equals ``function`` at Chebyshev's nodes of
    [0, length].
    """
    # on the CPU, whatever the default device is
    orders = torch.arange(degree + 1, dtype=torch.float64, device="cpu")
    x = (1 - ((orders + 0.5) * (math.pi / (degree + 1))).cos()) / 2
    scaled = torch.linalg.solve(x.unsqueeze(1) ** orders, function(x * length)).tolist()
    return [c / length**i for i, c in enumerate(scaled)]


def _slope(n: int, gap: Tensor) -> Tensor:
    w, w_n = 1 / n - gap, torch.full_like(gap, 1 / n)
    return (w_n * _series(_DIGAMMA, w_n) - w * _series(_DIGAMMA, w)) / gap


# From least squares at 64 of Chebyshev's nodes. They are not computed at import, since LAPACK would
# start threads, with which a process that forks later (for data loading) can hang.
_DIGAMMA_RATIO = (
    (
        -277.90937479161823, 337.83067839549767, 513.9226530725543, 124.06425321149223,
        5.10546733623845,
    ),
    (481.4654133929655, 786.7905272179394, 349.1804354942772, 44.3822435748235, 1.0),
)  # fmt: skip
"""Coefficients of two polynomials whose ratio is ψ(x + 1) on [0, 4], for float32, to 1e-8."""
_SLOPE = {
    dtype: _interpolate(functools.partial(_slope, n), 1 / n, _SLOPE_DEGREES[dtype])
    for dtype, n in _SHIFTS.items()
}
"""(u(x) - u(n)) / (1/n - 1/x) on [n, ∞), in powers of 1/n - 1/x."""
