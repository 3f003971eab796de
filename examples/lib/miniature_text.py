#!/usr/bin/env python3
"""Synthetic text in the form that fairseq's scripts for translation leave, for SCALE=miniature.

    miniature_text.py OUT --pair en de [OPTIONS]

Writes OUT/{train,valid,test}.XX, tokenised and with BPE, the BPE codes OUT/code, and plain text in
OUT/plain: the target side of the test set (target.TARGET), the same in a third language (french.fr)
and more sentences in the source language (speech.SOURCE). The last one of these is a training
sentence, which the check of leakage has to find.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

from moses_bpe import Style, add_style_options, read_codes, write_codes

# fairseq-train skips the last batch if it has fewer than 8 sentences
SIZES = {"train": 48, "valid": 8, "test": 8, "speech": 6}
MERGES = 60
SYLLABLES = [a + b for a in "bdfgklmnprst" for b in "aeiou"]
LANGUAGES = (str.maketrans("", ""), str.maketrans("aou", "äöü"), str.maketrans("aei", "àéî"))


def make_sentences(rng: random.Random, lexicon: list[str], size: int) -> list[list[str]]:
    """Make sentences of 3 to 8 words, with marks that the tokeniser separates.

    Sets that are larger than the lexicon have each word first and last in a sentence, so that the
    dictionary has all its subwords.
    """
    sentences = []
    for i in range(size):
        words = rng.choices(lexicon, k=rng.randint(3, 8))
        words[0] = words[-1] = lexicon[i % len(lexicon)]
        words[0] = f"{words[0].capitalize()},"
        words[1] += f"-{rng.choice(lexicon)}"
        words[-1] += rng.choice(".!?")
        sentences.append(words)
    return sentences


def spell(words: list[str], number: int) -> str:
    """Spell a sentence in a language; each has other vowels, the second one another order."""
    text = " ".join(words).translate(LANGUAGES[number])
    return text if number != 1 else f"Ja: {text}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--pair", nargs=2, required=True, metavar=("SOURCE", "TARGET"))
    add_style_options(parser)
    args = parser.parse_args()
    style = Style(args.split_dashes, args.lower_case)
    rng = random.Random(1)
    lexicon = [rng.choice(SYLLABLES) + rng.choice(SYLLABLES) + "n" for _ in range(40)]
    sets = {name: make_sentences(rng, lexicon, size) for name, size in SIZES.items()}
    sets["speech"].append(sets["train"][0])

    plain = args.out / "plain"
    plain.mkdir(parents=True, exist_ok=True)
    source, target = args.pair
    for name, path, number in (
        ("speech", plain / f"speech.{source}", 0),
        ("test", plain / f"target.{target}", 1),
        ("test", plain / "french.fr", 2),
    ):
        text = "".join(f"{spell(words, number)}\n" for words in sets[name])
        path.write_text(text, encoding="utf-8")

    tokenised = {
        (name, language): [style.tokenise(spell(words, i), language) for words in sets[name]]
        for i, language in enumerate(args.pair)
        for name in ("train", "valid", "test")
    }
    train = [line for language in args.pair for line in tokenised["train", language]]
    write_codes(train, MERGES, args.out / "code")
    codes = read_codes(args.out / "code")
    for (name, language), lines in tokenised.items():
        text = "".join(f"{codes.process_line(line)}\n" for line in lines)
        (args.out / f"{name}.{language}").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
