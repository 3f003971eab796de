"""Permuted sentences: an out-of-domain set with the words of the test set."""

from __future__ import annotations

import random


def permute_words(sentence: str, seed: str) -> str | None:
    """Permute words that blanks separate; None if there is no other order.

    The order depends on the sentence and the seed only.
    """
    words = sentence.split()
    if len(set(words)) < 2:
        return None
    shuffled = list(words)
    generator = random.Random(f"{seed}\n{sentence}")
    while shuffled == words:
        generator.shuffle(shuffled)
    return " ".join(shuffled)
