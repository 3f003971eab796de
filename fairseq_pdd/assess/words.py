"""Words of a text, their sub-word pieces, and the errors among them."""

from typing import TYPE_CHECKING, List, Optional, Sequence, Tuple

from ..errors import UsageError
from ..records import RecordSet
from ..records.subwords import SPECIAL, join_words, without_mark

if TYPE_CHECKING:
    import jiwer


def plain_texts(records: RecordSet) -> Tuple[List[str], List[str]]:
    """Return the hypotheses and references of a set as text.

    Texts are compared as they are written, except in a file whose hypotheses are raw symbols
    (:attr:`RecordSet.mark`): there the sub-words are joined.

    Raises:
        UsageError: a reference is missing.
    """
    references: List[str] = []
    for sample_id, reference in zip(records.ids, records.references):
        if reference is None:
            raise UsageError(
                f"{records.name}: id {sample_id} has no reference, so its quality and errors are "
                "unknown: translate a set that has a target side"
            )
        references.append(join_words(reference, records.mark))
    return [join_words(text, records.mark) for text in records.hypotheses], references


def pieces_of_words(tokens: Sequence[str], text: str, mark: str = "") -> Optional[List[List[int]]]:
    """Find the tokens that spell each word of an output.

    Words are separated by blanks in the output's text, however it was tokenised; special symbols
    belong to none.

    Args:
        tokens: symbols of the output.
        text: text of the output, in words.
        mark: mark of the sub-words among the tokens, SentencePiece's or subword-nmt's.

    Returns:
        Positions in ``tokens`` for each word; ``None`` where the tokens do not spell the text.
    """
    found = _spell([without_mark(token, mark) for token in tokens], tokens, text)
    # a text may hold the mark itself
    return _spell(tokens, tokens, text) if found is None and mark else found


def _spell(surfaces: Sequence[str], tokens: Sequence[str], text: str) -> Optional[List[List[int]]]:
    words = text.split()
    letters = "".join(words)
    word_at = [number for number, word in enumerate(words) for _ in word]
    pieces: List[List[int]] = [[] for _ in words]
    position = 0
    for index, (token, surface) in enumerate(zip(tokens, surfaces)):
        if token in SPECIAL:
            continue
        stop = position + len(surface)
        if letters[position:stop] != surface:
            return None
        # a lone mark of a space is part of the word that it begins
        for number in sorted(set(word_at[position : max(stop, position + 1)])):
            pieces[number].append(index)
        position = stop
    return pieces if position == len(letters) else None


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
    return [" ".join(text.split()) for text in texts]
