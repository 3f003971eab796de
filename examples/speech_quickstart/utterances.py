"""Utterances: their selection, their spelling and their sets."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SEED = "fairseq_pdd speech quickstart"
SPLITS = ("train", "valid", "test")
MIN_WORDS = 2
MIN_SECONDS = 1.0
LETTERS_PER_SECOND = (4.0, 22.0)  # outside of this range, text and clip do not match
ASIDE = re.compile(r"\([^)]*\)|\[[^]]*\]|<[^>]*>")  # "(sigh)" and other directions
LAUGHTER = re.compile(r"\b(?:ha|he|ho)(?:[\s,!-]+(?:ha|he|ho))+\b[\s,!.-]*", re.IGNORECASE)


class InputError(Exception):
    """An error in the user's input; the message is one line that names the fix."""


@dataclass(frozen=True)
class Utterance:
    """One clip: its unique name, its audio (a file, or the bytes of one), text and speaker."""

    name: str
    audio: bytes | Path
    text: str
    speaker: str = "unknown"


def spoken(text: str) -> str:
    """Reduce a text to its words, in lower case with apostrophes.

    A text with digits becomes empty, since digits do not show how they are read.
    """
    text = LAUGHTER.sub(" ", ASIDE.sub(" ", unicodedata.normalize("NFC", text)))
    if re.search(r"\d", text):
        return ""
    text = text.lower().replace("’", "'").replace("´", "'").replace("`", "'")
    text = "".join(c if c.isalpha() or c == "'" else " " for c in text)
    words = (word.strip("'") for word in text.split())
    return " ".join(word for word in words if word)


def plausible(text: str, seconds: float, max_seconds: float) -> bool:
    """Check that a clip is neither too short nor too long and that the text fits its duration."""
    return (
        MIN_SECONDS <= seconds <= max_seconds
        and LETTERS_PER_SECOND[0] <= len(text) / seconds <= LETTERS_PER_SECOND[1]
    )


def split_of(text: str) -> str:
    """Return the set of a text, from its hash, so that no sentence is in two sets."""
    bucket = int(hashlib.sha256(text.encode()).hexdigest(), 16) % 100
    return "test" if bucket < 15 else "valid" if bucket < 20 else "train"


def in_random_order(utterances: Iterable[Utterance]) -> list[Utterance]:
    """Sort by a hash of the names, so that a smaller selection is part of a larger one."""
    return sorted(utterances, key=lambda u: hashlib.sha256(f"{SEED}\n{u.name}".encode()).digest())
