"""Uncertainty of sentences from their n-best lists."""

import logging
import math
from typing import Any, Dict, Optional

import numpy as np
import pytest

from fairseq_pdd.assess import Combination, combine
from fairseq_pdd.errors import UsageError
from fairseq_pdd.records import collect_records


def block(log_prob: Optional[float], total: Any) -> Dict[str, Any]:
    return {
        "log_prob": log_prob,
        "sequence": {"total": total, "rmi": None},
        "token": {"total": None, "rmi": None},
    }


def record(
    number: int, rank: int, log_prob: Optional[float], total: Any, expr: Optional[float] = None
) -> Dict[str, Any]:
    made = {"id": number, "rank": rank, "hypothesis": "c", "tokens": ["c", "</s>"]}
    made.update(block(log_prob, total))
    if expr is not None:
        made["expr"] = block(expr, 10 * total)
    return made


# ids and ranks out of order
LISTS = [
    record(1, 0, -1.0, 5.0),
    record(0, 1, math.log(0.3), 2.0),
    record(0, 0, math.log(0.6), 1.0),
    record(0, 2, math.log(0.1), 6.0),
]


def combined(how: Combination, temperature: float = 1.0) -> "list[float]":
    return combine(collect_records(LISTS), how, temperature)["total"].tolist()


def test_an_nbest_list_by_hand() -> None:
    assert combined(Combination.best) == [1.0, 5.0]
    assert combined(Combination.mean) == pytest.approx([3.0, 5.0])
    assert combined(Combination.weighted) == pytest.approx([0.6 + 0.6 + 0.6, 5.0])
    # T = 2: square roots of the probabilities
    weights = np.sqrt([0.6, 0.3, 0.1])
    expected = np.dot(weights, [1, 2, 6]) / weights.sum()
    assert combined(Combination.weighted, 2.0) == pytest.approx([expected, 5.0])


def test_the_temperature_leads_from_the_most_probable_to_the_mean() -> None:
    for temperature in (1e-3, 1e-300, 1e-308):
        assert combined(Combination.weighted, temperature) == pytest.approx([1.0, 5.0])
    assert combined(Combination.weighted, 1e9) == pytest.approx(combined(Combination.mean))


def test_probabilities_too_small_for_a_number_weigh_as_they_should() -> None:
    lists = [record(0, 0, -5000.0, 1.0), record(0, 1, -5000.0 + math.log(3), 2.0)]
    assert combine(collect_records(lists), Combination.weighted)["total"] == pytest.approx([1.75])


def test_an_ensemble_of_products_has_its_own_weights() -> None:
    lists = [
        record(0, 0, math.log(0.5), 1.0, expr=math.log(0.9)),
        record(0, 1, math.log(0.5), 2.0, expr=math.log(0.1)),
    ]
    found = combine(collect_records(lists), Combination.weighted)
    assert found["total"] == pytest.approx([1.5])
    assert found["expr.total"] == pytest.approx([0.9 * 10 + 0.1 * 20])


LARGEST = 3.4028235e38  # is read as infinite


def test_a_value_beyond_float32_is_the_most_uncertain(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lists = [record(0, 0, -1.0, LARGEST), record(1, 0, -1.0, 3.0), record(1, 1, -900.0, LARGEST)]
    with caplog.at_level(logging.WARNING):
        scores = collect_records(lists, "test.jsonl")
        assert combine(scores)["total"].tolist() == [np.inf, 3.0]
    assert "test.jsonl: total is beyond float32 in 2 of 3 hypotheses" in caplog.text
    # without weight it adds nothing
    assert combine(scores, Combination.weighted)["total"].tolist() == [np.inf, 3.0]


def test_an_impossible_hypothesis_has_no_weight() -> None:
    lists = [record(0, 0, -1.0, 1.0), record(0, 1, -LARGEST, 9.0), record(1, 0, -LARGEST, 4.0)]
    assert combine(collect_records(lists), Combination.weighted)["total"].tolist() == [1.0, 4.0]


def test_single_hypotheses_have_nothing_to_combine(caplog: pytest.LogCaptureFixture) -> None:
    scores = collect_records([record(0, 0, -1.0, 5.0)], "test.jsonl")
    with caplog.at_level(logging.WARNING):
        assert combine(scores, Combination.mean)["total"].tolist() == [5.0]
    assert "test.jsonl has one hypothesis per sentence" in caplog.text


def test_a_model_without_measures_has_nothing_to_combine() -> None:
    with pytest.raises(UsageError, match=r"test\.jsonl: every measure is null"):
        combine(collect_records([record(0, 0, -1.0, None)], "test.jsonl"))


@pytest.mark.parametrize("temperature", [0, -1.0, math.nan, math.inf])
def test_a_temperature_is_a_positive_number(temperature: float) -> None:
    with pytest.raises(UsageError, match="is no positive number"):
        combined(Combination.weighted, temperature)
