#!/usr/bin/env python3
"""Parallel text for the quickstart: Debian's translated package descriptions, or your own.

Writes train, valid, test and out-of-domain sets as plain text, one sentence per line, and a
manifest with counts, hashes and the leakage that was found and removed. Does nothing if the
manifest already describes the result of the same options.

Each out-of-domain set has a target file, because fairseq-preprocess requires both sides. Only some
are references; BLEU and NLL are meaningless for the others (in the manifest: "reference": false).

  set           source                                  target file holds            reference
  ood_permuted  test sentences with shuffled words      German of the original       yes
  ood_speech    English dialogue of a game              its German translation       yes
  ood_german    German side of the test sentences       the same German              no
  ood_french    French descriptions of test packages    the English they translate   no

With --own, ood_permuted is made from your test set. If an ood_NAME set of yours has no target file,
it gets a copy of its sources as target file, which is no reference.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "lib"))

from apt_index import (
    Description,
    parse_description,
    parse_sources,
    parse_translations,
)
from corpus import (
    MIN_WORDS,
    SPLITS,
    Corpus,
    InputError,
    Pair,
    Sizes,
    fitting,
    in_length,
    is_current,
    make_splits,
    sample,
    sha256,
    unique,
    verify,
    write,
)
from fillets import dialogue
from private_apt import AptError, PrivateApt, package_members

SPEECH_PACKAGE = "fillets-ng-data"
# sha256 of the uncompressed indexes, and of the package, that the README's figures were made from.
EXPECTED = {
    "bookworm_main_i18n_Translation-en": (
        "62f59c3cdca9786e4f7adf9002f9f5729a684adcb4667e58e448dec9b5a46c7f"
    ),
    "bookworm_main_i18n_Translation-de": (
        "adac331fc51f9a00c1b4120b4ac87423be2b1f1615d4f288c7cbc2d5258c0650"
    ),
    "bookworm_main_i18n_Translation-fr": (
        "1b5ce81d2dac68fb27997899d9e092b8281f984baa658c22139d8f2640aec6cc"
    ),
    "bookworm_main_binary-amd64_Packages": (
        "515e692f2c4121c6fcec444ef100cc18f79a991910615f3a88c8b7becfc94d2f"
    ),
    "fillets-ng-data_1.0.1-1.1_all.deb": (
        "25de89afd8b1adf7bcace8290248a6a22c89cd42300317e69000e162c032cf84"
    ),
}
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[\"“„»(]?[A-ZÄÖÜÀÂÇÉÈÊÎÔ0-9])")


# ------------------------------------------------------------------------ Debian's text


def align_blocks(left: Sequence[str], right: Sequence[str]) -> list[Pair]:
    """Pair list items, then their sentences; text with different counts stays in one piece."""
    if len(left) != len(right):
        left, right = [" ".join(left)], [" ".join(right)]
    pairs: list[Pair] = []
    for block, other in zip(left, right, strict=True):
        sentences, others = SENTENCE_END.split(block), SENTENCE_END.split(other)
        if len(sentences) == len(others):
            pairs.extend(zip(sentences, others, strict=True))
        else:
            pairs.append((block, other))
    return pairs


def align(left: Description, right: Description) -> list[Pair]:
    """Pair the sentences of two descriptions; only the short lines if their paragraphs differ."""
    pairs = [(left.short, right.short)]
    if len(left.paragraphs) == len(right.paragraphs):
        for blocks, others in zip(left.paragraphs, right.paragraphs, strict=True):
            pairs.extend(align_blocks(blocks, others))
    return pairs


def split_of(source_package: str) -> str:
    """Return the split of a source package, since its binary packages share many sentences."""
    bucket = int(hashlib.sha256(source_package.encode()).hexdigest(), 16) % 100
    return "test" if bucket < 4 else "valid" if bucket < 8 else "train"


def group_by_split(
    english: dict[tuple[str, str], str],
    other: dict[tuple[str, str], str],
    source_of: dict[str, str],
) -> dict[str, list[Pair]]:
    """Pair the sentences of two Translation indexes, joined on Description-md5, by split."""
    by_md5 = {md5: value for (_, md5), value in english.items()}
    groups: dict[str, list[Pair]] = {name: [] for name in SPLITS}
    # Sorted, so that the result does not depend on the order of the index.
    for (package, md5), value in sorted(other.items()):
        if md5 in by_md5:
            pairs = align(parse_description(by_md5[md5]), parse_description(value))
            groups[split_of(source_of.get(package, package))].extend(pairs)
    return groups


def parse_dialogue(text: str) -> list[Pair]:
    """Return the English-German sentence pairs of one of the game's dialogue files."""
    pairs: list[Pair] = []
    for _, english, german in dialogue(text):
        pairs.extend(align_blocks([english], [german]))
    return pairs


