"""Sentences to read: drawn from a grammar, or cut from a text."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path

from utterances import spoken

RULE = re.compile(r"<(\w+)>")
START = "sentence"
PIECES = (5, 9)  # words in a piece of a text, as many as in most sentences of the grammar


def read_grammar(path: Path, **words: Sequence[str]) -> dict[str, list[str]]:
    """Read the rules of a grammar, lines "name = alternative | alternative".

    Args:
        path: file of the grammar.
        words: alternatives of further rules.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    rules = {name: list(alternatives) for name, alternatives in words.items()}
    for line in lines:
        if line and not line.startswith("#"):
            name, _, alternatives = line.partition(" = ")
            rules[name] = alternatives.split(" | ")
    return rules


def draw_sentences(rules: dict[str, list[str]], count: int, seed: int) -> list[str]:
    """Draw different sentences; fewer are the first ones of more."""
    generator = random.Random(seed)

    def expand(name: str) -> str:
        alternative = generator.choice(rules[name])
        return RULE.sub(lambda match: expand(match[1]), alternative)

    found: dict[str, None] = {}
    while len(found) < count:
        found[expand(START)] = None
    return list(found)


def cut_text(text: str, count: int, seed: int) -> list[str]:
    """Cut a text into pieces of a few words, and draw some of the pieces."""
    generator = random.Random(seed)
    words = spoken(re.sub(r"\d+", " ", text)).split()
    pieces: dict[str, None] = {}
    while words:
        size = generator.randint(*PIECES)
        if len(words) >= size:
            pieces[" ".join(words[:size])] = None
        words = words[size:]
    return generator.sample(list(pieces), min(count, len(pieces)))
