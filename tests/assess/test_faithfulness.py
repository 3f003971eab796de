"""Faithfulness against SciPy, least squares, a naive bootstrap and scikit-learn."""

import logging
from typing import Any, Callable, Dict, List, Optional, Sequence

import numpy as np
import pytest
from scipy.stats import pearsonr, rankdata, spearmanr
from sklearn.linear_model import LinearRegression
from sklearn.metrics import roc_auc_score

from fairseq_pdd.assess import (
    Faithfulness,
    Level,
    WithoutTotal,
    detect_without_total,
    faithfulness_of,
)
from fairseq_pdd.errors import UsageError
from fairseq_pdd.records import RecordSet, collect_records

Values = Dict[str, List[np.ndarray]]
LENGTHS = [3, 5, 2, 7, 4, 6, 3, 8, 5, 2, 9, 4]


def scored(values: Values, name: str = "nll.jsonl", absent: Sequence[str] = ()) -> RecordSet:
    """Make records of outputs from token values by measure, an array per sentence."""
    made = []
    for number in range(len(next(iter(values.values())))):
        tokens: Dict[str, Optional[List[float]]] = {
            m: v[number].tolist() for m, v in values.items()
        }
        length = len(next(iter(values.values()))[number])
        means = {m: float(np.mean(v[number])) for m, v in values.items()}
        made.append(
            {
                "id": number,
                "rank": 0,
                "hypothesis": "x",
                "tokens": [f"t{number}"] * (length - 1) + ["</s>"],
                "log_prob": -1.0,
                "sequence": {**means, **dict.fromkeys(absent)},
                "token": {**tokens, **dict.fromkeys(absent)},
            }
        )
    return collect_records(made, name)


def by_sentence(column: np.ndarray, lengths: Sequence[int]) -> List[np.ndarray]:
    return np.split(column, np.cumsum(lengths)[:-1])


def two_systems(lengths: Sequence[int] = LENGTHS, seed: int = 0) -> "tuple[Values, Values]":
    """Draw values with ties; the student's rmi has parts of its total and of the ensemble's rmi."""
    rng = np.random.default_rng(seed)
    size = sum(lengths)
    total, knowledge = rng.integers(1, 9, size), rng.integers(1, 9, size)
    columns: List[Dict[str, Any]] = [
        {"total": total + rng.integers(0, 3, size), "rmi": total + knowledge},
        {"total": total, "rmi": knowledge + rng.integers(0, 4, size)},
    ]
    ours, theirs = (
        {name: by_sentence(column / 8, lengths) for name, column in system.items()}
        for system in columns
    )
    return ours, theirs


def flat(values: Values, name: str, level: Level) -> np.ndarray:
    if level is Level.token:
        return np.concatenate(values[name])
    return np.array([v.mean() for v in values[name]])


def by_least_squares(x: np.ndarray, y: np.ndarray, *given: np.ndarray) -> float:
    """Compute a partial rank correlation as Pearson's of residuals; NaN where there are none."""
    design = np.stack([np.ones(len(x)), *map(rankdata, given)], axis=1)
    left = [v - design @ np.linalg.lstsq(design, v, rcond=None)[0] for v in map(rankdata, (x, y))]
    return float(pearsonr(*left).statistic) if np.ptp(left, axis=1).min() > 1e-9 else np.nan


def expected(ours: Values, theirs: Values, level: Level) -> Dict[str, float]:
    """Compute the values of :class:`Faithfulness` for rmi with SciPy."""
    x, total = flat(ours, "rmi", level), flat(ours, "total", level)
    y, their_total = flat(theirs, "rmi", level), flat(theirs, "total", level)
    found = {
        "spearman": spearmanr(x, y).statistic,
        "given_total": by_least_squares(x, y, total),
        "by_total": spearmanr(total, y).statistic,
        "student_coupling": spearmanr(x, total).statistic,
        "ensemble_coupling": spearmanr(y, their_total).statistic,
    }
    if level is Level.sentence:
        lengths = np.array([len(v) for v in ours["rmi"]])
        found["given_total_and_length"] = by_least_squares(x, y, total, lengths)
    return found


@pytest.mark.parametrize("level", Level)
def test_correlations_are_those_of_scipy(level: Level) -> None:
    ours, theirs = two_systems()
    found = faithfulness_of(scored(ours), scored(theirs), level, resamples=0)["rmi"]
    values = {name: e[0] for name, e in found._asdict().items() if e is not None}
    assert values == pytest.approx(expected(ours, theirs, level))
    assert abs(values["given_total"] - values["spearman"]) > 0.05  # a case worth testing
    assert all(e is None or e.value == e.low == e.high for e in found)


def test_partial_correlations_are_those_of_the_inverse_matrix() -> None:
    ours, theirs = two_systems()
    found = faithfulness_of(scored(ours), scored(theirs), Level.sentence, resamples=0)["rmi"]
    columns = [
        flat(v, n, Level.sentence) for v, n in ((ours, "rmi"), (theirs, "rmi"), (ours, "total"))
    ]
    for number, estimate in ((3, found.given_total), (4, found.given_total_and_length)):
        variables = [*columns, np.array(LENGTHS)][:number]
        precision = np.linalg.inv(np.corrcoef([rankdata(v) for v in variables]))
        assert estimate is not None
        assert estimate.value == pytest.approx(
            -precision[0, 1] / np.sqrt(precision[0, 0] * precision[1, 1])
        )


