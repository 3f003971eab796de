"""Utterances: what is kept of them, how they are spelled and which set they are in."""

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
LETTERS_A_SECOND = (4.0, 22.0)  # beyond these the text is not that of the clip, or not all of it
ASIDE = re.compile(r"\([^)]*\)|\[[^]]*\]|<[^>]*>")  # "(sigh)" and other directions
LAUGHTER = re.compile(r"\b(?:ha|he|ho)(?:[\s,!-]+(?:ha|he|ho))+\b[\s,!.-]*", re.IGNORECASE)


class InputError(Exception):
    """Something the user can mend; the message is one line."""


@dataclass(frozen=True)
class Utterance:
    """One clip: a name of its own, its audio (a file, or the bytes of one), speaker and words."""

    name: str
    audio: bytes | Path
    text: str
    speaker: str = "unknown"


def spoken(text: str) -> str:
    """Words in lower case with their apostrophes; nothing where a digit hides how it is read."""
    text = LAUGHTER.sub(" ", ASIDE.sub(" ", unicodedata.normalize("NFC", text)))
    if re.search(r"\d", text):
        return ""
    text = text.lower().replace("’", "'").replace("´", "'").replace("`", "'")
    text = "".join(c if c.isalpha() or c == "'" else " " for c in text)
    words = (word.strip("'") for word in text.split())
    return " ".join(word for word in words if word)


def plausible(text: str, seconds: float, max_seconds: float) -> bool:
    """Whether a clip is neither too short nor too long and can hold that text."""
    return (
        MIN_SECONDS <= seconds <= max_seconds
        and LETTERS_A_SECOND[0] <= len(text) / seconds <= LETTERS_A_SECOND[1]
    )


def split_of(text: str) -> str:
    """The set of an utterance: that of its text, so that no sentence is in two sets."""
    bucket = int(hashlib.sha256(text.encode()).hexdigest(), 16) % 100
    return "test" if bucket < 15 else "valid" if bucket < 20 else "train"


def in_random_order(utterances: Iterable[Utterance]) -> list[Utterance]:
    """An order that depends on the names alone, so that a few are part of many."""
    return sorted(utterances, key=lambda u: hashlib.sha256(f"{SEED}\n{u.name}".encode()).digest())
