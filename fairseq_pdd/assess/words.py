"""Words of a text, the sub-word pieces they are made of, and which of them are right."""

import re
from typing import List, Optional, Sequence

import jiwer

_SPACE = "▁"  # how SentencePiece writes the space before a word
_CONTINUES = "@@"  # how subword-nmt marks a piece that another one follows
_SPECIAL = {"<s>", "</s>", "<pad>"}


def plain_text(text: str) -> str:
    """Join pieces that stand in a text where fairseq-generate ran without ``--post-process``."""
    if _SPACE in text:
        return text.replace(" ", "").replace(_SPACE, " ").strip()
    return re.sub(f"{_CONTINUES}( |$)", "", text)


def pieces_of_words(tokens: Sequence[str], hypothesis: str) -> Optional[List[List[int]]]:
    """Find which tokens spell each word of an output.

    Words are what blanks separate in the output's text, however it was tokenised; special symbols
    belong to none. SentencePiece's and subword-nmt's marks are known.

    Args:
        tokens: symbols of the output.
        hypothesis: its text.

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
    """Whether each word of each output is right, by an alignment of least edits to its reference.

    Words that are inserted or stand for others are wrong; words that are left out have no place
    in the output, so nothing can tell of them. Of several such alignments one is taken.
    """
    aligned = jiwer.process_words(_normal(references), _normal(hypotheses))
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
    """Edits for each word of its reference, for each output; an empty reference counts as one."""
    aligned = jiwer.process_words(_normal(references), _normal(hypotheses))
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
    """Edits for each word of all references together."""
    return float(jiwer.wer(_normal(references), _normal(hypotheses)))


def _normal(texts: Sequence[str]) -> List[str]:
    return [" ".join(plain_text(text).split()) for text in texts]
