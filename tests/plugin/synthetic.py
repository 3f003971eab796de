"""A tiny synthetic translation corpus: words are spelt backwards and their order reversed."""

import random
from pathlib import Path

_SYLLABLES = ["ba", "de", "fi", "go", "ku", "la", "me", "ni", "po", "ru"]
WORDS = [a + b for a in _SYLLABLES for b in _SYLLABLES[:4]]


def translate(source: str) -> str:
    """Reference translation."""
    return " ".join(word[::-1] for word in reversed(source.split()))


def write_corpus(folder: Path, train: int = 600, held_out: int = 40, seed: int = 0) -> None:
    """Write ``{train,valid,test}.{xx,yy}``, one token a word."""
    rng = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for split, size in (("train", train), ("valid", held_out), ("test", held_out)):
        sources = [" ".join(rng.choices(WORDS, k=rng.randint(2, 7))) for _ in range(size)]
        (folder / f"{split}.xx").write_text("".join(f"{s}\n" for s in sources))
        (folder / f"{split}.yy").write_text("".join(f"{translate(s)}\n" for s in sources))
