#!/usr/bin/env python3
"""Speech for the quickstart: synthetic voices and human recordings, or your own recordings.

Writes the data of fairseq's speech_to_text: log-mel features at 8 kHz, a manifest for each set,
subwords and config.yaml. Does nothing if the folder already holds the result of the same options.

  set            what it is                                          differs from test in
  train          sentences of a grammar, read by the four voices of
                 the engine flite, at many speeds, with faint noise
  train_beyond   recordings of train, at other speeds or with
                 loud pink noise: a transfer set for students only
  valid, test    other sentences of the grammar, read in the same way
  ood_noise10    test with white noise at 10 dB                      noise
  ood_noise0     test with white noise at 0 dB                       noise
  ood_telephone  test in the band of a telephone                     channel
  ood_law        the constitution of the United States               text
  ood_voices     test, read by the engine eSpeak NG                  voices
  ood_german     German sentences, read by the same engine           voices, language
  ood_human      English prompts of a telephone system               speaker (human), text
  ood_french     French prompts of the same system                   the same and language

With --own, the sets are those of a file of tab-separated columns (first line: set, audio, text).
train_beyond is then made from your training set, and the first three out-of-domain sets from your
test set. "set" is train, valid, test or ood_NAME. "audio" is a WAV, FLAC, OGG or MP3 file, relative
to the folder of the list. "text" is its words.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import json
import os
import random
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "lib"))

import numpy as np
import torch
from audio import MEL_BINS, RATE, log_mel, waveform
from manifests import COLUMNS, FeatureZip, train_subwords, write_config, write_tsv
from private_apt import AptError, PrivateApt, package_members
from prompts import asterisk
from sentences import cut_text, draw_sentences, read_grammar
from tqdm import tqdm
from utterances import (
    MIN_WORDS,
    SPLITS,
    InputError,
    Utterance,
    in_random_order,
    plausible,
    spoken,
)
from voices import ESPEAK, FLITE, PACKAGES, EngineError, Engines

HERE = Path(__file__).resolve().parent
RECIPE = 3  # raise it when the same options give other features, so that old output is replaced
MANIFEST = "manifest.json"
# sets that are made from the test set
CHANGES: dict[str, dict[str, Any]] = {
    "ood_noise10": {"snr": 10.0},
    "ood_noise0": {"snr": 0.0},
    "ood_telephone": {"telephone": True},
}
STRETCH = (0.85, 1.15)  # of the voices; 1 is an engine's usual speed
NOISE = (20.0, 40.0)  # signal-to-noise ratio in dB of all utterances
# beyond the domain: other speeds, which change the pitch as STRETCH does not, and louder noise
BEYOND_SPEEDS = (0.7, 0.75, 0.8, 1.25, 1.3, 1.4)
BEYOND_NOISE = (0.0, 20.0)
BEYOND = "train_beyond"
SEED = 1
Sets = dict[str, list[Utterance]]
Rows = list[dict[str, "str | int"]]
# sha256 of the packages that the figures in the README were made from.
EXPECTED = {
    "asterisk-core-sounds-en-wav_1.6.1-1_all.deb": (
        "2be3ea287d83299d143815fa804f11179a75b7affd4a758b98b55f5afc18a35d"
    ),
    "asterisk-core-sounds-en_1.6.1-1_all.deb": (
        "973e797d28e37fa6ca3c0a9d6fa717e77cf1268ae916bf09fd3503113cdffa50"
    ),
    "asterisk-core-sounds-fr-wav_1.6.1-1_all.deb": (
        "8d4e1bc32ed5ba7fbda40841ca1825ed20cc6232724a473c90f8bb0e53e6073e"
    ),
    "asterisk-core-sounds-fr_1.6.1-1_all.deb": (
        "04c82c78c570c43a7136cbc5e2488d0c470b775468dff9fbce4a131b18cf1056"
    ),
    "espeak-ng-data_1.51+dfsg-10+deb12u2_amd64.deb": (
        "573f5661c6a5adcf949018baad158c4c773bf5579390ee5235a890f1cd694106"
    ),
    "espeak-ng_1.51+dfsg-10+deb12u2_amd64.deb": (
        "a11396a690f85f55e6e6b2965505237ddf3dc95c51936aa61de936f1ccf8f4d0"
    ),
    "flite_2.2-5_amd64.deb": ("f4ce03470bf9974c2cb9cacd981e6be29339ef4c97cf994dd6fa3f90e6544db9"),
    "libespeak-ng1_1.51+dfsg-10+deb12u2_amd64.deb": (
        "2b127a95b50d92cbd7a615968d2ac1566e1cbc87e27bcda0c2894afb2407c6d2"
    ),
    "libflite1_2.2-5_amd64.deb": (
        "bfa8c591f1b47730b30b372ec38e02918a1c9795eada67684e1746390ad2f061"
    ),
    "miscfiles_1.5+dfsg-4_all.deb": (
        "b29fdc907760ded52adbc1b4322da22b94108cd124caf0b23da8c23cc3578a28"
    ),
}


# ------------------------------------------------------------------- voices and prompts


def debian(cache: Path, args: argparse.Namespace) -> tuple[Sets, dict[str, str]]:
    """Fetch the packages; return all utterances by set, and the hashes of the packages."""
    say(f"fetching text-to-speech engines and prompts (85 MB); they are kept in {cache}")
    apt = PrivateApt(cache / "apt", ())
    apt.update()
    engines = Engines(apt.unpack(PACKAGES))
    used = [path for path in apt.archives() if "flite" in path.name or "espeak" in path.name]

    def members(package: str, suffix: str) -> dict[str, bytes]:
        used.append(apt.package(package))
        return package_members(used[-1], suffix)

    (names,) = members("miscfiles", "/propernames.gz").values()
    (law,) = members("miscfiles", "/us-constitution.gz").values()
    sets = read_aloud(
        engines, args, gzip.decompress(names).decode("latin-1").split(), gzip.decompress(law)
    )
    for name, code in (("human", "en"), ("french", "fr")):
        texts = members(f"asterisk-core-sounds-{code}", f"core-sounds-{code}.txt.gz")
        sounds = members(f"asterisk-core-sounds-{code}-wav", ".wav")
        prompts = asterisk(texts, sounds, f"{code}-prompts")
        sets[f"ood_{name}"] = [with_noise(utterance) for utterance in prompts]
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in used}
    for name, digest in hashes.items():
        if EXPECTED.get(name) != digest:
            say(f"WARNING: {name} differs from that of the README; expect other figures")
    return sets, hashes


def read_aloud(engines: Engines, args: argparse.Namespace, names: list[str], law: bytes) -> Sets:
    """Let the engines read sentences; nothing is synthesised before its audio is read."""
    persons = sorted({name.lower() for name in names if name.isascii() and len(name) > 3})
    persons = random.Random(SEED).sample(persons, min(args.names, len(persons)))
    count = args.max_eval
    english = draw_sentences(
        read_grammar(HERE / "english.txt", person=persons), 2 * count + args.max_train, SEED
    )
    german = draw_sentences(read_grammar(HERE / "german.txt", person=persons), count, SEED)
    # training and test sets are needed several times; 16 kHz, some 350 MB
    read_once = lru_cache(None)(engines.flite)
    test, valid, train = english[:count], english[count : 2 * count], english[2 * count :]

    def flite(texts: list[str], name: str) -> list[Utterance]:
        return [
            utterance(f"{name}-{i}", text, voice, partial(read_once, text, voice))
            for i, (text, voice) in enumerate(zip(texts, FLITE * len(texts)))
        ]

    def espeak(texts: list[str], language: str) -> list[Utterance]:
        voices = [language + variant for variant in ESPEAK]
        return [
            utterance(f"{language}-{i}", text, voice, partial(engines.espeak, text, voice))
            for i, (text, voice) in enumerate(zip(texts, voices * len(texts)))
        ]

    def utterance(name: str, text: str, voice: str, read: Callable[[float], bytes]) -> Utterance:
        stretch = random.Random(f"{SEED} {name}").uniform(*STRETCH)
        return with_noise(Utterance(name, partial(read, stretch), text, voice))

    return {
        "train": flite(train, "train"),
        "valid": flite(valid, "valid"),
        "test": flite(test, "test"),
        "ood_law": flite(cut_text(law.decode("latin-1"), count, SEED), "law"),
        "ood_voices": espeak(test, "en-us"),
        "ood_german": espeak(german, "de"),
    }


def with_noise(utterance: Utterance) -> Utterance:
    """Draw a faint noise, so that no set is known by its silence."""
    return replace(utterance, snr=random.Random(f"noise {utterance.name}").uniform(*NOISE))


def beyond(utterance: Utterance) -> Utterance:
    """Draw a change of speed, pink noise, or both; no out-of-domain set has either."""
    draw = random.Random(f"beyond {utterance.name}")
    kind = draw.choice(("speed", "noise", "both"))
    change: dict[str, Any] = {}
    if kind != "noise":
        change["speed"] = draw.choice(BEYOND_SPEEDS)
    if kind != "speed":
        change.update(snr=draw.uniform(*BEYOND_NOISE), pink=True)
    return replace(utterance, name=f"beyond-{utterance.name}", **change)


# ------------------------------------------------------------------------- own speech


def own(path: Path) -> Sets:
    """Read the utterances of a list, by set; audio files are not opened yet.

    Raises:
        InputError: the list or one of its lines cannot be used.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
            rows = list(reader)
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.reader.line_num}: {error}: shorten it") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8: convert it, for example with iconv") from None
    absent = {"set", "audio", "text"} - set(reader.fieldnames or ())
    if absent:
        raise InputError(
            f"{path} has no column {', '.join(sorted(absent))}: its first line must be set, audio "
            "and text, separated by tabs"
        )
    sets: Sets = {}
    for number, row in enumerate(rows, 2):
        if None in row:
            raise InputError(f"{path}, line {number} has more tabs than the first line")
        name, text = row["set"] or "", spoken(row["text"] or "")
        audio = path.parent / (row["audio"] or "")
        if name not in SPLITS and not name.startswith("ood_"):
            raise InputError(f"{path}, line {number}: set '{name}' is none of {SPLITS} or ood_NAME")
        if name in CHANGES:
            raise InputError(
                f"{path}, line {number}: {name} is made from test; give your set another name"
            )
        if not text:
            raise InputError(
                f"{path}, line {number}: no words, or numbers in digits; write them as words"
            )
        if not audio.is_file():
            raise InputError(f"{path}, line {number}: {audio} is missing")
        sets.setdefault(name, []).append(Utterance(f"{name}-{number}", audio, text))
    missing = set(SPLITS) - sets.keys()
    if missing:
        raise InputError(f"{path} has no utterance for {', '.join(sorted(missing))}")
    return sets


