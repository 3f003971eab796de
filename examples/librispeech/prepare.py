#!/usr/bin/env python3
"""Prepare LibriSpeech, and other speech to test with, for fairseq's speech_to_text.

Writes the files of fairseq's prep_librispeech_data.py: 80 log-mel energies of each utterance in a
zip, a manifest for each part, a sentencepiece model of the training text, and config.yaml with the
SpecAugment policy LD. fairseq's script downloads the corpus and needs torchaudio before 2.9; this
one reads existing folders. Finished parts are skipped if their names and transcripts are the same;
config.yaml is written last.

    prepare.py LIBRISPEECH DATA --train train-clean-100 … --held-out dev-clean … --list ami=ami.tsv

LIBRISPEECH has PART/SPEAKER/CHAPTER/*.flac and *.trans.txt, as it is distributed. A list names
other speech: each line is a file, relative to the list, a tab and the transcript.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

sys.path.append(str(Path(__file__).resolve().parents[1] / "lib"))

import numpy as np
import soundfile
import torch
import torchaudio
import yaml
from manifests import FeatureZip, train_subwords, write_tsv
from torchaudio.compliance import kaldi
from tqdm import tqdm

from fairseq_pdd.speech.config import FEATURE_TRANSFORMS

RATE, MEL_BINS = 16000, 80
WINDOW = 400  # samples of a frame's window, 25 ms
# fairseq's policy LD
SPECAUGMENT = {
    "time_wrap_W": 0,
    "freq_mask_N": 2,
    "freq_mask_F": 27,
    "time_mask_N": 2,
    "time_mask_T": 100,
    "time_mask_p": 1.0,
}


class InputError(Exception):
    """An error in the user's input; the message is one line that names the fix."""


class Utterance(NamedTuple):
    """One recording."""

    name: str
    audio: Path
    text: str


def part_of_librispeech(folder: Path) -> Iterator[Utterance]:
    """Yield the utterances of a part, sorted by name."""
    transcripts = sorted(folder.glob("*/*/*.trans.txt"))
    if not transcripts:
        raise InputError(f"{folder} has no */*/*.trans.txt: is it a part of LibriSpeech?")
    for path in transcripts:
        for number, line in enumerate(lines(path), 1):
            name, _, text = line.partition(" ")
            yield checked(path, number, name, path.parent / f"{name}.flac", text)


def listed(path: Path) -> Iterator[Utterance]:
    """Yield the utterances of a list, named by list and line number."""
    for number, line in enumerate(lines(path), 1):
        audio, tab, text = line.partition("\t")
        if not tab:
            raise InputError(f"{path}:{number} must be a file, a tab and a transcript")
        yield checked(path, number, f"{path.stem}-{number}", path.parent / audio, text)


def lines(path: Path) -> list[str]:
    """Read the lines of a file."""
    try:
        # as the lines of manifests; a transcript may hold characters that splitlines() splits at
        with open(path, encoding="utf-8-sig") as stream:
            return [line.rstrip("\n") for line in stream]
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8: convert it, for example with iconv") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None


def checked(path: Path, number: int, name: str, audio: Path, text: str) -> Utterance:
    """Check one line of a list of transcripts, and that its recording exists."""
    if not text.strip() or "\t" in text:
        raise InputError(f"{path}:{number} needs one transcript, which is not empty and has no tab")
    if len(text) > csv.field_size_limit():
        raise InputError(
            f"{path}:{number} has a transcript of {len(text):,} characters, fairseq reads at most "
            f"{csv.field_size_limit():,}: cut the recording"
        )
    if not audio.is_file():
        raise InputError(f"{path}:{number}: {audio} does not exist")
    return Utterance(name, audio, text.lower())


