"""Words, their pieces, and their errors."""

from typing import List, Optional

import editdistance
import pytest
from fairseq.data.data_utils import post_process
from hypothesis import given, settings
from hypothesis import strategies as st

from fairseq_pdd.assess.words import (
    correct_words,
    pieces_of_words,
    plain_texts,
    word_error_rate,
    word_error_rates,
)
from fairseq_pdd.records import collect_records
from fairseq_pdd.records.subwords import join_words, mark_of

from . import making

EOS = "</s>"
SENTENCE = st.lists(st.sampled_from("abc"), max_size=7).map(" ".join)


@pytest.mark.parametrize(
    ("tokens", "text", "expected"),
    [
        # SentencePiece
        (["▁ein", "▁h", "aus", EOS], "ein haus", [[0], [1, 2]]),
        # a mark of its own is part of the word behind it
        (["▁", "x", "▁", "y", EOS], "x y", [[0, 1], [2, 3]]),
        # subword-nmt
        (["ein", "h@@", "aus", EOS], "ein haus", [[0], [1, 2]]),
        # words, and a tokenizer undone: the stop is part of the text's last word
        (["ein", "haus", ".", EOS], "ein haus.", [[0], [1, 2]]),
        # an unknown word is a word; special symbols are none
        (["▁a", "<unk>", EOS], "a<unk>", [[0, 1]]),
        (["<unk>", "<pad>", "b", EOS], "<unk> b", [[0], [2]]),
        ([EOS], "", []),
        # text that holds the marks
        (["@@", "-1,3", "@@", "fix", EOS], "@@ -1,3 @@ fix", [[0], [1], [2], [3]]),
        (["▁@@", "▁-1", ",3", EOS], "@@ -1,3", [[0], [1, 2]]),
        (["@@@", "@", "f@@", "ix", EOS], "@@ fix", [[0, 1], [2, 3]]),
        (["a@@", "@@@", "@", EOS], "a@@", [[0, 1, 2]]),
        (["▁", "zwei", "▁x", EOS], "▁ zwei ▁x", [[0], [1], [2]]),
        (["a@@b", "c@@", EOS], "a@@b c@@", [[0], [1]]),
        # text that the tokens do not spell
        (["Ġein", "haus", EOS], "ein haus", None),
        (["a", EOS], "a b", None),
        (["a", "b", EOS], "a", None),
    ],
)
def test_pieces_spell_words(
    tokens: List[str], text: str, expected: Optional[List[List[int]]]
) -> None:
    assert pieces_of_words(tokens, text, mark_of(tokens)) == expected


@given(st.lists(st.lists(st.text("xyzßé", min_size=1, max_size=3), min_size=1), min_size=1))
def test_any_segmentation_comes_back(words: List[List[str]]) -> None:
    text = " ".join("".join(word) for word in words)
    index, expected = 0, []
    for word in words:
        expected.append(list(range(index, index + len(word))))
        index += len(word)
    marked = [("▁" if i == 0 else "") + p for word in words for i, p in enumerate(word)]
    assert pieces_of_words([*marked, EOS], text, "▁") == expected
    joined = [p + ("@@" if i < len(w) - 1 else "") for w in words for i, p in enumerate(w)]
    assert pieces_of_words([*joined, EOS], text, "@@") == expected


@given(st.lists(st.text("ab▁@", min_size=1, max_size=4).filter(lambda t: t != "@@")))
def test_marks_are_joined_as_fairseq_joins_them(tokens: List[str]) -> None:
    text = " ".join(tokens)
    assert join_words(text, "▁") == post_process(text, "sentencepiece")
    assert join_words(text, "@@") == post_process(text, "subword_nmt")
    assert join_words(text, "") == text


def test_a_token_that_is_only_the_mark_is_text() -> None:
    assert join_words("@@ -1,3 h@@ aus @@", "@@") == "@@ -1,3 haus @@"
    assert mark_of(["@@", "a@@b", "x", EOS]) == ""


def test_the_mark_is_that_of_most_symbols() -> None:
    assert mark_of(["▁", "h@@", "so@@", "x"]) == "@@"
    assert mark_of(["▁a", "▁b", "foo@@"]) == "▁"


DIFF = "@@ -1,3 +1,3 @@ fix"


@pytest.mark.parametrize("mark", ["words", "▁"])
def test_texts_are_compared_as_they_are_written(mark: str) -> None:
    """Marks in text are text, whatever the tokens are."""
    tokens = [f"▁{word}" for word in DIFF.split()] if mark == "▁" else DIFF.split()
    made = [making.output(0, [*tokens, EOS], [0.1] * 6, DIFF, "-1,3 +1,3 fix")]
    records = collect_records(made)
    assert plain_texts(records) == ([DIFF], ["-1,3 +1,3 fix"])
    assert word_error_rates(*plain_texts(records)) == [2 / 3]
    words = pieces_of_words(records.tokens.symbols(0), DIFF, mark_of(records.tokens.vocabulary))
    assert words == [[0], [1], [2], [3], [4]]


@pytest.mark.parametrize(
    ("tokens", "raw"),
    [(["▁the", "▁c", "at", EOS], "▁the ▁ca t"), (["the", "c@@", "at", EOS], "the ca@@ t")],
)
def test_raw_symbols_are_joined(tokens: List[str], raw: str) -> None:
    joined = " ".join(tokens[:-1])
    made = [making.output(0, tokens, [0.1] * 4, joined, raw)]
    assert plain_texts(collect_records(made)) == (["the cat"], ["the cat"])
    # one text in words shows that this file was detokenised
    made.append(making.output(1, ["▁c", "at", EOS], [0.1] * 3, "cat", raw))
    assert plain_texts(collect_records(made)) == ([joined, "cat"], [raw, raw])


@pytest.mark.parametrize(
    ("hypothesis", "reference", "expected"),
    [
        ("the cat sat", "the cat sat", [True, True, True]),
        ("the dog sat", "the cat sat", [True, False, True]),
        ("the the cat sat", "the cat sat", [False, True, True, True]),
        ("sat", "the cat sat", [True]),
        ("", "the cat", []),
        ("the", "", [False]),
        ("▁the ▁c at", "▁the ▁cat", [True, False, False]),
        ("@@ the", "the @@", [False, True]),
    ],
)
def test_words_of_least_edits(hypothesis: str, reference: str, expected: List[bool]) -> None:
    (found,) = correct_words([hypothesis], [reference])
    # which of two equal words counts as inserted is the alignment's choice
    assert sorted(found) == sorted(expected)
    if len(set(hypothesis.split())) == len(hypothesis.split()):
        assert found == expected


@given(st.lists(st.tuples(SENTENCE, SENTENCE), min_size=1, max_size=5))
@settings(max_examples=30)
def test_labels_and_rates_agree_with_another_library(pairs: "List[tuple[str, str]]") -> None:
    hypotheses, references = zip(*pairs)
    labels = correct_words(hypotheses, references)
    rates = word_error_rates(hypotheses, references)
    total = 0
    for (hypothesis, reference), right, rate in zip(pairs, labels, rates):
        edits = editdistance.eval(hypothesis.split(), reference.split())
        total += edits
        assert len(right) == len(hypothesis.split())
        # every word that is not right costs an edit, as does every missing one
        assert right.count(False) <= edits
        assert right.count(True) >= len(reference.split()) - edits
        assert rate == pytest.approx(edits / max(len(reference.split()), 1))
    words = sum(len(reference.split()) for reference in references)
    if words:
        assert word_error_rate(hypotheses, references) == pytest.approx(total / words)
