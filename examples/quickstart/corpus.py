"""Sets of sentence pairs: filters, samples, removal of leakage, and files with a manifest."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leakage import find_leaks
from permutation import permute_words

Pair = tuple[str, str]

RECIPE = 1  # raise it when the same options give other text, so that old output is replaced
MIN_WORDS = 3
SEED = "fairseq_pdd quickstart"
SPLITS = ("train", "valid", "test")
MANIFEST = "manifest.json"


class InputError(Exception):
    """An error in the user's input; the message is one line that names the fix."""


@dataclass
class Corpus:
    """Sentence pairs by set, and their facts for the manifest."""

    sets: dict[str, list[Pair]] = field(default_factory=dict)
    no_reference: set[str] = field(default_factory=set)
    leakage: dict[str, dict[str, int]] = field(default_factory=dict)
    indexes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Sizes:
    """Limits on the sets; None is no limit."""

    max_words: int
    train: int | None
    valid: int | None
    test: int | None


def in_length(sentence: str, max_words: int) -> bool:
    return MIN_WORDS <= len(sentence.split()) <= max_words


def fitting(pairs: Iterable[Pair], max_words: int) -> list[Pair]:
    """Select translated pairs whose sides both have MIN_WORDS to max_words words."""
    return [
        pair
        for pair in pairs
        if pair[0].casefold() != pair[1].casefold()
        and all(in_length(side, max_words) for side in pair)
    ]


def unique(pairs: Iterable[Pair], seen: set[str]) -> list[Pair]:
    """Select the first pair of each source that is not in `seen`; add the sources to `seen`."""
    kept = []
    for pair in pairs:
        if pair[0] not in seen:
            seen.add(pair[0])
            kept.append(pair)
    return kept


def sample(pairs: list[Pair], size: int | None) -> list[Pair]:
    """Select at most `size` pairs in their order; a smaller sample is part of a larger one."""
    if size is None or len(pairs) <= size:
        return pairs
    ranks = [hashlib.sha256(f"{SEED}\n{source}".encode()).digest() for source, _ in pairs]
    selected = sorted(range(len(pairs)), key=lambda i: ranks[i])[:size]
    return [pairs[i] for i in sorted(selected)]


def permute(sentence: str) -> str | None:
    """Permute the words, always in the same way; None if there is no other order."""
    return permute_words(sentence, SEED)


def permuted(pairs: Iterable[Pair]) -> list[Pair]:
    """Permute the sources of pairs; sources that have no other order are skipped."""
    shuffled = ((permute(source), target) for source, target in pairs)
    return [(source, target) for source, target in shuffled if source is not None]


def make_splits(groups: dict[str, list[Pair]], sizes: Sizes) -> Corpus:
    """Make train, valid and test without leakage, and the permuted test set.

    A source that several splits share stays in the first of train, test, valid ("repeated" in the
    others). Leaks are removed from valid and test before train is cut to size, so that these two
    sets do not depend on the amount of training text.
    """
    corpus = Corpus()
    seen: set[str] = set()
    for name in ("train", "test", "valid"):
        pairs = unique(fitting(groups[name], sizes.max_words), set())
        if not pairs:
            raise InputError(
                f"{name} has no translated pair of {MIN_WORDS} to {sizes.max_words} words per "
                "side: give more text or raise --max-words"
            )
        corpus.sets[name] = unique(pairs, seen)
        if name != "train":
            repeated = len(pairs) - len(corpus.sets[name])
            corpus.leakage[name] = {"before": len(pairs), "repeated": repeated}
    train = [source for source, _ in corpus.sets["train"]]
    for name, figures in corpus.leakage.items():
        pairs = corpus.sets[name]
        leaks = find_leaks([source for source, _ in pairs], train)
        kinds = list(leaks.values())
        figures |= {"same": kinds.count("same"), "near": kinds.count("near")}
        corpus.sets[name] = [pair for i, pair in enumerate(pairs) if i not in leaks]
        if not corpus.sets[name]:
            raise InputError(
                f"nothing of {name} is held out: all its {figures['before']} sentences, or similar "
                "ones, are in another set; give text that the other sets do not contain"
            )
    for name, size in (("train", sizes.train), ("valid", sizes.valid), ("test", sizes.test)):
        corpus.sets[name] = sample(corpus.sets[name], size)
    corpus.sets["ood_permuted"] = permuted(corpus.sets["test"])
    return corpus


def verify(corpus: Corpus, max_words: int) -> None:
    """Check the finished sets; a failure is a defect of these scripts, not of the input."""
    sources = {name: [source for source, _ in pairs] for name, pairs in corpus.sets.items()}
    for name in ("valid", "test"):
        left = len(find_leaks(sources[name], sources["train"]))
        corpus.leakage[name]["left"] = left
        if left:
            raise RuntimeError(f"{left} sentences of {name} leak from train")
    if set(sources["valid"]) & set(sources["test"]):
        raise RuntimeError("valid and test share sentences")
    if set(sources["ood_permuted"]) & set(sources["test"]):
        raise RuntimeError("a permuted sentence is a sentence of test")
    for name, pairs in corpus.sets.items():
        if not pairs:
            raise InputError(f"{name} has no sentence within the word limit: raise --max-words")
        if not all(in_length(side, max_words) for pair in pairs for side in pair):
            raise RuntimeError(f"{name} has a sentence beyond the word limit")


def is_current(out: Path, options: dict[str, Any]) -> bool:
    """Check that `out` has the unchanged result of these options."""
    try:
        manifest = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
        return (
            manifest["recipe"] == RECIPE
            and manifest["options"] == options
            and all(sha256((out / name).read_bytes()) == h for name, h in manifest["files"].items())
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def write(corpus: Corpus, out: Path, languages: Pair, options: dict[str, Any]) -> dict[str, Any]:
    """Write the sets, and the manifest last; return the manifest."""
    # Without a manifest, a mixture of old and new files does not count as complete.
    old = read_files(out)
    (out / MANIFEST).unlink(missing_ok=True)
    files: dict[str, str] = {}
    for name, pairs in corpus.sets.items():
        for side, language in enumerate(languages):
            data = "".join(pair[side] + "\n" for pair in pairs).encode()
            files[f"{name}.{language}"] = sha256(data)
            write_whole(out / f"{name}.{language}", data)
    for name in old - files.keys():
        (out / name).unlink(missing_ok=True)
    manifest = {
        "recipe": RECIPE,
        "options": options,
        "sets": {
            name: {
                "pairs": len(pairs),
                "source_words": sum(len(source.split()) for source, _ in pairs),
                "target_words": sum(len(target.split()) for _, target in pairs),
                "reference": name not in corpus.no_reference,
            }
            for name, pairs in corpus.sets.items()
        },
        "leakage": corpus.leakage,
        "indexes": corpus.indexes,
        "files": files,
    }
    write_whole(out / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
    return manifest


def read_files(out: Path) -> set[str]:
    """Return the names of the files of an earlier run, if its manifest can be read."""
    try:
        names = json.loads((out / MANIFEST).read_text(encoding="utf-8"))["files"]
        return {name for name in names if Path(name).name == name}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def write_whole(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