def own_sha256(path: Path, sets: Sets) -> str:
    """Compute the checksum of a list and of its recordings."""
    digest = hashlib.sha256(path.read_bytes())
    for utterances in sets.values():
        for utterance in utterances:
            assert isinstance(utterance.audio, Path)
            digest.update(hashlib.sha256(utterance.audio.read_bytes()).digest())
    return digest.hexdigest()


# -------------------------------------------------------------------------- the folder


def build(sets: Sets, out: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Write features, manifests, subwords and configuration; return figures by set."""
    changed = {
        name: [replace(utterance, **change) for utterance in sets["test"]]
        for name, change in CHANGES.items()
    }
    changed[BEYOND] = [beyond(utterance) for utterance in sets["train"]]
    sets = {**{name: sets[name] for name in SPLITS}, **changed, **sets}
    limits = {"train": args.max_train, BEYOND: args.max_beyond}
    manifests: dict[str, Rows] = {}
    with FeatureZip(out) as features, ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, utterances in sets.items():
            limit = limits.get(name, args.max_eval)
            found = select(name, utterances, limit, args.max_seconds, pool)
            if not found:
                raise InputError(
                    f"{name} has no utterance of {MIN_WORDS} or more words and at most "
                    f"{args.max_seconds:g} seconds: give other clips or raise --max-seconds"
                )
            manifests[name] = [row(utterance, mel, features, name) for utterance, mel in found]
    for name, rows in manifests.items():
        write_tsv(out / f"{name}.tsv", rows)
    train_subwords((str(r["tgt_text"]) for r in manifests["train"]), out, args.vocabulary)
    write_config(out, MEL_BINS, augment=False)
    return {
        name: {
            "utterances": len(rows),
            "minutes": round(sum(int(r["n_frames"]) for r in rows) / 6000, 2),
            "words": sum(len(str(r["tgt_text"]).split()) for r in rows),
        }
        for name, rows in manifests.items()
    }


def select(
    name: str,
    utterances: Sequence[Utterance],
    limit: int,
    max_seconds: float,
    pool: ThreadPoolExecutor,
) -> list[tuple[Utterance, np.ndarray]]:
    """Select up to `limit` plausible utterances; return them with their words and features."""
    worded = [replace(u, text=spoken(u.text)) for u in utterances]
    worded = in_random_order(u for u in worded if len(u.text.split()) >= MIN_WORDS)

    def features(utterance: Utterance) -> tuple[Utterance, np.ndarray] | None:
        samples = waveform(utterance)
        if plausible(utterance.text, len(samples) / RATE, max_seconds):
            return utterance, log_mel(samples)
        return None

    found: list[tuple[Utterance, np.ndarray]] = []
    size = 32 * (os.cpu_count() or 1)
    with tqdm(total=min(limit, len(worded)), desc=name, unit=" clips") as bar:
        for start in range(0, len(worded), size):
            results = pool.map(features, worded[start : start + size])
            found += [result for result in results if result is not None][: limit - len(found)]
            bar.update(len(found) - bar.n)
            if len(found) == limit:
                break
    return found


def row(
    utterance: Utterance, mel: np.ndarray, features: FeatureZip, name: str
) -> dict[str, str | int]:
    """Add the features of an utterance to the zip; return its line in the manifest of `name`."""
    key = f"{name}-{utterance.name}"
    audio = features.add(key, mel)
    values = (key, audio, len(mel), utterance.text, utterance.speaker)
    return dict(zip(COLUMNS, values))


def is_current(out: Path, options: dict[str, Any]) -> bool:
    """Check that `out` holds the result of these options."""
    try:
        manifest = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
        return manifest["recipe"] == RECIPE and manifest["options"] == options
    except (OSError, ValueError, KeyError, TypeError):
        return False


# ------------------------------------------------------------------------ command line


def positive(kind: type) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        number = kind(text)
        if number <= 0:
            raise argparse.ArgumentTypeError(f"must be more than 0, not {text}")
        return number

    parse.__name__ = kind.__name__  # argparse prints it in "invalid int value"
    return parse


def parser() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    result = argparse.ArgumentParser(prog="speech.py", description=__doc__, formatter_class=form)
    add = result.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    add(
        "--max-seconds",
        type=positive(float),
        default=10.0,
        metavar="S",
        help="skip longer clips, in all sets alike, so that length does not reveal the "
        "out-of-domain sets (default: %(default)g)",
    )
    add(
        "--max-train",
        type=positive(int),
        default=4000,
        metavar="N",
        help="number of utterances for training, at most (default: %(default)s)",
    )
    add(
        "--max-beyond",
        type=positive(int),
        default=1000,
        metavar="N",
        help="number of utterances in train_beyond, at most (default: %(default)s)",
    )
    add(
        "--max-eval",
        type=positive(int),
        default=150,
        metavar="N",
        help="number of utterances in each other set, at most (default: %(default)s)",
    )
    add(
        "--names",
        type=positive(int),
        default=30,
        metavar="N",
        help="number of first names in the sentences; more are harder (default: %(default)s)",
    )
    add(
        "--vocabulary",
        type=positive(int),
        default=100,
        metavar="N",
        help="number of subwords (default: %(default)s)",
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
        metavar="TSV",
        help="use the utterances of this list, without download; columns set, audio, text",
    )
    return result


def run(args: argparse.Namespace) -> None:
    names = ("max_seconds", "max_train", "max_beyond", "max_eval", "names", "vocabulary")
    options: dict[str, Any] = {name: getattr(args, name) for name in names}
    sets = None
    if args.own:
        sets = own(args.own)
        options["own"] = own_sha256(args.own, sets)
    if is_current(args.out, options):
        say(f"{args.out} is complete and unchanged, nothing to do")
        return
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / MANIFEST).unlink(missing_ok=True)
    hashes: dict[str, str] = {}
    if sets is None:
        sets, hashes = debian(args.cache or args.out.resolve().parent / "downloads", args)
    figures = build(sets, args.out, args)
    manifest = {"recipe": RECIPE, "options": options, "sets": figures, "packages": hashes}
    (args.out / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    for name, facts in figures.items():
        say(f"{name:13} {facts['utterances']:5} clips, {facts['minutes']:6.1f} minutes")


def say(message: str) -> None:
    print(f"speech: {message}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    torch.set_num_threads(1)
    args = parser().parse_args(arguments)
    try:
        run(args)
    except (AptError, EngineError) as error:
        say(f"error: {error}; without apt, give your own recordings with --own TSV (see --help)")
        return 2
    except (InputError, OSError) as error:
        say(f"error: {error}")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
