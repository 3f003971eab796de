"""Words, their pieces, and their errors."""

from typing import List, Optional

import editdistance
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairseq_pdd.assess.words import (
    correct_words,
    pieces_of_words,
    plain_text,
    word_error_rate,
    word_error_rates,
)

EOS = "</s>"
SENTENCE = st.lists(st.sampled_from("abc"), max_size=7).map(" ".join)


@pytest.mark.parametrize(
    ("tokens", "text", "expected"),
    [
        # SentencePiece, detokenised by fairseq or not
        (["▁ein", "▁h", "aus", EOS], "ein haus", [[0], [1, 2]]),
        (["▁ein", "▁h", "aus", EOS], "▁ein ▁h aus", [[0], [1, 2]]),
        # a mark of its own is part of the word behind it
        (["▁", "x", "▁", "y", EOS], "x y", [[0, 1], [2, 3]]),
        # subword-nmt
        (["ein", "h@@", "aus", EOS], "ein haus", [[0], [1, 2]]),
        (["ein", "h@@", "aus", EOS], "ein h@@ aus", [[0], [1, 2]]),
        # words, and a tokenizer undone: the stop is part of the text's last word
        (["ein", "haus", ".", EOS], "ein haus.", [[0], [1, 2]]),
        # an unknown word is a word; special symbols are none
        (["▁a", "<unk>", EOS], "a<unk>", [[0, 1]]),
        (["<unk>", "<pad>", "b", EOS], "<unk> b", [[0], [2]]),
        ([EOS], "", []),
        # text that the tokens do not spell
        (["Ġein", "haus", EOS], "ein haus", None),
        (["a", EOS], "a b", None),
        (["a", "b", EOS], "a", None),
    ],
)
def test_pieces_spell_words(
    tokens: List[str], text: str, expected: Optional[List[List[int]]]
) -> None:
    assert pieces_of_words(tokens, text) == expected


@given(st.lists(st.lists(st.text("xyzßé", min_size=1, max_size=3), min_size=1), min_size=1))
def test_any_segmentation_comes_back(words: List[List[str]]) -> None:
    text = " ".join("".join(word) for word in words)
    index, expected = 0, []
    for word in words:
        expected.append(list(range(index, index + len(word))))
        index += len(word)
    marked = [("▁" if i == 0 else "") + p for word in words for i, p in enumerate(word)]
    assert pieces_of_words([*marked, EOS], text) == expected
    joined = [p + ("@@" if i < len(w) - 1 else "") for w in words for i, p in enumerate(w)]
    assert pieces_of_words([*joined, EOS], text) == expected


def test_marks_are_joined_as_fairseq_joins_them() -> None:
    assert plain_text("▁ein ▁h aus") == "ein haus"
    assert plain_text("ein h@@ aus h@@") == "ein haus h"
    assert plain_text("a@@b <unk>") == "a@@b <unk>"


@pytest.mark.parametrize(
    ("hypothesis", "reference", "expected"),
    [
        ("the cat sat", "the cat sat", [True, True, True]),
        ("the dog sat", "the cat sat", [True, False, True]),
        ("the the cat sat", "the cat sat", [False, True, True, True]),
        ("sat", "the cat sat", [True]),
        ("", "the cat", []),
        ("the", "", [False]),
        ("▁the ▁c at", "▁the ▁cat", [True, True]),
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
