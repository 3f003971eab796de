"""Words of a text, their sub-word pieces, and the errors among them."""

import re
from typing import TYPE_CHECKING, List, Optional, Sequence

if TYPE_CHECKING:
    import jiwer

_SPACE = "▁"  # SentencePiece's mark of the space before a word
_CONTINUES = "@@"  # subword-nmt's mark of a piece that another one follows
_SPECIAL = {"<s>", "</s>", "<pad>"}


def plain_text(text: str) -> str:
    """Join the pieces of a text that fairseq-generate wrote without ``--post-process``."""
    if _SPACE in text:
        return text.replace(" ", "").replace(_SPACE, " ").strip()
    return re.sub(f"{_CONTINUES}( |$)", "", text)


def pieces_of_words(tokens: Sequence[str], hypothesis: str) -> Optional[List[List[int]]]:
    """Find the tokens that spell each word of an output.

    Words are separated by blanks in the output's text, however it was tokenised; special symbols
    belong to none. SentencePiece's and subword-nmt's marks are supported.

    Args:
        tokens: symbols of the output.
        hypothesis: text of the output.

    Returns:
        Positions in ``tokens`` for each word; ``None`` where the tokens do not spell the text.
    """
    words = plain_text(hypothesis).split()
    text = "".join(words)
    word_at = [number for number, word in enumerate(words) for _ in word]
    pieces: List[List[int]] = [[] for _ in words]
    position = 0
    for index, token in enumerate(tokens):
        if token in _SPECIAL:
            continue
        surface = token.replace(_SPACE, "")
        if surface.endswith(_CONTINUES):
            surface = surface[: -len(_CONTINUES)]
        stop = position + len(surface)
        if text[position:stop] != surface:
            return None
        # a lone mark of a space is part of the word that it begins
        for number in sorted(set(word_at[position : max(stop, position + 1)])):
            pieces[number].append(index)
        position = stop
    return pieces if position == len(text) else None


def correct_words(hypotheses: Sequence[str], references: Sequence[str]) -> List[List[bool]]:
    """Label each word of each output as right or wrong.

    A word is right where an alignment of least edits finds it in the reference. Inserted and
    substituted words are wrong; words that the output lacks have no label. Of several such
    alignments one is taken.
    """
    aligned = _align(hypotheses, references)
    labels = []
    for words, chunks in zip(aligned.hypotheses, aligned.alignments):
        right = [False] * len(words)
        for chunk in chunks:
            if chunk.type == "equal":
                right[chunk.hyp_start_idx : chunk.hyp_end_idx] = [True] * (
                    chunk.hyp_end_idx - chunk.hyp_start_idx
                )
        labels.append(right)
    return labels


def word_error_rates(hypotheses: Sequence[str], references: Sequence[str]) -> List[float]:
    """Compute the edits per word of the reference, for each output.

    An empty reference counts as one word.
    """
    aligned = _align(hypotheses, references)
    return [
        sum(
            max(c.ref_end_idx - c.ref_start_idx, c.hyp_end_idx - c.hyp_start_idx)
            for c in chunks
            if c.type != "equal"
        )
        / max(len(words), 1)
        for words, chunks in zip(aligned.references, aligned.alignments)
    ]


def word_error_rate(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """Compute the edits per word of all references together."""
    return float(_align(hypotheses, references).wer)


def _align(hypotheses: Sequence[str], references: Sequence[str]) -> "jiwer.WordOutput":
    import jiwer

    return jiwer.process_words(_normal(references), _normal(hypotheses))


def _normal(texts: Sequence[str]) -> List[str]:
    return [" ".join(plain_text(text).split()) for text in texts]