@pytest.mark.parametrize("level", Level)
def test_a_resample_is_ranked_like_any_sample(level: Level) -> None:
    """Every resample of sentences is drawn again, written out and given to SciPy."""
    ours, theirs = two_systems()
    resamples, rng = 60, np.random.default_rng(3)
    drawn: Dict[str, List[float]] = {}
    for _ in range(resamples):
        rows = rng.integers(0, len(LENGTHS), len(LENGTHS))
        pair = ({n: [v[r] for r in rows] for n, v in values.items()} for values in (ours, theirs))
        for name, value in expected(*pair, level).items():
            drawn.setdefault(name, []).append(value)
    found = faithfulness_of(scored(ours), scored(theirs), level, resamples, 0.9, seed=3)["rmi"]
    for name, values in drawn.items():
        # a resample of 12 may have the same order of rmi and total, which leaves nothing
        assert np.isnan(values).sum() < 3
        low, high = np.nanquantile(values, [0.05, 0.95])
        assert getattr(found, name)[1:] == pytest.approx((low, high)), name


@pytest.mark.parametrize("level", Level)
def test_only_the_order_of_values_matters(level: Level) -> None:
    """Values of sentences are means, so each sentence has one token here."""
    ours, theirs = two_systems([1] * 40)
    plain = faithfulness_of(scored(ours), scored(theirs), level, 20)
    changed = {name: [np.exp(v) - 7 for v in values] for name, values in ours.items()}
    assert faithfulness_of(scored(changed), scored(theirs), level, 20) == plain
    # the largest may as well be infinite
    top = max(float(v[0]) for v in theirs["rmi"])
    theirs["rmi"] = [np.where(v == top, 3.4028235e38, v) for v in theirs["rmi"]]
    assert faithfulness_of(scored(ours), scored(theirs), level, 20) == plain


@pytest.mark.parametrize("level", Level)
def test_a_perfect_student_and_an_independent_one(level: Level) -> None:
    lengths = LENGTHS * 20
    theirs = two_systems(lengths)[1]
    same = faithfulness_of(scored(theirs), scored(theirs), level, 20)["rmi"]
    assert same.spearman == same.given_total == pytest.approx((1, 1, 1))
    assert same.student_coupling == same.ensemble_coupling
    other = two_systems(lengths, seed=1)[0]
    found = faithfulness_of(scored(other), scored(theirs), level, 200)["rmi"]
    for estimate in (found.spearman, found.given_total, found.by_total):
        assert estimate is not None
        assert estimate.low < 0 < estimate.high
        assert estimate.high - estimate.low < 0.4


def test_entropy_under_another_name_leaves_nothing(caplog: pytest.LogCaptureFixture) -> None:
    ours, theirs = two_systems()
    ours["rmi"] = [v**2 for v in ours["total"]]
    found = faithfulness_of(scored(ours), scored(theirs), Level.token, 10)
    assert found["rmi"].student_coupling == pytest.approx((1, 1, 1))
    assert found["rmi"].given_total is None
    assert found["rmi"].spearman == found["rmi"].by_total is not None
    # trivial for total itself
    assert found["total"]._replace(spearman=None, by_total=None) == Faithfulness()
    assert not caplog.text


def test_a_student_without_knowledge_uncertainty_has_its_total() -> None:
    ours, theirs = two_systems()
    del ours["rmi"]
    found = faithfulness_of(scored(ours, absent=["rmi"]), scored(theirs), Level.token, 0)["rmi"]
    assert found.by_total is not None
    assert found.ensemble_coupling is not None
    assert found == Faithfulness(by_total=found.by_total, ensemble_coupling=found.ensemble_coupling)


def test_what_is_not_defined_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    ours, theirs = two_systems()
    ours["rmi"] = [np.ones_like(v) for v in ours["rmi"]]
    with caplog.at_level(logging.WARNING):
        found = faithfulness_of(scored(ours, "a.jsonl"), scored(theirs), Level.token, 10)["rmi"]
    assert found.spearman is found.given_total is found.student_coupling is None
    assert "a.jsonl: rmi has the same value for every token, so its" in caplog.text
    for number in (1, 2, 3, 4):
        pair = (two_systems([5] * number)[i] for i in (0, 1))
        with caplog.at_level(logging.WARNING):
            caplog.clear()
            found = faithfulness_of(*map(scored, pair), Level.token, 10)["rmi"]
        assert (found.spearman is None) == (number < 3) == ("fewer than 3" in caplog.text)
        assert (found.given_total is None) == (number < 4)


def spoil_tokens(values: Values) -> RecordSet:
    return scored({name: [*v[:3], v[3][1:], *v[4:]] for name, v in values.items()}, "b.jsonl")


