"""Expected calibration error against hand computation and brute force."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairseq_pdd.assess import reliability_diagram
from fairseq_pdd.errors import UsageError


def test_by_hand() -> None:
    confidence = np.array([0.1, 0.2, 0.9, 0.7, 1.0])
    correct = np.array([False, True, True, False, True])
    found = reliability_diagram(confidence, correct, bins=2)
    assert found.edges.tolist() == [0, 0.5, 1]
    assert found.counts.tolist() == [2, 3]
    assert found.confidence == pytest.approx([0.15, 2.6 / 3])
    assert found.accuracy == pytest.approx([0.5, 2 / 3])
    assert found.ece == pytest.approx((2 * 0.35 + 3 * 0.2) / 5)


@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1))
@settings(max_examples=50)
def test_error_follows_its_definition(pairs: "list[tuple[float, bool]]") -> None:
    confidence, correct = (np.array(column) for column in zip(*pairs))
    bins: dict[int, list[float]] = {}
    for value, right in pairs:
        # sixteenths are exact; the last bin holds 1, too
        bins.setdefault(min(math.floor(value * 16), 15), []).append(value - right)
    expected = math.fsum(abs(math.fsum(gaps)) for gaps in bins.values()) / len(pairs)
    found = reliability_diagram(confidence, correct, bins=16)
    assert found.ece == pytest.approx(expected, abs=1e-9)


def test_certainty_shares_the_last_bin() -> None:
    """Give 0.08, where a bin of its own for 1, as in torchmetrics 1.9, would give 0.12."""
    confidence = np.repeat([0.96, 1.0], 500)
    correct = np.concatenate([np.ones(500, bool), np.arange(500) < 400])
    found = reliability_diagram(confidence, correct)
    assert found.counts.tolist() == [0] * 14 + [1000]
    assert found.ece == pytest.approx(0.08)  # |0.98 - 0.90|


@pytest.mark.parametrize("odd", [-0.1, 1.1, np.nan, np.inf])
def test_a_confidence_is_a_probability(odd: float) -> None:
    with pytest.raises(UsageError, match="is no probability"):
        reliability_diagram(np.array([0.5, odd]), np.array([True, True]))


def test_true_probabilities_have_no_error() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.random(200_000)
    found = reliability_diagram(confidence, rng.random(200_000) < confidence)
    assert found.ece == pytest.approx(0, abs=0.01)
    assert reliability_diagram(np.ones(10), np.zeros(10, bool)).ece == 1


def test_empty_bins_have_no_values() -> None:
    found = reliability_diagram(np.array([0.05]), np.array([True]), bins=3)
    assert found.counts.tolist() == [1, 0, 0]
    assert np.isnan(found.accuracy[1:]).all()
    assert found.ece == pytest.approx(0.95)
