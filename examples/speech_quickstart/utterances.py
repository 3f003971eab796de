"""Utterances: their selection and their spelling."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

SEED = "fairseq_pdd speech quickstart"
SPLITS = ("train", "valid", "test")
MIN_WORDS = 2
MIN_SECONDS = 1.0
LETTERS_PER_SECOND = (4.0, 30.0)  # outside of this range, text and clip do not match
ASIDE = re.compile(r"\([^)]*\)|\[[^]]*\]|<[^>]*>")  # "[ascending tones]" and other directions


class InputError(Exception):
    """An error in the user's input; the message is one line that names the fix."""


@dataclass(frozen=True)
class Utterance:
    """An utterance.

    Attributes:
        name: unique name in its set.
        audio: a file, the bytes of one, or a function that returns them.
        text: its words.
        speaker: name of the speaker or voice.
        speed: factor of the speed; the pitch changes with it.
        telephone: keep only the band of a telephone.
        snr: signal-to-noise ratio of the noise to add, in dB.
        pink: the noise is pink, not white.
    """

    name: str
    audio: bytes | Path | Callable[[], bytes]
    text: str
    speaker: str = "unknown"
    speed: float = 1.0
    telephone: bool = False
    snr: float | None = None
    pink: bool = False


def spoken(text: str) -> str:
    """Reduce a text to its words, in lower case with apostrophes.

    A text with digits becomes empty, since digits do not show how they are read.
    """
    text = ASIDE.sub(" ", unicodedata.normalize("NFC", text))
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


def in_random_order(utterances: Iterable[Utterance]) -> list[Utterance]:
    """Sort by a hash of the names, so that a smaller selection is part of a larger one."""
    return sorted(utterances, key=lambda u: hashlib.sha256(f"{SEED}\n{u.name}".encode()).digest())