def build_debian(sizes: Sizes, cache: Path) -> Corpus:
    say(f"reading apt's indexes (20 MB) and {SPEECH_PACKAGE} (71 MB); they are kept in {cache}")
    apt = PrivateApt(cache / "apt", ("en", "de", "fr"))
    apt.update()
    # Suites without translations, such as security updates, change every week and add nothing.
    suites = apt.suites("i18n_Translation-de")
    hashes: dict[str, str] = {}

    def texts(kind: str) -> list[str]:
        found = []
        for index in (path for suite in suites for path in apt.lists(kind, suite)):
            data = apt.read(index)
            name = index.name.partition("_dists_")[2] or index.name
            hashes[re.sub(r"\.(gz|xz|bz2|lz4|zst|lzma)$", "", name)] = sha256(data)
            found.append(data.decode("utf-8", "replace"))
        return found

    def translations(language: str) -> dict[tuple[str, str], str]:
        table: dict[tuple[str, str], str] = {}
        for text in texts(f"i18n_Translation-{language}"):
            table |= parse_translations(text, language)
        return table

    english, german, french = (translations(language) for language in ("en", "de", "fr"))
    source_of: dict[str, str] = {}
    for text in texts("binary-amd64_Packages"):
        source_of |= parse_sources(text)
    package = apt.package(SPEECH_PACKAGE)
    hashes[package.name] = sha256(package.read_bytes())
    scripts = package_members(package, "/dialogs_de.lua")
    for name, digest in hashes.items():
        if EXPECTED.get(name) != digest:
            say(f"WARNING: {name} differs from that of the README; expect other figures")

    corpus = make_splits(group_by_split(english, german, source_of), sizes)
    speech = [
        pair
        for _, data in sorted(scripts.items())
        for pair in parse_dialogue(data.decode("utf-8", "replace"))
    ]
    of_test = group_by_split(english, french, source_of)["test"]
    for name, pairs in (
        ("ood_speech", speech),
        ("ood_french", [(right, left) for left, right in of_test]),
    ):
        corpus.sets[name] = sample(unique(fitting(pairs, sizes.max_words), set()), sizes.test)
    corpus.sets["ood_german"] = [(target, target) for _, target in corpus.sets["test"]]
    corpus.no_reference = {"ood_german", "ood_french"}
    corpus.indexes = hashes
    return corpus


# ---------------------------------------------------------------------------- own text


def own_files(folder: Path, source: str, target: str) -> dict[str, tuple[Path, Path | None]]:
    """Return source and target file by set; only sets named ood_... may lack the target."""
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: --own takes the folder with train.{source} etc.")
    files: dict[str, tuple[Path, Path | None]] = {}
    for name in SPLITS:
        files[name] = (folder / f"{name}.{source}", folder / f"{name}.{target}")
        for path in files[name]:
            if path is None or not path.is_file():
                raise InputError(
                    f"{path} is missing: --own needs {name}.{source} and {name}.{target}, "
                    "one sentence per line (languages: --source-lang, --target-lang)"
                )
    for path in sorted(folder.glob(f"ood_*.{source}")):
        if path.stem == "ood_permuted":
            raise InputError(
                f"{path} cannot be used: ood_permuted is made from test; give your set another name"
            )
        other = path.with_suffix(f".{target}")
        files[path.stem] = (path, other if other.is_file() else None)
    return files


