"""Each special function against 60-digit arithmetic."""

import math
import os
import subprocess
import sys

import mpmath as mp
import pytest
import torch

from fairseq_pdd.core import special

from . import reference

X = [10.0**e for e in torch.linspace(-6, 30, 145).tolist()]
inf = float("inf")
TOLERANCE = {torch.float32: 3e-6, torch.float64: 2e-14}
both_dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def check(ours, x, truth, scale=None):
    """Compare values with ``truth(x)``, relative to ``|truth|`` or to ``scale(x)``."""
    with mp.workdps(80):
        for value, argument in zip(ours, x):
            argument = mp.mpf(float(argument))
            exact = truth(argument)
            size = scale(argument) if scale else abs(exact)
            assert reference.relative_error(value, exact, size) <= TOLERANCE[x.dtype], argument


@both_dtypes
def test_digamma_minus_log(dtype):
    x = torch.tensor(X, dtype=dtype)
    check(special.digamma_minus_log(x), x, lambda v: mp.digamma(v) - mp.log(v))


@both_dtypes
def test_entropy_term(dtype):
    x = torch.tensor(X, dtype=dtype)
    shifted = special.shift(x)
    ours = special.entropy_term(shifted, shifted.y.log())
    check(ours, x, lambda v: mp.loggamma(v) - (v - 1) * mp.digamma(v) + v)


@both_dtypes
def test_digamma(dtype):
    x = torch.tensor(X, dtype=dtype)
    check(special.digamma(x), x, mp.digamma, lambda v: abs(mp.digamma(v)) + 1)


@both_dtypes
@pytest.mark.parametrize("offset", [0.1, 1.0, 7.0, 4000.0])
def test_trigamma_ratio(dtype, offset):
    x = torch.tensor([0.0, *X], dtype=dtype)
    y = mp.mpf(offset)
    ratio, complement, scaled = special.trigamma_ratio(x, offset)

    def exact(v):
        return v * mp.psi(1, v + y)

    check(ratio, x, exact, lambda v: exact(v) or mp.mpf(1))
    check(complement, x, lambda v: 1 - exact(v), lambda v: (1 + y) / (1 + v + y))
    check(scaled, x, lambda v: v * (1 - exact(v)), lambda v: (1 + y) * v / (1 + v + y) or mp.mpf(1))


@both_dtypes
def test_digamma_information(dtype):
    x = torch.tensor(X, dtype=dtype)
    ours = special.digamma_information(x, x.log())
    check(ours.information, x, lambda v: v * (mp.digamma(v + 1) - mp.log(v)))
    low = x[x < 4]
    check(ours.digamma_next[x < 4], low, lambda v: mp.digamma(v + 1), lambda v: mp.mpf(1))
    zero = torch.zeros((), dtype=dtype)
    assert special.digamma_information(zero, zero.log()).information == 0


def test_ratio_of_polynomials_has_an_error_below_float32():
    """The error is below the rounding of float32."""
    x = torch.linspace(0, special.shift_amount(torch.zeros(())), 1000, dtype=torch.float64)
    numerator, denominator = (special._polynomial(c, x) for c in special._DIGAMMA_RATIO)
    truth = torch.tensor([float(mp.digamma(v + 1)) for v in x.tolist()], dtype=torch.float64)
    assert (numerator / denominator - truth).abs().max() < 1e-8


@both_dtypes
def test_log_add(dtype):
    for constant in (0.1, 1.0, 7.0):
        z = torch.cat([torch.linspace(-80, 80, 81), torch.tensor([1e4, -1e4])]).to(dtype)
        check(
            special.log_add(z, constant),
            z,
            lambda v, c=constant: mp.log(mp.exp(v) + mp.mpf(c)),
            lambda v: 1 + abs(v),
        )
        masked = special.log_add(torch.tensor([-inf], dtype=dtype), constant)
        assert float(masked) == pytest.approx(math.log(constant))


@both_dtypes
@pytest.mark.parametrize("offset", [0.1, 1.0, 2.0, 3.0, 5.0, 40.0])
def test_log_shifted(dtype, offset):
    x = torch.tensor([1e-20, *X], dtype=dtype)
    shifted = special.shift(x + offset)
    major, minor = special.log_shifted(shifted, x, x.log(), offset)
    y = mp.mpf(offset)
    n = special.shift_amount(x)

    def exact(v):
        return mp.log(v + y if v + y >= n else v + y + n)

    check(major + minor, x, exact)
    by_x = x > 100 * (offset + n)
    assert torch.equal(major[by_x], x.log()[by_x])
    check(minor[by_x], x[by_x], lambda v: mp.log1p(y / v))


@both_dtypes
def test_top_and_others(dtype):
    z = torch.tensor([[90.0, 60.0, 50.0], [3.0, 3.0, 1.0], [-900.0, -901.0, -inf]], dtype=dtype)
    top, others = special.top_and_others(z)
    assert top.flatten().tolist() == [90, 3, -900]
    expected = [math.exp(-30) + math.exp(-40), 1 + math.exp(-2), math.exp(-1)]
    assert others.flatten().tolist() == pytest.approx(expected, rel=TOLERANCE[dtype])


def test_infinite_arguments_give_the_limits():
    infinite = torch.tensor(inf)
    assert special.digamma_minus_log(infinite) == 0
    of_digamma = special.digamma_information(infinite, torch.tensor(100.0))
    assert float(of_digamma.information) == pytest.approx(0.5, rel=1e-6)
    ratio, complement, scaled = special.trigamma_ratio(infinite, 1.0)
    assert (ratio, complement, scaled) == (1, 0, 0.5)
    # ln(x)/2 + (1 + ln(2 pi))/2
    assert float(special.entropy_term(special.shift(infinite), torch.tensor(1e4))) == pytest.approx(
        5001.4189385
    )


def test_import_starts_no_threads():
    """A process with threads that forks, as data loaders do, can hang in the child."""
    script = (
        "import os, torch, fairseq, scipy.stats; before = len(os.listdir('/proc/self/task')); "
        "import fairseq_pdd.tasks; assert len(os.listdir('/proc/self/task')) == before"
    )
    threads = {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-c", script], check=True, env={**os.environ, **threads})
