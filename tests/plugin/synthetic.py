"""A tiny synthetic translation corpus: words are spelt backwards and their order is reversed."""

import random
from pathlib import Path
from typing import List

_SYLLABLES = ["ba", "de", "fi", "go", "ku", "la", "me", "ni", "po", "ru"]
# strings that are difficult for output formats: quotes, a backslash, sentencepiece's mark, scripts
_AWKWARD = ['a"\\', "größe", "日本", "слово", "▁la", "T-0"]
WORDS = [a + b for a in _SYLLABLES for b in _SYLLABLES[:4]] + _AWKWARD
UNKNOWN = "zzz"


def translate(source: str) -> str:
    """Return the reference translation."""
    return " ".join(word[::-1] for word in reversed(source.split()))


def sentences(size: int, seed: int = 0) -> List[str]:
    """Draw source sentences of two to seven words."""
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(2, 7))) for _ in range(size)]


def write_split(folder: Path, split: str, sources: List[str]) -> None:
    """Write ``<split>.{xx,yy}``, one token per word."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{split}.xx").write_text("".join(f"{s}\n" for s in sources), encoding="utf-8")
    (folder / f"{split}.yy").write_text(
        "".join(f"{translate(s)}\n" for s in sources), encoding="utf-8"
    )


def write_corpus(folder: Path, train: int = 600, held_out: int = 40, seed: int = 0) -> None:
    """Write train, valid and test; the last sentences of test hold unknown and awkward words."""
    write_split(folder, "train", sentences(train, seed))
    write_split(folder, "valid", sentences(held_out, seed + 1))
    special = [f"{UNKNOWN} baba {UNKNOWN}", " ".join(_AWKWARD), UNKNOWN]
    write_split(folder, "test", sentences(held_out, seed + 2) + special)
