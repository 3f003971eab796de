"""Leakage: held-out sentences that are equal or similar to training sentences."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Literal

Kind = Literal["same", "near"]
Gram = tuple[str, ...]


def normalise(sentence: str) -> str:
    """Normalise a sentence: lower case, every number as 0, single spaces."""
    return " ".join(re.sub(r"\d+", "0", sentence.lower()).split())


def grams(sentence: str, n: int = 3) -> frozenset[Gram]:
    """Return the word n-grams of the normalised sentence, without punctuation.

    A sentence of fewer than n words is one gram, so that it can still be compared.
    """
    words = re.findall(r"\w+", normalise(sentence))
    if len(words) < n:
        return frozenset([tuple(words)] if words else [])
    return frozenset(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def find_leaks(
    held_out: Sequence[str], train: Iterable[str], threshold: float = 0.5
) -> dict[int, Kind]:
    """Map positions of leaking sentences in `held_out` to the kind of leak.

    "same": equal to a training sentence after `normalise`. "near": the Jaccard similarity of the
    3-gram sets exceeds `threshold` for some training sentence. `train` is read once.
    """
    normal = [normalise(sentence) for sentence in held_out]
    # Only what held-out sentences have can match, which keeps the index small.
    held_out_grams = [grams(sentence) for sentence in held_out]
    wanted = frozenset().union(*held_out_grams)
    known: set[str] = set()
    sizes: list[int] = []
    postings: dict[Gram, list[int]] = defaultdict(list)
    sought = set(normal)
    for sentence in train:
        known |= sought & {normalise(sentence)}
        sentence_grams = grams(sentence)
        shared_grams = sentence_grams & wanted
        if shared_grams:
            for gram in shared_grams:
                postings[gram].append(len(sizes))
            sizes.append(len(sentence_grams))

    leaks: dict[int, Kind] = {}
    for position, own in enumerate(held_out_grams):
        if normal[position] in known:
            leaks[position] = "same"
            continue
        shared: Counter[int] = Counter()
        for gram in own:
            shared.update(postings.get(gram, ()))
        if any(both > threshold * (len(own) + sizes[i] - both) for i, both in shared.items()):
            leaks[position] = "near"
    return leaks