def read_lines(path: Path) -> list[str]:
    """Read the lines of a text file, with single spaces."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path} is not UTF-8 (line {line}): convert it, for example with iconv"
        ) from None
    if not text.strip():
        raise InputError(f"{path} is empty: write one sentence per line into it")
    # splitlines would also split at characters that are not line ends for fairseq.
    return [" ".join(line.split()) for line in text.removesuffix("\n").split("\n")]


def read_pairs(source: Path, target: Path) -> list[Pair]:
    left, right = read_lines(source), read_lines(target)
    if len(left) != len(right):
        raise InputError(
            f"{source} has {len(left)} lines and {target} has {len(right)}: "
            "line n of one must translate line n of the other"
        )
    return list(zip(left, right, strict=True))


def build_own(sizes: Sizes, files: dict[str, tuple[Path, Path | None]]) -> Corpus:
    groups: dict[str, list[Pair]] = {}
    extra: dict[str, list[Pair]] = {}
    for name, (source, target) in files.items():
        if target is None:
            lines = [line for line in read_lines(source) if in_length(line, sizes.max_words)]
            extra[name] = [(line, line) for line in lines]
        elif name in SPLITS:
            groups[name] = read_pairs(source, target)
        else:
            extra[name] = fitting(read_pairs(source, target), sizes.max_words)
    corpus = make_splits(groups, sizes)
    for name, pairs in extra.items():
        corpus.sets[name] = sample(unique(pairs, set()), sizes.test)
    corpus.no_reference = {name for name, (_, target) in files.items() if target is None}
    return corpus


# ------------------------------------------------------------------------ command line


def at_least(minimum: int) -> Any:
    def parse(text: str) -> int:
        number = int(text)
        if number < minimum:
            raise argparse.ArgumentTypeError(f"must be at least {minimum}, not {number}")
        return number

    parse.__name__ = "int"  # argparse prints it in "invalid int value"
    return parse


def language_code(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no language code such as en or pt_BR")
    return text


def parser() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    result = argparse.ArgumentParser(prog="ddtp.py", description=__doc__, formatter_class=form)
    add = result.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="folder to write the text to")
    add(
        "--max-words",
        type=at_least(MIN_WORDS),
        default=14,
        metavar="N",
        help=f"keep sentences of {MIN_WORDS} to N words on both sides, in all sets alike, so that "
        "length does not reveal the out-of-domain sets (default: %(default)s)",
    )
    add(
        "--max-eval",
        type=at_least(1),
        default=600,
        metavar="N",
        help="at most N sentences in test and in each out-of-domain set (default: %(default)s)",
    )
    add(
        "--max-valid",
        type=at_least(1),
        default=600,
        metavar="N",
        help="at most N sentences in valid (default: %(default)s)",
    )
    add(
        "--train-pairs",
        type=at_least(1),
        metavar="N",
        help="at most N training pairs; the other sets stay as they are (default: all)",
    )
    add(
        "--cache",
        type=Path,
        metavar="DIR",
        help="folder for the downloads; delete it to fetch them again (default: downloads, beside "
        "the folder of --out)",
    )
    add(
        "--own",
        type=Path,
        metavar="DIR",
        help="use the text in this folder, without download: train.en and train.de etc., one "
        "sentence per line, and any ood_NAME.en with or without ood_NAME.de",
    )
    for side, code in (("source", "en"), ("target", "de")):
        add(
            f"--{side}-lang",
            type=language_code,
            metavar="CODE",
            help=f"{side} language of --own, as in the file names (default: {code})",
        )
    return result


def run(args: argparse.Namespace) -> None:
    sizes = Sizes(args.max_words, args.train_pairs, args.max_valid, args.max_eval)
    options: dict[str, Any] = {"text": "own" if args.own else "debian", **asdict(sizes)}
    languages = (args.source_lang or "en", args.target_lang or "de")
    files: dict[str, tuple[Path, Path | None]] = {}
    if args.own:
        if languages[0] == languages[1]:
            raise InputError(f"source and target language are both {languages[0]}: change one")
        if args.own.resolve() == args.out.resolve():
            raise InputError(f"--own and --out are both {args.out}: write to another folder")
        files = own_files(args.own, *languages)
        options["languages"] = list(languages)
        options["inputs"] = {
            path.name: sha256(path.read_bytes()) for both in files.values() for path in both if path
        }
    elif args.source_lang or args.target_lang:
        raise InputError("--source-lang and --target-lang go with --own: Debian's text is en-de")
    if is_current(args.out, options):
        say(f"{args.out} is complete and unchanged, nothing to do")
        return
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {args.out} cannot be made: {error.strerror}") from None
    if args.own:
        corpus = build_own(sizes, files)
    else:
        corpus = build_debian(sizes, args.cache or args.out.resolve().parent / "downloads")
    verify(corpus, args.max_words)
    manifest = write(corpus, args.out, languages, options)
    for name, facts in manifest["sets"].items():
        words = facts["source_words"] / facts["pairs"]
        leaks = corpus.leakage.get(name, {})
        removed = [f"{leaks[kind]} {kind}" for kind in ("repeated", "same", "near") if leaks]
        note = "" if facts["reference"] else ", no reference"
        say(f"{name:13} {facts['pairs']:6} pairs, {words:4.1f} source words{note}")
        if removed:
            say(f"{'':13} removed, found in another set: {', '.join(removed)} of {leaks['before']}")


def say(message: str) -> None:
    print(f"ddtp: {message}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    try:
        run(args)
    except AptError as error:
        say(f"error: {error}; without apt, give your own parallel text with --own DIR (see --help)")
        return 2
    except (InputError, OSError) as error:
        say(f"error: {error}")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
