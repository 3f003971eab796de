"""Wrong words and their measures."""

import logging
import math
from dataclasses import replace
from typing import Any, Dict, List

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from fairseq_pdd.assess import Pieces, WordScores, word_errors, word_scores
from fairseq_pdd.assess.token_errors import normalised_cross_entropy
from fairseq_pdd.errors import UsageError
from fairseq_pdd.records import collect_records

from . import making

EOS = "</s>"


def two_sentences() -> List[Dict[str, Any]]:
    return [
        making.output(0, ["▁ein", "▁h", "und", EOS], [0.1, 0.5, 0.7, 9.0], "ein hund", "ein haus"),
        making.output(1, ["▁so", EOS], [0.2, 9.0], "so", "so ist es"),
    ]


def test_words_get_the_values_of_their_pieces_by_hand() -> None:
    records = collect_records(two_sentences())
    words = word_scores(records)
    assert words.sentences.tolist() == [0, 0, 1]
    assert words.correct.tolist() == [True, False, True]
    # the end of the sequence belongs to no word
    assert words.measures["score"] == pytest.approx([0.1, 1.2, 0.2])
    assert words.measures["total"] == pytest.approx([0.2, 2.4, 0.4])
    assert words.absent == ["data", "mutual_information", "epkl", "rmi", "rmi_score"]
    largest = word_scores(records, Pieces.max)
    assert largest.measures["score"] == pytest.approx([0.1, 0.7, 0.2])


def test_ensembles_have_their_values_of_products_too() -> None:
    made = making.records(4, 0.3, seed=0)
    words = word_scores(collect_records(made).best())
    assert set(words.measures) == {f"{p}{m}" for p in ("", "expr.") for m in making.MEASURES}
    assert words.measures["expr.rmi"][0] == pytest.approx(sum(made[0]["expr"]["token"]["rmi"][:2]))


def test_outputs_that_are_not_spelt_are_skipped(caplog: pytest.LogCaptureFixture) -> None:
    strange = making.output(2, ["Ġso", EOS], [1.0, 1.0], "so", "so")
    with caplog.at_level(logging.WARNING):
        words = word_scores(collect_records([*two_sentences(), strange], "test.jsonl"))
    assert "test.jsonl: 1 of 3 outputs are skipped" in caplog.text
    assert words.skipped == 1
    assert len(words.correct) == 3
    with pytest.raises(UsageError, match="no output has words that its tokens spell"):
        word_scores(collect_records([{**strange, "id": 0}]))


def test_every_token_has_a_value() -> None:
    sentences = two_sentences()
    sentences[1]["token"]["total"].append(1.0)
    with pytest.raises(UsageError, match="line 2: 2 tokens but 3 values of 'total'"):
        collect_records(sentences)


def test_a_value_beyond_float32_is_the_most_uncertain() -> None:
    sentences = two_sentences()
    sentences[1]["token"]["total"][0] = 3.4028235e38
    words = word_scores(collect_records(sentences))
    assert words.measures["total"].tolist() == [0.2, 2.4, np.inf]
    assert word_errors(words)["total"].roc_auc == 0.5


def test_errors_need_references_and_variation() -> None:
    sentences = two_sentences()
    with pytest.raises(UsageError, match="every word is right"):
        word_errors(word_scores(collect_records([{**sentences[1], "id": 0}])))
    sentences[0]["reference"] = None
    with pytest.raises(UsageError, match="id 0 has no reference"):
        word_scores(collect_records(sentences))


def test_normalised_cross_entropy_by_hand() -> None:
    correct = np.array([True, True, True, False])
    base = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    entropy = -(math.log(0.9) + math.log(0.8) + math.log(0.5) + math.log(1 - 0.3)) / 4
    found = normalised_cross_entropy(correct, np.array([0.9, 0.8, 0.5, 0.3]))
    assert found == pytest.approx((base - entropy) / base)
    assert normalised_cross_entropy(correct, np.full(4, 0.75)) == pytest.approx(0)
    assert normalised_cross_entropy(correct, correct.astype(float)) == pytest.approx(1)
    # certain and wrong, to seven digits
    assert -100 < normalised_cross_entropy(correct, np.ones(4)) < -1


def drawn(probability: np.ndarray, seed: int) -> WordScores:
    """Draw words that are right with their probability, eight per sentence."""
    correct = np.random.default_rng(seed).random(len(probability)) < probability
    score = -np.log(probability)
    sentences = np.arange(len(probability)) // 8
    measures = {
        "score": score,
        "cube": score**3,
        "noise": np.random.default_rng(7).random(len(score)),
    }
    return WordScores(sentences, correct, measures, [], 0)


def test_calibration_finds_the_probability_that_a_measure_implies() -> None:
    probability = np.random.default_rng(0).beta(4, 1, 8000)
    words = drawn(probability, seed=1)
    found = word_errors(words)
    truth = normalised_cross_entropy(words.correct, probability)
    score = found["score"]
    assert score.nce == pytest.approx(truth)
    assert score.nce_calibrated == pytest.approx(truth, abs=0.02)
    # any measure of the same order has the same, and only probabilities have the other
    assert found["cube"].nce_calibrated == pytest.approx(score.nce_calibrated)
    assert found["cube"].nce is None
    assert found["noise"].nce_calibrated == pytest.approx(0, abs=0.005)
    assert found["score"].aupr == pytest.approx(
        average_precision_score(~words.correct, words.measures["score"])
    )
    # overconfidence spoils the one but not the other
    over = drawn(probability, seed=1)
    over.measures["score"] = over.measures["score"] / 10
    spoilt = word_errors(over)["score"]
    assert spoilt.nce is not None
    assert spoilt.nce < truth - 0.1
    assert spoilt.nce_calibrated == pytest.approx(score.nce_calibrated)


def test_too_few_errors_to_calibrate_with() -> None:
    words = drawn(np.full(80, 0.5), seed=0)
    words.correct[:] = True
    words.correct[3] = False
    assert word_errors(words)["cube"].nce_calibrated is None
    one = WordScores(np.arange(2), np.array([True, False]), {"score": np.arange(2.0)}, [], 0)
    assert word_errors(one)["score"].nce_calibrated is None


def test_what_is_not_defined_has_no_value(caplog: pytest.LogCaptureFixture) -> None:
    probability = np.random.default_rng(0).beta(4, 1, 80)
    words = drawn(probability, seed=1)
    words.measures["flat"] = np.ones(80)
    with caplog.at_level(logging.WARNING):
        found = word_errors(words)
        one = word_errors(replace(words, sentences=np.zeros(80, int)))
    assert found["flat"] == (None, None, None, None)
    assert "flat has the same value for every word" in caplog.text
    assert found["noise"].roc_auc is not None
    assert set(one.values()) == {(None, None, None, None)}
    assert "the words of one output: no detection is defined" in caplog.text