def drop_sentence(values: Values) -> RecordSet:
    return scored({name: v[:-1] for name, v in values.items()}, "b.jsonl")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_tokens, "b.jsonl and nll.jsonl have different outputs, first of id 3: score"),
        (drop_sentence, "b.jsonl and nll.jsonl do not have the same sentences: only one has id 11"),
    ],
)
def test_other_outputs_are_refused(spoil: Callable[[Values], RecordSet], message: str) -> None:
    ours, theirs = two_systems()
    with pytest.raises(UsageError, match=message):
        faithfulness_of(spoil(ours), scored(theirs), Level.token, 0)


def two_sets(extra: float, seed: int = 0) -> "tuple[Dict[str, np.ndarray], Dict[str, np.ndarray]]":
    """Draw a set, and another whose total is higher; its rmi is so too, and by ``extra`` more."""
    rng = np.random.default_rng(seed)

    def draw(shift: float, more: float, size: int) -> Dict[str, np.ndarray]:
        total = rng.normal(shift, 1, size)
        return {
            "total": np.exp(total / 2),
            "rmi": np.exp(total + rng.normal(more, 0.7, size)),
        }

    return draw(0, 0, 300), draw(1.5, extra, 250)


def residual_area(inside: Dict[str, np.ndarray], outside: Dict[str, np.ndarray]) -> float:
    """Compute the area by scikit-learn's regression of ranks."""
    size = len(inside["total"])
    ranks = {n: rankdata(np.concatenate([inside[n], outside[n]])) for n in ("total", "rmi")}
    line = LinearRegression().fit(ranks["total"][:size, None], ranks["rmi"][:size])
    left = ranks["rmi"] - line.predict(ranks["total"][:, None])
    return float(roc_auc_score(np.arange(len(left)) >= size, left))


def detected(*pair: Dict[str, np.ndarray], resamples: int = 0) -> WithoutTotal:
    found = detect_without_total(*pair, resamples=resamples)
    assert list(found) == ["rmi"]
    return found["rmi"]


@pytest.mark.parametrize("extra", [0.0, 0.8])
def test_detection_without_total_is_that_of_residuals(extra: float) -> None:
    inside, outside = two_sets(extra)
    area, residual = detected(inside, outside)
    assert area is not None
    assert residual is not None
    assert residual.value == pytest.approx(residual_area(inside, outside))
    # what total explains detects nothing; what it does not explain is found
    assert area.value > 0.75
    assert (residual.value > 0.7) if extra else abs(residual.value - 0.5) < 0.04


def test_every_resample_has_its_own_line() -> None:
    inside, outside = two_sets(0.4)
    rng, areas = np.random.default_rng(4), []
    for _ in range(60):
        pair = []
        for values in (inside, outside):
            rows = rng.integers(0, len(values["rmi"]), len(values["rmi"]))
            pair.append({name: column[rows] for name, column in values.items()})
        areas.append(residual_area(*pair))
    residual = detect_without_total(inside, outside, 60, 0.9, seed=4)["rmi"].residual
    assert residual is not None
    assert residual[1:] == pytest.approx(np.quantile(areas, [0.05, 0.95]))


def test_only_the_order_matters_for_detection() -> None:
    inside, outside = two_sets(0.4)
    plain = detect_without_total(inside, outside, 20)
    top = outside["rmi"].max()
    pair = [{**v, "total": v["total"] ** 3, "rmi": np.where(v["rmi"] == top, np.inf, v["rmi"])}
            for v in (inside, outside)]  # fmt: skip
    assert detect_without_total(*pair, 20) == plain


# the second case has residuals that are rounding errors
@pytest.mark.parametrize(("power", "sizes"), [(4, (300, 250)), (-1, (29, 50))])
def test_a_function_of_total_detects_nothing_without_it(
    power: int, sizes: "tuple[int, int]", caplog: pytest.LogCaptureFixture
) -> None:
    inside, outside = (
        {"total": v["total"][:size], "rmi": v["total"][:size] ** power}
        for v, size in zip(two_sets(0), sizes)
    )
    with caplog.at_level(logging.WARNING):
        found = detected(inside, outside, resamples=10)
    assert found.roc_auc is not None
    assert found.residual is None
    assert "rmi follows from total: nothing is left" in caplog.text
    # the reason for ranks: a line through values leaves something
    line = LinearRegression().fit(inside["total"][:, None], inside["rmi"])
    left = [v["rmi"] - line.predict(v["total"][:, None]) for v in (inside, outside)]
    area = roc_auc_score(np.repeat([0, 1], sizes), np.concatenate(left))
    assert abs(area - 0.5) > 0.08


def test_detection_needs_total_and_the_same_measures() -> None:
    inside, outside = two_sets(0)
    assert detect_without_total({"rmi": inside["rmi"]}, {"rmi": outside["rmi"]}) == {}
    with pytest.raises(UsageError, match="only one of the two files has rmi"):
        detect_without_total(inside, {"total": outside["total"]})
    flat_total = [{**v, "total": np.ones(len(v["total"]))} for v in (inside, outside)]
    found = detected(*flat_total)
    assert found.roc_auc is not None
    assert found.residual == pytest.approx(found.roc_auc)
