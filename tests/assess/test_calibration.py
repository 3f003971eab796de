"""Expected calibration error against hand computation and torchmetrics."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import binary_calibration_error

from fairseq_pdd.assess import reliability_diagram


def test_by_hand() -> None:
    confidence = np.array([0.1, 0.2, 0.9, 0.7, 1.0])
    correct = np.array([False, True, True, False, True])
    found = reliability_diagram(confidence, correct, bins=2)
    assert found.edges.tolist() == [0, 0.5, 1]
    assert found.counts.tolist() == [2, 3]
    assert found.confidence == pytest.approx([0.15, 2.6 / 3])
    assert found.accuracy == pytest.approx([0.5, 2 / 3])
    assert found.ece == pytest.approx((2 * 0.35 + 3 * 0.2) / 5)


@given(st.lists(st.tuples(st.floats(0, 1, width=32, exclude_max=True), st.booleans()), min_size=1))
@settings(max_examples=50)
def test_error_equals_that_of_torchmetrics(pairs: "list[tuple[float, bool]]") -> None:
    confidence, correct = (np.array(column) for column in zip(*pairs))
    # torchmetrics' binary error is of the positive class, so labels are `correct` itself
    expected = binary_calibration_error(
        torch.tensor(confidence), torch.tensor(correct).int(), n_bins=16
    )
    # sixteenths are exact, so that both draw the same limits
    found = reliability_diagram(confidence, correct, bins=16)
    assert found.ece == pytest.approx(expected.item(), abs=1e-5)


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
