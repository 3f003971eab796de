"""EnsembleStatistics and ensemble_measures against their definitions over members and pairs."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fairseq_pdd.core import (
    EnsembleStatistics,
    ensemble_measures,
    reverse_kl_proxy_dirichlet,
    sequence_ensemble_measures,
)

from . import reference
from .inputs import members

NAMES = ("total", "data", "mutual_information", "epkl", "rmi")


def statistics(log_probs):
    """Return the statistics of members along the first dimension."""
    result = EnsembleStatistics()
    for member in log_probs:
        result.update(member)
    return result


@pytest.mark.parametrize("m", [1, 2, 5])
@pytest.mark.parametrize("k", [2, 50])
def test_measures_are_those_of_all_pairs_of_members(m, k):
    log_probs = members(m, k)
    truth = reference.ensemble_measures(log_probs.exp())
    ours = ensemble_measures(log_probs)
    for name in NAMES:
        value = float(getattr(ours, name))
        assert value == pytest.approx(float(truth[name]), rel=2e-5, abs=2e-6), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_statistics_are_those_of_the_whole_tensor(dtype):
    log_probs = members(7, 3, 4, 50, dtype=dtype)
    ours = statistics(log_probs)
    probs = log_probs.double().exp()
    mean, mean_log = probs.mean(0), log_probs.double().mean(0)
    mkl = (mean * (mean.log() - mean_log)).sum(-1)
    tolerance = {"rtol": 1e-5 if dtype == torch.float32 else 1e-12, "atol": 1e-7}
    assert ours.num_members == 7
    assert torch.allclose(ours.mean_probs.double(), mean, **tolerance)
    assert torch.allclose(ours.mean_log_probs.double(), mean_log, **tolerance)
    assert torch.allclose(ours.inverse_precision.double(), 2 * mkl / 49, **tolerance)
    assert torch.allclose(ours.data.double(), -(probs * log_probs).sum(-1).mean(0), **tolerance)
    for name in NAMES:
        assert getattr(ours, name).dtype == dtype
        assert torch.allclose(getattr(ours, name), getattr(ours.measures(), name), **tolerance)


@pytest.mark.parametrize("dim", [0, 1, 2, -2, -3, -4])
def test_members_along_any_dimension(dim):
    log_probs = members(2, 3, 4, 6)
    ours = ensemble_measures(log_probs, dim=dim)
    truth = statistics(log_probs.movedim(dim, 0)).measures()
    for a, b in zip(ours, truth):
        assert a.shape == log_probs.movedim(dim, 0).shape[1:-1]
        assert torch.equal(a, b)


def test_two_members_worked_by_hand():
    """(0.8, 0.2) and (0.4, 0.6)."""
    ours = ensemble_measures(torch.tensor([[0.8, 0.2], [0.4, 0.6]]).double().log())
    assert float(ours.total) == pytest.approx(0.6730116670)
    assert float(ours.data) == pytest.approx(0.5867070453)
    assert float(ours.mutual_information) == pytest.approx(0.0863046217)
    assert float(ours.epkl) == pytest.approx(0.1791759469)
    assert float(ours.rmi) == pytest.approx(0.0928713252)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**16),
    m=st.integers(1, 6),
    k=st.integers(2, 30),
    scale=st.floats(0, 60),
    spread=st.floats(0, 30),
)
def test_identities(seed, m, k, scale, spread):
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(k, generator=generator) * scale
    own = torch.randn(m, k, generator=generator) * spread
    ours = ensemble_measures(torch.log_softmax(common + own, dim=-1))
    for name in NAMES:
        assert getattr(ours, name) >= 0, name
    assert torch.allclose(ours.total, ours.data + ours.mutual_information, rtol=1e-6)
    assert torch.allclose(ours.epkl, ours.mutual_information + ours.rmi, rtol=1e-6)


def weighted(log_probs, log_weights):
    """Return the measures of weighted members along the first dimension."""
    return sequence_ensemble_measures(list(log_probs), log_weights)[1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1.0, 30.0, 1e4])
def test_weighted_measures_are_those_of_their_definitions(dtype, scale):
    """The member that is compared with keeps its weight of 1/M."""
    log_probs, log_weights = members(4, 3, 20, dtype=dtype), torch.randn(4, 3, dtype=dtype) * scale
    ours = weighted(log_probs, log_weights)
    for row in range(3):
        truth = reference.weighted_ensemble_measures(
            log_probs[:, row].exp(), log_weights[:, row].double().softmax(0)
        )
        for name in NAMES:
            value = float(getattr(ours, name)[row])
            tolerance = {"rel": 2e-5, "abs": 2e-6} if dtype == torch.float32 else {"rel": 1e-10}
            assert value == pytest.approx(float(truth[name]), **tolerance), name


def test_weights_of_two_members_worked_by_hand():
    """(0.8, 0.2) of weight 3 and (0.4, 0.6) of weight 1: the mean is (0.7, 0.3)."""
    ours = weighted(
        torch.tensor([[0.8, 0.2], [0.4, 0.6]]).double().log(), torch.tensor([3.0, 1.0]).log()
    )
    assert float(ours.total) == pytest.approx(0.6108643021)
    assert float(ours.data) == pytest.approx(0.75 * 0.5004024235 + 0.25 * 0.6730116670)
    assert float(ours.rmi) == pytest.approx((0.0281675576 + 0.1837868974) / 2, rel=1e-6)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**16),
    m=st.integers(1, 6),
    k=st.integers(2, 30),
    spread=st.floats(0, 30),
    scale=st.floats(0, 1e6),
)
def test_identities_under_weights(seed, m, k, spread, scale):
    generator = torch.Generator().manual_seed(seed)
    log_probs = torch.log_softmax(torch.randn(m, k, generator=generator) * spread, dim=-1)
    ours = weighted(log_probs, torch.randn(m, generator=generator) * scale)
    for name in NAMES:
        assert getattr(ours, name) >= 0, name
    assert torch.allclose(ours.total, ours.data + ours.mutual_information, rtol=1e-6)
    assert torch.allclose(ours.epkl, ours.mutual_information + ours.rmi, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_both_readings_of_a_sequence_ensemble(dtype, shape):
    """At once as apart, and as the statistics of one member after another."""
    log_probs = members(4, *shape, 20, dtype=dtype)
    log_weights = torch.randn(4, *shape) * 3
    plain, ours = sequence_ensemble_measures(log_probs.unbind(0), log_weights)
    (alone,) = sequence_ensemble_measures(log_probs.unbind(0))
    for a, b, c in zip(plain, alone, statistics(log_probs).measures()):
        assert a.shape == shape
        assert a.dtype == dtype
        assert torch.equal(a, b)
        assert torch.allclose(a, c, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(ours.rmi, plain.rmi, rtol=0.001)


@pytest.mark.parametrize("log_weight", [0.0, -1e30, 1e30, float("-inf")])
def test_equal_weights_are_none(log_weight):
    log_probs = members(4, 3, 20)
    ours = weighted(log_probs, torch.full((4, 3), log_weight))
    for a, b in zip(ours, statistics(log_probs).measures()):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-6)


def test_members_without_weight_are_compared_with_only():
    log_probs = members(3, 20)
    log_weights = torch.tensor([float("-inf"), 0.0, float("-inf")])
    ours = weighted(log_probs, log_weights)
    entropy = -(log_probs[1].exp() * log_probs[1]).sum()
    assert torch.allclose(ours.total, entropy)
    assert ours.mutual_information <= 1e-6
    kl = [(log_probs[1].exp() * (log_probs[1] - other)).sum() for other in log_probs]
    assert torch.allclose(ours.rmi, sum(kl) / 3, rtol=1e-5)


def test_order_of_members_does_not_matter():
    log_probs = members(5, 3, 20)
    ours, other = statistics(log_probs), statistics(log_probs.flip(0))
    assert torch.allclose(ours.mean_probs, other.mean_probs, rtol=1e-6)
    assert torch.allclose(ours.inverse_precision, other.inverse_precision, rtol=1e-5)
    for a, b in zip(ours.measures(), other.measures()):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-6)
    weights = torch.randn(5, 3) * 100
    ours, other = weighted(log_probs, weights), weighted(log_probs.flip(0), weights.flip(0))
    for a, b in zip(ours, other):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("m", [1, 2, 3, 7, 10])
@pytest.mark.parametrize("k", [2, 1000])
def test_equal_members_agree(m, k):
    """Rounding of either sign is left of a difference of equal numbers; it must not be negative."""
    for scale in (0.1, 1, 10, 100):
        member = torch.log_softmax(torch.randn(20, k) * scale, dim=-1)
        ours = statistics([member] * m)
        assert (ours.inverse_precision >= 0).all()
        assert (ours.rmi >= 0).all()
        assert ours.rmi.max() <= 2e-6
        assert ours.inverse_precision.max() <= 4e-6 / (k - 1)
        for name in ("mutual_information", "epkl"):
            assert 0 <= getattr(ours, name).max() <= 1e-5


def test_one_hot_members_that_agree():
    member = torch.tensor([0.0, float("-inf"), float("-inf")])
    ours = statistics([member] * 3)
    assert torch.equal(ours.mean_probs, torch.tensor([1.0, 0.0, 0.0]))
    for value in (ours.inverse_precision, *ours.measures()):
        assert value == 0


def test_classes_that_no_member_allows():
    log_probs = members(4, 3, 6)
    padded = torch.cat([log_probs, torch.full((4, 3, 2), float("-inf"))], dim=-1)
    for a, b in zip(statistics(padded).measures(), statistics(log_probs).measures()):
        assert torch.allclose(a, b, rtol=1e-6)


def test_contradicting_one_hot_members_are_infinitely_far_apart():
    inf = float("inf")
    ours = ensemble_measures(torch.tensor([[0.0, -inf], [-inf, 0.0]]))
    assert float(ours.total) == pytest.approx(0.6931472)
    assert ours.data == 0
    assert ours.rmi == ours.epkl == inf


def test_members_that_are_no_numbers_give_none():
    log_probs = members(3, 4).reshape(3, 1, 4).repeat(1, 2, 1)
    log_probs[1, 0, 2] = torch.nan
    for measures in (ensemble_measures(log_probs, dim=0), statistics(log_probs).measures()):
        for name, values in measures._asdict().items():
            assert torch.isnan(values).tolist() == [True, False], name


def test_proxy_gives_back_the_precision_of_a_dirichlet():
    """Members drawn from Dir(beta) for a large beta0: Eq. 16 recovers beta0."""
    beta = torch.tensor([40.0, 30.0, 20.0, 10.0, 100.0]).double()
    samples = torch.distributions.Dirichlet(beta).sample((10_000,))
    estimate = statistics(samples.log()).inverse_precision.reciprocal()
    assert float(estimate) == pytest.approx(200, rel=0.05)


def test_feeds_the_loss():
    ours = statistics(members(3, 2, 4, 9))
    logits = torch.randn(2, 4, 9, requires_grad=True)
    loss = reverse_kl_proxy_dirichlet(logits, ours.mean_probs, ours.inverse_precision)
    loss.sum().backward()
    assert loss.shape == (2, 4)
    assert torch.isfinite(logits.grad).all()


def test_members_in_half_precision_are_summed_in_float32():
    log_probs = members(3, 4, 9).to(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = statistics(log_probs)
    assert ours.mean_probs.dtype == torch.float32
    assert torch.equal(ours.mean_probs, statistics(log_probs.float()).mean_probs)


def test_members_are_not_changed():
    log_probs = members(3, 4, 9)
    before = log_probs.clone()
    ours = statistics(log_probs)
    first = ours.mean_probs.clone()
    ours.update(members(4, 9))
    assert torch.equal(log_probs, before)
    assert not torch.equal(ours.mean_probs, first)


def test_measures_follow_every_member():
    log_probs = members(4, 3, 9)
    ours = EnsembleStatistics()
    for m, member in enumerate(log_probs, 1):
        ours.update(member)
        for a, b in zip(ours.measures(), statistics(log_probs[:m]).measures()):
            assert torch.equal(a, b)


def test_no_gradient_is_kept():
    log_probs = torch.log_softmax(torch.randn(3, 5, requires_grad=True), dim=-1)
    assert not statistics(log_probs).mean_probs.requires_grad


def test_bad_use_is_named():
    with pytest.raises(ValueError, match="no member was added"):
        _ = EnsembleStatistics().mean_probs
    with pytest.raises(ValueError, match=r"member 2 .* \(3, 5\), the members before \(3, 6\)"):
        statistics([members(3, 6), members(3, 6), members(3, 5)])
    for shape in ((3,), (2, 5), (3, 3)):
        with pytest.raises(ValueError, match=r"log_weights must have the shape \(2, 3\)"):
            sequence_ensemble_measures([members(3, 5)] * 2, torch.zeros(shape))
    with pytest.raises(ValueError, match="needs members"):
        sequence_ensemble_measures([])
    with pytest.raises(ValueError, match=r"member 1 .* \(3, 6\), the members before \(3, 5\)"):
        sequence_ensemble_measures([members(3, 5), members(3, 6)])
    with pytest.raises(ValueError, match="log_probs must be floating point"):
        statistics(torch.zeros(2, 3, dtype=torch.long))
    with pytest.raises(ValueError, match="log_probs need at least two classes"):
        statistics(torch.zeros(2, 3, 1))
    for dim in (-1, 2, 3, 4, -4):
        with pytest.raises(ValueError, match="dim"):
            ensemble_measures(members(2, 3, 5), dim=dim)
    with pytest.raises(ValueError, match="log_probs"):
        ensemble_measures(members(0, 5))
    with pytest.raises(ValueError, match="log_probs"):
        ensemble_measures(members(5))
