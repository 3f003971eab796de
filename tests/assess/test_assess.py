"""Likelihood of records, and the area under the ROC curve from records."""

import math
import random
from typing import Any, Dict, Optional

import pytest

from fairseq_pdd.assess import negative_log_likelihood, roc_auc
from fairseq_pdd.errors import UsageError
from fairseq_pdd.records import RecordSet, collect_records


def record(number: int, total: Optional[float], **changes: Any) -> Dict[str, Any]:
    return {
        "id": number,
        "rank": 0,
        "source": "a",
        "reference": "b",
        "hypothesis": "c",
        "tokens": ["c", "</s>"],
        "log_prob": -3.0,
        "sequence": {"total": total},
        "token": {"total": None},
        **changes,
    }


def one(total: Optional[float]) -> RecordSet:
    return collect_records([record(0, total)])


def test_likelihood_is_per_token_of_the_corpus() -> None:
    records = collect_records([record(0, 1.0), record(1, 1.0, log_prob=-1.0, tokens=["x"] * 8)])
    assert negative_log_likelihood(records) == pytest.approx(0.4)


def test_an_impossible_output_has_no_likelihood() -> None:
    records = collect_records([record(0, 1.0), record(1, 1.0, log_prob=-3.4028235e38)], "nll.jsonl")
    with pytest.raises(UsageError, match=r"nll\.jsonl: id 1 has probability 0"):
        negative_log_likelihood(records)


def test_roc_auc_is_the_chance_that_an_outsider_is_more_uncertain() -> None:
    rng = random.Random(0)
    # few distinct values, so that there are ties
    inside = [rng.randint(0, 9) / 10 for _ in range(40)]
    outside = [rng.randint(3, 12) / 10 for _ in range(25)]
    wins = sum(0.5 * (a == b) + (b > a) for a in inside for b in outside)
    there, back = (
        collect_records([record(i, value) for i, value in enumerate(values)])
        for values in (inside, outside)
    )
    assert roc_auc(there, back, "total") == pytest.approx(wins / (40 * 25))
    assert math.isclose(roc_auc(there, back, "total") + roc_auc(back, there, "total"), 1.0)


def test_a_model_without_the_measure_has_no_auc() -> None:
    assert roc_auc(one(None), one(1.0), "total") is None
    with pytest.raises(UsageError, match="no measure 'rmi'"):
        roc_auc(one(1.0), one(1.0), "rmi")
