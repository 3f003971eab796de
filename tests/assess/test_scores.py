"""Columns of sequence-level values, and n-best lists."""

import logging
import math
from pathlib import Path
from typing import Any, Dict, Optional

from . import making
import numpy as np
import pytest

from fairseq_pdd.assess import Combination, combine, read_best, sequence_scores
from fairseq_pdd.errors import UsageError


def record(
    number: int, rank: int, log_prob: Optional[float], total: Any, expr: Optional[float] = None
) -> Dict[str, Any]:
    made = {
        "id": number,
        "rank": rank,
        "log_prob": log_prob,
        "sequence": {"total": total, "rmi": None},
    }
    if expr is not None:
        made["expr"] = {"log_prob": expr, "sequence": {"total": 10 * total, "rmi": None}}
    return made


# ids and ranks out of order
LISTS = [
    record(1, 0, -1.0, 5.0),
    record(0, 1, math.log(0.3), 2.0),
    record(0, 0, math.log(0.6), 1.0),
    record(0, 2, math.log(0.1), 6.0),
]


def combined(how: Combination, temperature: float = 1.0) -> "list[float]":
    return combine(sequence_scores(LISTS), how, temperature)["total"].tolist()


def test_an_nbest_list_by_hand() -> None:
    assert combined(Combination.best) == [1.0, 5.0]
    assert combined(Combination.mean) == pytest.approx([3.0, 5.0])
    assert combined(Combination.weighted) == pytest.approx([0.6 + 0.6 + 0.6, 5.0])
    # T = 2: square roots of the probabilities
    weights = np.sqrt([0.6, 0.3, 0.1])
    expected = np.dot(weights, [1, 2, 6]) / weights.sum()
    assert combined(Combination.weighted, 2.0) == pytest.approx([expected, 5.0])


def test_the_temperature_leads_from_the_most_probable_to_the_mean() -> None:
    assert combined(Combination.weighted, 1e-3) == pytest.approx(combined(Combination.best))
    assert combined(Combination.weighted, 1e9) == pytest.approx(combined(Combination.mean))


def test_probabilities_too_small_for_a_number_weigh_as_they_should() -> None:
    lists = [record(0, 0, -5000.0, 1.0), record(0, 1, -5000.0 + math.log(3), 2.0)]
    assert combine(sequence_scores(lists), Combination.weighted)["total"] == pytest.approx([1.75])


def test_an_ensemble_of_products_has_its_own_weights() -> None:
    lists = [
        record(0, 0, math.log(0.5), 1.0, expr=math.log(0.9)),
        record(0, 1, math.log(0.5), 2.0, expr=math.log(0.1)),
    ]
    found = combine(sequence_scores(lists), Combination.weighted)
    assert found["total"] == pytest.approx([1.5])
    assert found["expr.total"] == pytest.approx([0.9 * 10 + 0.1 * 20])


def test_what_the_model_does_not_have_is_absent() -> None:
    scores = sequence_scores(LISTS)
    assert list(scores.measures) == ["total"]
    assert scores.absent == ["rmi"]


def test_a_value_too_large_for_a_number_is_the_most_uncertain(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lists = [record(0, 0, -1.0, None), record(1, 0, -1.0, 3.0), record(1, 1, -900.0, None)]
    with caplog.at_level(logging.WARNING):
        scores = sequence_scores(lists, "test.jsonl")
    assert "test.jsonl: total is null in 2 of 3 hypotheses" in caplog.text
    assert combine(scores)["total"].tolist() == [np.inf, 3.0]
    # without weight it says nothing
    assert combine(scores, Combination.weighted)["total"].tolist() == [np.inf, 3.0]


def test_an_impossible_hypothesis_has_no_weight() -> None:
    lists = [record(0, 0, -1.0, 1.0), record(0, 1, None, 9.0), record(1, 0, None, 4.0)]
    assert combine(sequence_scores(lists), Combination.weighted)["total"].tolist() == [1.0, 4.0]


def test_single_hypotheses_have_nothing_to_combine(caplog: pytest.LogCaptureFixture) -> None:
    scores = sequence_scores(LISTS[:1], "test.jsonl")
    with caplog.at_level(logging.WARNING):
        assert combine(scores, Combination.mean)["total"].tolist() == [5.0]
    assert "test.jsonl has one hypothesis a sentence" in caplog.text


def test_files_of_several_systems_are_refused() -> None:
    with pytest.raises(UsageError, match="id 3 has other measures than the lines before"):
        sequence_scores([*LISTS, record(3, 0, -1.0, 1.0, expr=-1.0)])


def test_values_must_be_numbers() -> None:
    with pytest.raises(UsageError, match="a sequence-level value is no number"):
        sequence_scores([record(0, 0, -1.0, "high")], "test.jsonl")


def test_best_hypotheses_and_scores_are_of_one_reading(tmp_path: Path) -> None:
    made = making.records(5, 0.3, seed=0, nbest=3)
    path = making.write(tmp_path / "test.jsonl", made[::-1])
    firsts, scores = read_best(path)
    assert firsts == made[::3]
    assert scores.ids.tolist() == [number for number in range(5) for _ in range(3)]
    totals = [r["sequence"]["total"] for r in made]
    assert scores.measures["total"].tolist() == totals
