#!/usr/bin/env python3
"""Out-of-domain sets for a binarised translation corpus, from plain text files.

    ood_sets.py DATA OUT speech=speech.en german=news.de … --pair en de --codes FILE [OPTIONS]

Each NAME=FILE becomes the subset ood_NAME of the folder OUT, which fairseq-generate reads
(--gen-subset ood_NAME). FILE has one sentence per line, and its suffix is the language for the
tokeniser. ood_permuted has the test sources of DATA with their tokens in another order.

Sentences that are equal or similar to a training sentence, of either side, are removed. The counts
are printed and written to OUT/leakage.json. There the test set of DATA has counts, too; nothing of
it is removed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fairseq.data import Dictionary, data_utils, indexed_dataset
from leakage import find_leaks
from moses_bpe import Style, add_style_options, read_codes
from permutation import permute_words

SEPARATOR = "@@ "
PERMUTED = "permuted"
SEED = "fairseq_pdd translation"


class Corpus:
    """Binarised sentence pairs, as fairseq-preprocess writes them."""

    def __init__(self, folder: Path, source: str, target: str) -> None:
        self.folder = folder
        self.pair = f"{source}-{target}"
        paths = {language: folder / f"dict.{language}.txt" for language in (source, target)}
        for path in paths.values():
            if not path.is_file():
                sys.exit(f"error: {path} is missing: give the folder of fairseq-preprocess")
        self.dictionaries = {name: Dictionary.load(str(path)) for name, path in paths.items()}

    def read(self, subset: str, language: str) -> Iterator[str]:
        """Read the sentences of one side, as tokens with blanks."""
        prefix = self.folder / f"{subset}.{self.pair}.{language}"
        dictionary = self.dictionaries[language]
        dataset = data_utils.load_indexed_dataset(str(prefix), dictionary)
        if dataset is None:
            sys.exit(f"error: {prefix}.bin is missing: give the folder of fairseq-preprocess")
        for item in dataset:
            # the last token is the end of the sentence
            yield " ".join(dictionary.symbols[token] for token in item[:-1].tolist())

    def write(self, folder: Path, subset: str, language: str, sentences: list[str]) -> None:
        """Write one side of a subset into another folder, as text and binarised."""
        text = "".join(f"{sentence}\n" for sentence in sentences)
        (folder / f"{subset}.{language}").write_text(text, encoding="utf-8")
        dictionary = self.dictionaries[language]
        prefix = folder / f"{subset}.{self.pair}.{language}"
        builder = indexed_dataset.make_builder(
            f"{prefix}.bin", impl="mmap", vocab_size=len(dictionary)
        )
        for sentence in sentences:
            builder.add_item(dictionary.encode_line(sentence, add_if_not_exist=False))
        builder.finalize(f"{prefix}.idx")


def words(sentence: str) -> str:
    """Join the subwords of a sentence."""
    return f"{sentence} ".replace(SEPARATOR, "").rstrip()


def read_lines(path: Path) -> list[str]:
    """Read the sentences of a text file; empty lines are skipped."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        sys.exit(f"error: {path} cannot be read as UTF-8 text: {error}")
    sentences = [" ".join(line.split()) for line in text.split("\n")]
    return [sentence for sentence in sentences if sentence]


def read_sets(sets: list[str], codes: Any, style: Style) -> dict[str, list[str]]:
    """Read, tokenise and split the sentences of each NAME=FILE."""
    prepared: dict[str, list[str]] = {}
    for argument in sets:
        name, _, path = argument.partition("=")
        language = Path(path).suffix[1:]
        if not (name and language) or name == PERMUTED or name in prepared:
            sys.exit(
                f"error: '{argument}' is not NAME=FILE.LANGUAGE with a name of its own, such as "
                "german=news.de"
            )
        lines = read_lines(Path(path))
        prepared[name] = [codes.process_line(style.tokenise(line, language)) for line in lines]
    return prepared


def remove_leaks(
    sets: dict[str, list[str]], corpus: Corpus, keep: str
) -> tuple[dict[str, list[str]], dict[str, dict[str, int]]]:
    """Remove sentences that are like training sentences, from all sets but `keep`; count them."""
    places = [(name, i) for name, lines in sets.items() for i in range(len(lines))]
    held_out = [words(sets[name][i]) for name, i in places]
    leaks: dict[tuple[str, int], str] = {}
    for language in corpus.dictionaries:
        found = find_leaks(held_out, (words(line) for line in corpus.read("train", language)))
        for position, kind in found.items():
            leaks.setdefault(places[position], kind)
    kept: dict[str, list[str]] = {}
    counts: dict[str, dict[str, int]] = {}
    for name, lines in sets.items():
        kinds = [leaks.get((name, i)) for i in range(len(lines))]
        counts[name] = {
            "sentences": len(lines),
            "same": kinds.count("same"),
            "near": kinds.count("near"),
        }
        kept[name] = [
            line for line, kind in zip(lines, kinds) if kind is None or name == keep
        ]  # fmt: skip
    return kept, counts


def main() -> None:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("data", type=Path, help="folder of fairseq-preprocess")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("sets", nargs="*", metavar="NAME=FILE", help="plain text of a set")
    parser.add_argument("--pair", nargs=2, required=True, metavar=("SOURCE", "TARGET"))
    parser.add_argument("--codes", type=Path, required=True, help="BPE codes of the data")
    add_style_options(parser)
    args = parser.parse_args()
    if not args.codes.is_file():
        sys.exit(f"error: {args.codes} is missing: --codes takes the BPE codes of the data")
    source, target = args.pair
    corpus = Corpus(args.data, source, target)
    style = Style(args.split_dashes, args.lower_case)
    sets = read_sets(args.sets, read_codes(args.codes), style)
    sets["test"] = list(corpus.read("test", source))
    shuffled = (permute_words(sentence, SEED) for sentence in sets["test"])
    sets[PERMUTED] = [sentence for sentence in shuffled if sentence is not None]
    sets, counts = remove_leaks(sets, corpus, keep="test")
    del sets["test"]

    args.out.mkdir(parents=True, exist_ok=True)
    for language in (source, target):
        shutil.copyfile(args.data / f"dict.{language}.txt", args.out / f"dict.{language}.txt")
    for name, sentences in sets.items():
        if not sentences:
            sys.exit(f"error: {name} has no sentence that differs from the training text")
        corpus.write(args.out, f"ood_{name}", source, sentences)
    for name, count in counts.items():
        done = "left in it" if name == "test" else "removed"
        print(
            f"{name}: {count['sentences']} sentences; in the training text: {count['same']} the "
            f"same, {count['near']} similar, {done}"
        )
    text = json.dumps(counts, indent=2) + "\n"
    (args.out / "leakage.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
