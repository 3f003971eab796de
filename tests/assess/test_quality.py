"""BLEU, chrF and WER of sets and of sentences."""

from typing import Sequence

import editdistance
import numpy as np
import pytest
import sacrebleu

from fairseq_pdd.assess import Metric, corpus_quality, sentence_errors
from fairseq_pdd.errors import UsageError
from fairseq_pdd.records import RecordSet, collect_records

from . import making

PAIRS = [
    ("the cat sat on the mat .", "the cat sat on a mat ."),
    ("the dog sat .", "the cat sat on the mat ."),
    ("exactly the same words here", "exactly the same words here"),
    ("a b c d e f", "x"),
]


def records(pairs: "Sequence[tuple[str, str | None]]" = PAIRS) -> RecordSet:
    return collect_records(making.output(i, ["x"], [0.1], h, r) for i, (h, r) in enumerate(pairs))


def test_sets_are_scored_by_sacrebleu() -> None:
    hypotheses, references = zip(*PAIRS)
    bleu, chrf = (corpus_quality(records(), metric) for metric in (Metric.bleu, Metric.chrf))
    assert bleu.value == sacrebleu.corpus_bleu(hypotheses, [references]).score
    assert "|version:" in bleu.signature
    assert chrf.value == sacrebleu.corpus_chrf(hypotheses, [references]).score
    edits = sum(editdistance.eval(h.split(), r.split()) for h, r in PAIRS)
    wer = corpus_quality(records(), Metric.wer)
    assert wer.value == pytest.approx(100 * edits / sum(len(r.split()) for _, r in PAIRS))


def test_sentences_have_errors_from_none_upwards() -> None:
    bleu = [sacrebleu.sentence_bleu(h, [r]).score for h, r in PAIRS]
    found = sentence_errors(records(), Metric.bleu)
    np.testing.assert_allclose(found, 1 - np.array(bleu) / 100, atol=1e-12)
    assert found[2] == 0
    chrf = [sacrebleu.sentence_chrf(h, [r]).score for h, r in PAIRS]
    found = sentence_errors(records(), Metric.chrf)
    np.testing.assert_allclose(found, 1 - np.array(chrf) / 100)
    rates = [editdistance.eval(h.split(), r.split()) / len(r.split()) for h, r in PAIRS]
    np.testing.assert_allclose(sentence_errors(records(), Metric.wer), rates)
    assert rates[3] == 6  # more is inserted than there should be


@pytest.mark.parametrize("metric", list(Metric))
def test_pieces_are_joined_first(metric: Metric) -> None:
    tokens = ["▁the", "▁c", "at", "</s>"]
    made = collect_records([making.output(0, tokens, [0.1] * 4, "▁the ▁c at", "▁the ▁ca t")])
    assert sentence_errors(made, metric).tolist() == [0]
    assert corpus_quality(made, metric).value in (0, pytest.approx(100))


@pytest.mark.parametrize("metric", list(Metric))
def test_marks_in_a_text_count(metric: Metric) -> None:
    """The example of the issue: "@@" of a diff is no mark of a sub-word."""
    diff = "@@ -1,3 +1,3 @@ fix"
    for text, reference, right in ((diff, diff, True), (diff, "-1,3 +1,3 fix", False)):
        error = sentence_errors(records([(text, reference)]), metric)
        assert (error == 0) == right
    assert corpus_quality(records([(diff, "-1,3 +1,3 fix")]), Metric.wer).value == pytest.approx(
        200 / 3
    )


def test_a_missing_reference_is_named() -> None:
    with pytest.raises(UsageError, match="records: id 4 has no reference"):
        corpus_quality(records([*PAIRS, ("a", None)]), Metric.bleu)
