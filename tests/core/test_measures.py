"""Measures of a Dirichlet against 60-digit arithmetic, samples, identities and limits."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fairseq_pdd.core import (
    dirichlet_measures,
    dirichlet_token_measures,
    ensemble_measures,
)

from . import reference
from .inputs import members

OFFSETS = (0.0, 0.1, 1.0)


def assert_exact(logits, offset, tolerance):
    """Total and EPKL within ``tolerance``; the differences above a floor of rounding.

    The floor is that of 1 nat for data, and for the knowledge measures, sums of terms up to
    ½/a0, that of 1/a0 where it is less.
    """
    ours = dirichlet_measures(logits, offset)
    truth = reference.measures(logits, offset)
    inverse_a0 = float(truth["epkl"]) / (len(logits) - 1)
    eps = 10 * torch.finfo(ours.total.dtype).eps
    knowledge = eps * min(1, inverse_a0)
    floors = {"data": eps, "mutual_information": knowledge, "rmi": knowledge}
    for name, value in ours._asdict().items():
        exact = float(truth[name])
        assert abs(float(value) - exact) <= tolerance * exact + floors.get(name, 0), name


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("k", [2, 50])
@pytest.mark.parametrize("scale", [1, 8, 60])
def test_exact(k, offset, scale):
    for shift in (-25, 0, 25) if scale < 60 else (0,):
        logits = (torch.rand(k) * 2 - 1) * scale + shift
        assert_exact(logits, offset, 2e-5)


@pytest.mark.parametrize("offset", OFFSETS)
def test_exact_in_float64(offset):
    for shift in (-20, 0, 20):
        assert_exact(torch.randn(20, dtype=torch.float64) * 4 + shift, offset, 1e-12)


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_exact_vocabulary(offset):
    logits = (torch.linspace(-10, 10, 64))[torch.randint(64, (40_000,))]
    assert_exact(logits, offset, 2e-5)


@pytest.mark.parametrize("offset", OFFSETS)
def test_exact_across_all_concentrations(offset):
    """Every magnitude of a0, on both sides of the switch between the two forms."""
    for z in torch.linspace(-30, 30, 61):
        assert_exact(torch.stack([z, z - 0.3, z - 3.0]), offset, 2e-5)


@pytest.mark.parametrize("margin", [10.0, 20.0, 40.0])
def test_total_of_a_confident_prediction(margin):
    """Relatively exact, however near to 0: it orders tokens of which the model is sure."""
    logits = torch.tensor([margin, 0.0, -1.0, margin / 2])
    total = dirichlet_measures(logits).total
    truth = reference.measures(logits)["total"]
    assert reference.relative_error(total, truth, truth) < 2e-6


def test_are_those_of_samples():
    concentrations = torch.tensor([0.7, 1.0, 3.0, 6.0], dtype=torch.float64)
    samples = torch.distributions.Dirichlet(concentrations).sample((20_000,))
    estimate = ensemble_measures(samples.log())
    for name, value in dirichlet_measures(concentrations.log())._asdict().items():
        assert float(value) == pytest.approx(float(getattr(estimate, name)), rel=0.05), name


@settings(max_examples=100)
@given(
    logits=st.lists(st.floats(-80, 80, width=32), min_size=2, max_size=30),
    offset=st.sampled_from([0.0, 0.1, 1.0]),
)
def test_identities(logits, offset):
    ours = dirichlet_measures(torch.tensor(logits), offset)
    for name, value in ours._asdict().items():
        assert value >= 0, name
    assert torch.allclose(ours.total, ours.data + ours.mutual_information, rtol=1e-6)
    assert torch.allclose(ours.epkl, ours.mutual_information + ours.rmi, rtol=1e-6)
    assert ours.total <= math.log(len(logits)) * (1 + 1e-5)


def test_limit_of_certainty():
    """a0 -> infinity: the total is that of the softmax, knowledge is K-1 over a0 or twice it."""
    logits = torch.tensor([60.0, 59.0, 58.0])
    ours = dirichlet_measures(logits)
    a0 = float(logits.double().exp().sum())
    entropy = torch.distributions.Categorical(logits=logits.double()).entropy()
    assert float(ours.total) == pytest.approx(float(entropy), rel=1e-6)
    assert float(ours.data) == pytest.approx(float(entropy), rel=1e-6)
    assert float(ours.epkl) == pytest.approx(2 / a0, rel=1e-6)
    assert float(ours.mutual_information) == pytest.approx(1 / a0, rel=1e-6)
    assert float(ours.rmi) == pytest.approx(1 / a0, rel=1e-6)


def test_limit_of_ignorance():
    """a0 -> 0: members are one-hot and all uncertainty is knowledge uncertainty."""
    ours = dirichlet_measures(torch.tensor([-60.0, -60.0, -60.0, -60.0]))
    assert float(ours.total) == pytest.approx(math.log(4), rel=1e-6)
    assert float(ours.mutual_information) == pytest.approx(math.log(4), rel=1e-6)
    assert float(ours.data) == pytest.approx(0, abs=1e-6)
    assert float(ours.epkl) == pytest.approx(3 / 4 * math.exp(60), rel=1e-5)


@pytest.mark.parametrize("top", [200.0, 1e4])
def test_beyond_the_range_of_exp(top):
    ours = dirichlet_measures(torch.tensor([top, top, top - 1]))
    entropy = torch.distributions.Categorical(logits=torch.tensor([0.0, 0.0, -1.0])).entropy()
    assert float(ours.total) == pytest.approx(float(entropy), rel=1e-5)
    for value in ours[2:]:
        assert float(value) == 0


def test_masked_classes_carry_nothing_but_count_as_classes():
    inf = float("inf")
    masked = dirichlet_measures(torch.tensor([1.0, 2.0, -inf]))
    plain = dirichlet_measures(torch.tensor([1.0, 2.0]))
    for name in ("total", "data", "mutual_information"):
        assert float(getattr(masked, name)) == pytest.approx(float(getattr(plain, name)), rel=1e-5)
    assert float(masked.epkl) == pytest.approx(2 * float(plain.epkl), rel=1e-6)


def test_offset_mixes_in_uniform_mass():
    logits = torch.randn(3, 20).double() * 4
    ours = dirichlet_measures(logits, offset=1.0)
    shifted = dirichlet_measures((logits.exp() + 1).log())
    for a, b in zip(ours, shifted):
        assert torch.allclose(a, b, rtol=1e-10)


def test_shapes_and_dtypes():
    for lead in ((), (0,), (4,), (2, 3)):
        for value in dirichlet_measures(torch.randn(*lead, 5)):
            assert value.shape == lead
            assert value.dtype == torch.float32
    half = torch.randn(4, 5).to(torch.bfloat16)
    for value, same in zip(dirichlet_measures(half), dirichlet_measures(half.float())):
        assert torch.equal(value, same)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for value, same in zip(dirichlet_measures(half), dirichlet_measures(half.float())):
            assert value.dtype == torch.float32
            assert torch.equal(value, same)


def test_no_gradient_is_kept():
    logits = torch.randn(4, 5, requires_grad=True)
    assert not any(value.requires_grad for value in dirichlet_measures(logits))


@pytest.mark.parametrize("offset", OFFSETS)
def test_token_log_probs_exact(offset):
    for shift in (-25, 0, 25):
        logits = torch.randn(12) * 6 + shift
        rows = logits.expand(12, 12)
        _, log_mean, mean_log = dirichlet_token_measures(rows, torch.arange(12), offset)
        for k in range(12):
            truth = reference.expected_log_prob(logits, k, offset)
            for ours, value in zip((log_mean[k], mean_log[k]), truth):
                # relative to 1: near 0 this is a logarithm of nearly 1
                assert reference.relative_error(ours, value, abs(value) + 1) < 5e-6


def test_token_log_probs_are_those_of_samples():
    concentrations = torch.tensor([0.7, 1.0, 3.0, 6.0], dtype=torch.float64)
    samples = torch.distributions.Dirichlet(concentrations).sample((100_000,))
    logits = concentrations.log().expand(4, 4)
    _, log_mean, mean_log = dirichlet_token_measures(logits, torch.arange(4))
    assert torch.allclose(log_mean, samples.mean(0).log(), atol=0.02)
    assert torch.allclose(mean_log, samples.log().mean(0), atol=0.02)
    assert (log_mean > mean_log).all()


@pytest.mark.parametrize("offset", OFFSETS)
def test_token_measures_hold_the_measures_of_the_distribution(offset):
    logits, tokens = torch.randn(2, 3, 5), torch.randint(5, (2, 3))
    ours = dirichlet_token_measures(logits, tokens, offset)
    for mine, value in zip(ours.measures, dirichlet_measures(logits, offset)):
        assert torch.equal(mine, value)
    assert ours.log_mean.shape == ours.mean_log.shape == (2, 3)


@pytest.mark.parametrize("offset", [-0.1, math.inf, math.nan])
def test_bad_offset_is_named(offset):
    logits = torch.randn(3, 5)
    with pytest.raises(ValueError, match="offset must be at least 0"):
        dirichlet_measures(logits, offset)
    with pytest.raises(ValueError, match="offset must be at least 0"):
        dirichlet_token_measures(logits, torch.zeros(3, dtype=torch.long), offset)


def test_bad_arguments_are_named():
    for logits in (torch.ones(3, 1), torch.tensor(1.0), torch.ones(3, 5, dtype=torch.long)):
        with pytest.raises(ValueError, match="logits"):
            dirichlet_measures(logits)
        with pytest.raises(ValueError, match="logits"):
            dirichlet_token_measures(logits, torch.tensor(0))
    with pytest.raises(ValueError, match="tokens must have the shape of logits without classes"):
        dirichlet_token_measures(torch.randn(3, 5), torch.zeros(5, dtype=torch.long))
    with pytest.raises(ValueError, match="dim"):
        ensemble_measures(members(2, 3, 5), dim=-1)
