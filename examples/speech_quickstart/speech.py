#!/usr/bin/env python3
"""Speech for the quickstart: voices of a computer game, or your own recordings.

Writes the data of fairseq's speech_to_text: log-mel features at 8 kHz, a manifest for each set,
subwords and config.yaml. Does nothing if the folder already holds the result of the same options.

  set           what it is                                          differs from test in
  train         Joe, the hero of Flight of the Amazon Queen
  valid, test   other sentences of his
  ood_speakers  the other voices of that game                       speaker
  ood_english   English prompts of a telephone system               speaker, channel, style
  ood_french    French prompts of the same system                   the same and language
  ood_dutch     the Dutch voices of another game                    speaker, channel, language
  ood_noisy     test with white noise, 5 dB                         channel
  mismatched    test with the audio of another utterance of test: it shows how well a model
                predicts the texts without their audio

With --own, the sets are those of a file of tab-separated columns (first line: set, audio, text),
except the last two, which are made from your test set. "set" is train, valid, test or ood_NAME.
"audio" is a WAV, FLAC, OGG or MP3 file, relative to the folder of the list. "text" is its words.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "lib"))

import torch
from audio import MEL_BINS, RATE, add_noise, log_mel, waveform
from manifests import COLUMNS, FeatureZip, train_subwords, write_config, write_tsv
from private_apt import AptError, PrivateApt, package_members
from prompts import asterisk, dubbed
from queen import read_archive, transcripts
from tqdm import tqdm
from utterances import (
    MIN_WORDS,
    SPLITS,
    InputError,
    Utterance,
    in_random_order,
    plausible,
    split_of,
    spoken,
)

RECIPE = 1  # raise it when the same options give other features, so that old output is replaced
MANIFEST = "manifest.json"
NOISY, DECIBELS = "ood_noisy", 5.0
MISMATCHED = "mismatched"
JOE = "joe"
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
    "fillets-ng-data-nl_1.0.1-1.1_all.deb": (
        "afb4443fda9ab507dee578b75be857d121718a1cd6017a474f30e0eb13dc9d10"
    ),
    "fillets-ng-data_1.0.1-1.1_all.deb": (
        "25de89afd8b1adf7bcace8290248a6a22c89cd42300317e69000e162c032cf84"
    ),
    "flight-of-the-amazon-queen_1.0.0-9_all.deb": (
        "40c08fd258d6fe95c46c1eaf5e9137f84ba330657995a281bd887c94a560a0f1"
    ),
}


# ----------------------------------------------------------------------- Debian's games


def debian(cache: Path) -> tuple[Sets, dict[str, str]]:
    """Fetch the packages; return all clips by set, and the hashes of the packages."""
    say(f"fetching 7 packages (175 MB); they are kept in {cache}")
    apt = PrivateApt(cache / "apt", ())
    apt.update()
    hashes: dict[str, str] = {}

    def members(package: str, *suffixes: str) -> list[dict[str, bytes]]:
        path = apt.package(package)
        hashes[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
        if EXPECTED.get(path.name) != hashes[path.name]:
            say(f"WARNING: {path.name} differs from that of the README; expect other figures")
        return [package_members(path, suffix) for suffix in suffixes]

    sets: Sets = {name: [] for name in SPLITS}
    (archive,) = members("flight-of-the-amazon-queen", "/queen.1c")
    sets["ood_speakers"] = []
    for utterance in queen_utterances(*archive.values()):
        joe = utterance.speaker == JOE
        sets[split_of(spoken(utterance.text)) if joe else "ood_speakers"].append(utterance)
    for language, code in (("english", "en"), ("french", "fr")):
        (texts,) = members(f"asterisk-core-sounds-{code}", f"core-sounds-{code}.txt.gz")
        (sounds,) = members(f"asterisk-core-sounds-{code}-wav", ".wav")
        sets[f"ood_{language}"] = asterisk(texts, sounds, f"{language}-prompts")
    (scripts,) = members("fillets-ng-data", "/dialogs_nl.lua")
    (sounds,) = members("fillets-ng-data-nl", ".ogg")
    sets["ood_dutch"] = dubbed(scripts, sounds)
    return sets, hashes


def queen_utterances(archive: bytes) -> list[Utterance]:
    members = read_archive(archive)
    return [
        Utterance(clip, members[f"{clip}.SB"], text, speaker_of(clip))
        for clip, text in sorted(transcripts(members).items())
    ]


def speaker_of(clip: str) -> str:
    """Name the speaker of a clip: Joe, or the other speaker of the conversation."""
    return JOE if clip.startswith("JOE") or clip[-2] == "J" else f"talk{clip[:2]}"


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
        if name == NOISY:
            raise InputError(
                f"{path}, line {number}: {NOISY} is made from test; give your set another name"
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
    manifests: dict[str, Rows] = {}
    with FeatureZip(out) as features:
        for name, utterances in sets.items():
            limit = args.max_train if name == "train" else args.max_eval
            selected = select(name, utterances, limit, args.max_seconds)
            if not selected:
                raise InputError(
                    f"{name} has no utterance of {MIN_WORDS} or more words and at most "
                    f"{args.max_seconds:g} seconds: give other clips or raise --max-seconds"
                )
            manifests[name] = [
                row(utterance, samples, features, name) for utterance, samples in selected
            ]
            if name == "test":
                manifests[NOISY] = [
                    row(u, add_noise(samples, u.name, DECIBELS), features, NOISY)
                    for u, samples in selected
                ]
    manifests[MISMATCHED] = rotated(manifests["test"])
    for name, rows in manifests.items():
        write_tsv(out / f"{name}.tsv", rows)
    train_subwords((str(r["tgt_text"]) for r in manifests["train"]), out, args.vocabulary)
    write_config(out, MEL_BINS, args.augment)
    return {
        name: {
            "utterances": len(rows),
            "minutes": round(sum(int(r["n_frames"]) for r in rows) / 6000, 2),
            "words": sum(len(str(r["tgt_text"]).split()) for r in rows),
        }
        for name, rows in manifests.items()
    }


def select(
    name: str, utterances: Sequence[Utterance], limit: int | None, max_seconds: float
) -> list[tuple[Utterance, torch.Tensor]]:
    """Select up to `limit` plausible utterances; return them with normalised text and samples."""
    worded = [replace(u, text=spoken(u.text)) for u in utterances]
    worded = [u for u in worded if len(u.text.split()) >= MIN_WORDS]
    found: list[tuple[Utterance, torch.Tensor]] = []
    with tqdm(total=min(limit or len(worded), len(worded)), desc=name, unit=" clips") as bar:
        for utterance in in_random_order(worded):
            if len(found) == limit:
                break
            samples = waveform(utterance)
            if plausible(utterance.text, len(samples) / RATE, max_seconds):
                found.append((utterance, samples))
                bar.update()
    return found


def row(
    utterance: Utterance, samples: torch.Tensor, features: FeatureZip, name: str
) -> dict[str, str | int]:
    """Add the features of an utterance to the zip; return its line in the manifest of `name`."""
    mel = log_mel(samples)
    key = f"{name}-{utterance.name}"
    audio = features.add(key, mel)
    values = (key, audio, len(mel), utterance.text, utterance.speaker)
    return dict(zip(COLUMNS, values))


def rotated(rows: Rows) -> Rows:
    """Give each utterance the audio of the next one, and the last that of the first."""
    others = [*rows[1:], *rows[:1]]
    return [
        {**row, **{c: other[c] for c in ("audio", "n_frames")}} for row, other in zip(rows, others)
    ]


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
        metavar="N",
        help="at most N utterances for training; the other sets stay as they are (default: all)",
    )
    add(
        "--max-eval",
        type=positive(int),
        default=300,
        metavar="N",
        help="at most N utterances in each other set (default: %(default)s)",
    )
    add(
        "--vocabulary",
        type=positive(int),
        default=200,
        metavar="N",
        help="number of subwords (default: %(default)s)",
    )
    add("--augment", action="store_true", help="mask training features (a light SpecAugment)")
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
    names = ("max_seconds", "max_train", "max_eval", "vocabulary", "augment")
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
        sets, hashes = debian(args.cache or args.out.resolve().parent / "downloads")
    figures = build(sets, args.out, args)
    manifest = {"recipe": RECIPE, "options": options, "sets": figures, "packages": hashes}
    (args.out / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    for name, facts in figures.items():
        say(f"{name:12} {facts['utterances']:5} clips, {facts['minutes']:6.1f} minutes")


def say(message: str) -> None:
    print(f"speech: {message}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    torch.set_num_threads(1)
    args = parser().parse_args(arguments)
    try:
        run(args)
    except AptError as error:
        say(f"error: {error}; without apt, give your own recordings with --own TSV (see --help)")
        return 2
    except (InputError, OSError) as error:
        say(f"error: {error}")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
