"""Recordings for the tests: a tone for every letter."""

import random
from pathlib import Path

import numpy as np
import soundfile

RATE = 11025
WORDS = ("bead", "cafe", "deaf", "face", "fade", "aged", "ebb", "gab")


def tone(text: str) -> np.ndarray:
    """Make 0.1 s of audio per character; a space is silent."""
    time = np.arange(RATE // 10) / RATE
    pitch = {letter: 300 + 150 * i for i, letter in enumerate("abcdefg")}
    return np.concatenate([0.3 * np.sin(2 * np.pi * pitch.get(c, 0) * time) for c in text])


def write_recordings(folder: Path, sizes: dict[str, int]) -> Path:
    """Write WAV files for sets by name; return the path of their list."""
    folder.mkdir()
    rng = random.Random(0)
    lines = ["set\taudio\ttext"]
    for name, size in sizes.items():
        for number in range(size):
            text = " ".join(rng.choices(WORDS, k=rng.randint(3, 5)))
            soundfile.write(folder / f"{name}{number}.wav", tone(text), RATE)
            lines.append(f"{name}\t{name}{number}.wav\t{text.upper()}!")
    path = folder / "list.tsv"
    path.write_text("\n".join(lines) + "\n")
    return path