def features(utterance: Utterance) -> np.ndarray:
    """Compute log-mel energies at 16 kHz, float32, shape (frames, MEL_BINS)."""
    torch.set_num_threads(1)
    try:
        samples, rate = soundfile.read(utterance.audio, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise InputError(f"{utterance.audio} cannot be read: {error}") from None
    if not np.isfinite(samples).all():
        raise InputError(f"{utterance.audio} has samples that are NaN or infinite: remove it")
    mono = torch.from_numpy(samples.mean(axis=1, keepdims=True).T)
    # 16-bit units, as in Kaldi and fairseq
    wave = 2**15 * torchaudio.functional.resample(mono, rate, RATE)
    if wave.shape[1] < WINDOW:
        raise InputError(f"{utterance.audio} is shorter than one frame of 25 ms: remove it")
    return kaldi.fbank(wave, num_mel_bins=MEL_BINS, sample_frequency=RATE).numpy()


def extracted(utterances: list[Utterance], workers: int) -> Iterator[np.ndarray]:
    """Yield the features of all utterances, in order."""
    if workers == 1:
        yield from map(features, utterances)
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(features, utterances, chunksize=16)


def write_part(data: Path, name: str, utterances: list[Utterance], workers: int) -> None:
    """Write a zip of features and its manifest, unless the manifest exists.

    Raises:
        InputError: the manifest exists and lists other utterances.
    """
    manifest = data / f"{name}.tsv"
    if manifest.exists():
        if listing(manifest) != [(u.name, u.text) for u in utterances]:
            raise InputError(
                f"{manifest} lists other utterances than {name} now has: remove it, or give "
                "another DATA"
            )
        return
    rows = []
    with FeatureZip(data, f"{name}.zip") as archive:
        found = extracted(utterances, workers)
        for utterance, frames in zip(utterances, tqdm(found, name, len(utterances))):
            row = {
                "id": utterance.name,
                "audio": archive.add(utterance.name, frames),
                "n_frames": len(frames),
                "tgt_text": utterance.text,
                "speaker": utterance.name.partition("-")[0],
            }
            rows.append(row)
    partial = manifest.with_suffix(".partial")
    write_tsv(partial, rows)
    os.replace(partial, manifest)


def listing(manifest: Path) -> list[tuple[str, str]]:
    """Read the names and the transcripts of a manifest."""
    with open(manifest, encoding="utf-8") as stream:
        reader = csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None)
        return [(row["id"], row["tgt_text"]) for row in reader]


def write_config(data: Path) -> None:
    root = data.resolve()
    cmvn = "utterance_cmvn"
    config = {
        "audio_root": str(root),
        "vocab_filename": "dict.txt",
        "bpe_tokenizer": {"bpe": "sentencepiece", "sentencepiece_model": str(root / "spm.model")},
        "input_channels": 1,
        "input_feat_per_channel": MEL_BINS,
        FEATURE_TRANSFORMS: {"*": [cmvn], "_train": [cmvn, "specaugment"]},
        "specaugment": SPECAUGMENT,
    }
    partial = data / "config.yaml.partial"
    partial.write_text(yaml.safe_dump(config), encoding="utf-8")
    os.replace(partial, data / "config.yaml")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("librispeech", type=Path, help="folder of the corpus' parts")
    parser.add_argument("data", type=Path, help="folder to write to")
    parser.add_argument("--train", nargs="+", required=True, help="parts to train on")
    parser.add_argument(
        "--held-out", nargs="+", required=True, help="parts to validate and test on"
    )
    parser.add_argument("--list", nargs="*", default=[], metavar="NAME=FILE", help="other speech")
    parser.add_argument("--vocabulary", type=int, default=10000, help="number of subwords")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    args = parser.parse_args()
    args.data.mkdir(parents=True, exist_ok=True)
    try:
        parts = {name: args.librispeech / name for name in (*args.train, *args.held_out)}
        missing = [str(path) for path in parts.values() if not path.is_dir()]
        unnamed = [x for x in args.list if "=" not in x]
        if unnamed:
            raise InputError(f"--list {unnamed[0]}: give NAME=FILE")
        others = {name: Path(path) for name, _, path in (x.partition("=") for x in args.list)}
        missing += [str(path) for path in others.values() if not path.is_file()]
        if missing:
            raise InputError(f"{', '.join(missing)} does not exist")
        utterances = {name: list(part_of_librispeech(path)) for name, path in parts.items()}
        utterances.update({name: list(listed(path)) for name, path in others.items()})
        for name, content in utterances.items():
            write_part(args.data, name, content, args.workers)
    except InputError as error:
        sys.exit(f"error: {error}")
    texts = (u.text for name in args.train for u in utterances[name])
    train_subwords(texts, args.data, args.vocabulary)
    write_config(args.data)


if __name__ == "__main__":
    main()
