"""Rejection curves and PRR against brute force."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import trapezoid

from fairseq_pdd.assess import rejection

ERRORS = st.lists(st.integers(0, 5).map(float), min_size=2, max_size=12).map(np.array)
RETAINED = st.booleans()


def curve(errors: np.ndarray, order: "list[int]", retained: bool) -> "list[float]":
    """Error while outputs are rejected in that order, one after the other."""
    points = []
    for count in range(len(order) + (not retained)):
        kept = [errors[i] for i in order[count:]]
        points.append(np.mean(kept) if retained else sum(kept) / len(errors))
    return points


def area(points: "list[float]", size: int) -> float:
    return float(trapezoid(points, dx=1 / size))


@given(ERRORS, st.randoms(use_true_random=False), RETAINED)
@settings(max_examples=60)
def test_prr_by_rejecting_one_by_one(errors: np.ndarray, random: object, retained: bool) -> None:
    n = len(errors)
    uncertainty = list(range(n))
    random.shuffle(uncertainty)  # type: ignore[attr-defined]
    found = rejection(errors, np.array(uncertainty, dtype=float), retained)
    order = sorted(range(n), key=lambda i: -uncertainty[i])
    points = curve(errors, order, retained)
    assert found.errors == pytest.approx(points)
    best = curve(errors, sorted(range(n), key=lambda i: -errors[i]), retained)
    assert found.oracle == pytest.approx(best)
    if len(set(errors)) == 1:
        assert found.prr is None
        return
    base = area(list(found.random), n)
    expected = (area(points, n) - base) / (area(best, n) - base)
    assert found.prr == pytest.approx(expected)
    assert found.prr <= 1 + 1e-9


@pytest.mark.parametrize("retained", [False, True])
def test_random_and_ties_are_the_mean_over_all_orders(retained: bool) -> None:
    errors = np.array([3.0, 0.0, 1.0, 1.0, 5.0])
    found = rejection(errors, np.ones(5), retained)
    mean = np.mean([curve(errors, list(o), retained) for o in permutations(range(5))], axis=0)
    np.testing.assert_allclose(found.random, mean)
    np.testing.assert_allclose(found.errors, mean)
    # two groups: 4 and 2 come first, in either order
    found = rejection(errors, np.array([0.0, 0.0, 1.0, 0.0, 1.0]), retained)
    orders = [[*a, *b] for a in permutations([4, 2]) for b in permutations([0, 1, 3])]
    mean = np.mean([curve(errors, o, retained) for o in orders], axis=0)
    np.testing.assert_allclose(found.errors, mean)


@given(ERRORS, RETAINED)
def test_the_oracle_has_one_and_its_opposite_is_negative(
    errors: np.ndarray, retained: bool
) -> None:
    found = rejection(errors, errors, retained)
    if found.prr is not None:
        assert found.prr == pytest.approx(1)
        opposite = rejection(errors, -errors, retained).prr
        assert opposite is not None
        assert opposite < 0
        assert rejection(errors, np.exp(errors), retained).prr == found.prr
        assert rejection(errors, np.where(errors > 4, np.inf, errors), retained).prr == found.prr


@pytest.mark.parametrize("retained", [False, True])
def test_chance_has_none(retained: bool) -> None:
    rng = np.random.default_rng(0)
    errors = rng.random(500)
    values = [rejection(errors, rng.random(500), retained).prr for _ in range(200)]
    assert np.mean(values) == pytest.approx(0, abs=0.02)
    assert rejection(errors, np.zeros(500), retained).prr is None


def test_by_hand() -> None:
    # errors 1, 0; the wrong one is rejected first, then last
    errors = np.array([1.0, 0.0])
    found = rejection(errors, np.array([2.0, 1.0]))
    assert found.fractions.tolist() == [0, 0.5, 1]
    assert found.errors.tolist() == [0.5, 0, 0]
    assert found.random.tolist() == [0.5, 0.25, 0]
    assert found.prr == 1
    assert rejection(errors, np.array([1.0, 2.0])).prr == -1
    kept = rejection(errors, np.array([1.0, 2.0]), retained=True)
    assert kept.fractions.tolist() == [0, 0.5]
    assert kept.errors.tolist() == [0.5, 1]
    assert kept.random.tolist() == [0.5, 0.5]
