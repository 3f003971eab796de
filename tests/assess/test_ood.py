"""Detection of out-of-domain input against brute force, scikit-learn and SciPy."""

import inspect
import logging
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from fairseq_pdd.assess import Detection, detect, detect_all
from fairseq_pdd.errors import UsageError

VALUES = st.lists(st.integers(0, 8).map(float), min_size=2, max_size=40).map(np.array)


def by_definition(inside: np.ndarray, outside: np.ndarray) -> "tuple[float, float, float]":
    """ROC-AUC by pairs; AUPR and FPR by trying every threshold."""
    wins = np.mean([(o > i) + (o == i) / 2 for i in inside for o in outside])
    area, recall_before, fpr = 0.0, 0.0, None
    for threshold in sorted({*inside, *outside}, reverse=True):
        true, false = np.sum(outside >= threshold), np.sum(inside >= threshold)
        recall = true / len(outside)
        area += (recall - recall_before) * true / (true + false)
        recall_before = recall
        if fpr is None and recall >= 0.95:
            fpr = false / len(inside)
    assert fpr is not None
    return float(wins), float(area), float(fpr)


def defined(*args: Any, **options: Any) -> Detection:
    found = detect(*args, **options)
    assert found is not None
    return found


@given(VALUES, VALUES)
def test_all_three_follow_their_definitions(inside: np.ndarray, outside: np.ndarray) -> None:
    assume(len({*inside, *outside}) > 1)
    found = defined(inside, outside, resamples=0)
    assert [e.value for e in found] == pytest.approx(by_definition(inside, outside))


@given(VALUES, VALUES)
@settings(max_examples=25)
def test_only_the_order_of_values_matters(inside: np.ndarray, outside: np.ndarray) -> None:
    assume(len({*inside, *outside}) > 1)
    plain = detect(inside, outside, resamples=20)
    assert detect(np.exp(inside) - 7, np.exp(outside) - 7, resamples=20) == plain
    # the largest may as well be infinite
    top = max(inside.max(), outside.max())
    inside, outside = (np.where(v == top, np.inf, v) for v in (inside, outside))
    assert detect(inside, outside, resamples=20) == plain


def test_the_sets_change_roles() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=30), rng.normal(1, size=20)
    there, back = (defined(*pair, resamples=0).roc_auc.value for pair in ((a, b), (b, a)))
    assert there + back == pytest.approx(1)


def test_a_bootstrap_draw_is_scored_like_any_sample() -> None:
    """Every resample of the fast bootstrap, drawn again and given to scikit-learn."""
    rng = np.random.default_rng(1)
    inside, outside = rng.integers(0, 12, 25).astype(float), rng.integers(4, 16, 20).astype(float)
    resamples = 40
    drawn = np.random.default_rng(3)
    samples = [
        values[drawn.integers(0, len(values), (resamples, len(values)))]
        for values in (inside, outside)
    ]
    expected = []
    for a, b in zip(*samples):
        labels, values = np.repeat([0, 1], [len(a), len(b)]), np.concatenate([a, b])
        fpr, tpr, _ = roc_curve(labels, values, drop_intermediate=False)
        expected.append(
            (
                roc_auc_score(labels, values),
                average_precision_score(labels, values),
                fpr[tpr >= 0.95][0],
            )
        )
    low, high = np.quantile(expected, [0.05, 0.95], axis=0)
    found = defined(inside, outside, resamples, confidence=0.9, seed=3)
    np.testing.assert_allclose([e.low for e in found], low)
    np.testing.assert_allclose([e.high for e in found], high)


def test_intervals_are_those_of_scipy() -> None:
    rng = np.random.default_rng(2)
    inside, outside = rng.normal(size=60), rng.normal(0.8, size=50)

    def area(a: np.ndarray, b: np.ndarray) -> float:
        return float(roc_auc_score(np.repeat([0, 1], [len(a), len(b)]), np.concatenate([a, b])))

    # the argument's name in older versions of SciPy is random_state
    seed = "rng" if "rng" in inspect.signature(stats.bootstrap).parameters else "random_state"
    interval = stats.bootstrap(
        (inside, outside), area, vectorized=False, n_resamples=1000, method="percentile",
        **{seed: 0},
    ).confidence_interval  # fmt: skip
    found = defined(inside, outside, 1000).roc_auc
    assert found.low == pytest.approx(interval.low, abs=0.015)
    assert found.high == pytest.approx(interval.high, abs=0.015)
    assert found.low < found.value < found.high


def test_large_sets_are_drawn_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    inside, outside = rng.normal(size=30), rng.normal(size=40)
    monkeypatch.setattr("fairseq_pdd.assess.ood._MAX_ELEMENTS", 200)
    found = defined(inside, outside, 101)
    assert all(e.low < e.value < e.high for e in found)


def test_a_measure_that_never_varies_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    flat, varied = np.ones(4), np.arange(4.0)
    with caplog.at_level(logging.WARNING):
        found = detect_all({"epkl": flat, "rmi": varied}, {"epkl": flat, "rmi": varied + 1})
    assert "epkl has the same value for every sentence" in caplog.text
    assert "rmi" not in caplog.text
    assert found["epkl"] is None
    assert found["rmi"] is not None


def test_a_set_of_one_sentence_has_no_detection(caplog: pytest.LogCaptureFixture) -> None:
    one, many = np.array([3.0]), np.arange(4.0)
    for pair in ((one, many), (many, one), (one, one + 1)):
        assert detect(*pair) is None
        with caplog.at_level(logging.WARNING):
            assert detect_all({"rmi": pair[0]}, {"rmi": pair[1]}) == {"rmi": None}
    assert "rmi is of a set with one sentence: ROC-AUC, AUPR and FPR@95 are not" in caplog.text


def test_equal_sets_are_flagged_alike() -> None:
    """The example of the issue: scikit-learn drops the point at 95 % by default."""
    same = np.arange(100.0)
    value, low, high = defined(same, same).fpr95
    assert value == 0.95
    assert low < value < high
    assert defined(same, same, resamples=0).fpr95.value == by_definition(same, same)[2] == 0.95


def test_a_resample_that_is_the_sample_has_its_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bootstrap has the definitions of the estimates: here it draws every sentence once."""

    class Once:
        def integers(self, low: int, high: int, shape: "tuple[int, int]") -> np.ndarray:
            return np.tile(np.arange(high), (shape[0], 1))

    monkeypatch.setattr(np.random, "default_rng", lambda seed: Once())
    for inside, outside in (
        (np.arange(100.0), np.arange(100.0)),
        (np.repeat(np.arange(25.0), 4), np.repeat(np.arange(20.0), 3) + 5),
    ):
        for estimate in defined(inside, outside, 5):
            assert estimate.low == pytest.approx(estimate.value)
            assert estimate.high == pytest.approx(estimate.value)


def test_files_of_different_systems_are_refused() -> None:
    with pytest.raises(UsageError, match="only one of the two files has rmi"):
        detect_all({"total": np.ones(2)}, {"total": np.ones(2), "rmi": np.ones(2)})
