"""A tiny synthetic speech corpus in which each letter has its own sound."""

import csv
import io
import json
import random
import zipfile
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence

import numpy as np
import sentencepiece
import soundfile
import yaml

from fairseq_pdd._compat import FEATURE_TRANSFORMS as TRANSFORMS

LETTERS = "abdegiklmnoprtu"
WORDS = ["bad", "dog", "gip", "kub", "lad", "men", "nib", "pot", "rug", "tip", "ulm", "akin"]
RATE = 16000
BINS = 16
VOCABULARY = 22
_LETTER_SECONDS = 0.06


class Utterance(NamedTuple):
    """A name in LibriSpeech's form, speaker-chapter-number, and a transcript."""

    name: str
    text: str


def utterances(size: int, seed: int) -> List[Utterance]:
    """Make utterances of one to three words by four speakers."""
    rng = random.Random(seed)
    return [
        Utterance(f"{1 + i % 4}-{seed}-{i:04d}", " ".join(rng.choices(WORDS, k=rng.randint(1, 3))))
        for i in range(size)
    ]


SPLITS = {"train": utterances(200, 1), "valid": utterances(20, 2), "test": utterances(20, 3)}


def waveform(utterance: Utterance, rate: int = RATE) -> np.ndarray:
    """Make samples in [-1, 1]: a tone for each letter, silence for a space, and noise."""
    times = np.arange(int(rate * _LETTER_SECONDS)) / rate
    tones = [
        0.0 * times if c == " " else 0.3 * np.sin(2 * np.pi * 200 * (2 + LETTERS.index(c)) * times)
        for c in f" {utterance.text} "
    ]
    samples = np.concatenate(tones)
    return (samples + 0.01 * _rng(utterance).standard_normal(len(samples))).astype(np.float32)


def features(utterance: Utterance, bins: int = BINS) -> np.ndarray:
    """Make frames ``[T, bins]``: four for each letter, in a direction of its own, and noise."""
    directions = np.random.default_rng(0).standard_normal((len(LETTERS) + 1, bins))
    frames = np.repeat(directions[[LETTERS.find(c) for c in utterance.text]], 4, axis=0)
    return (frames + 0.3 * _rng(utterance).standard_normal(frames.shape)).astype(np.float32)


def _rng(utterance: Utterance) -> np.random.Generator:
    return np.random.default_rng(list(utterance.name.encode()))


def npy(array: np.ndarray) -> bytes:
    """Return the content of a .npy file."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def write_table(path: Path, rows: Sequence[Dict[str, Any]]) -> None:
    """Write a manifest of fairseq's S2T task."""
    with open(path, "w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(
            stream, rows[0].keys(), delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE,
            quotechar=None,
        )  # fmt: skip
        writer.writeheader()
        writer.writerows(rows)


def read_table(path: Path) -> List[Dict[str, str]]:
    """Read the rows of a manifest."""
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None))


def write_config(folder: Path, **changes: Any) -> None:
    """Write the config yaml of the task."""
    config = {
        "vocab_filename": "spm.txt",
        "bpe_tokenizer": {"bpe": "sentencepiece", "sentencepiece_model": "spm.model"},
        "input_feat_per_channel": BINS,
        TRANSFORMS: {
            "_train": ["utterance_cmvn", "specaugment"], "*": ["utterance_cmvn"],
        },
        "specaugment": {
            "freq_mask_F": 4, "freq_mask_N": 1, "time_mask_N": 1, "time_mask_T": 4,
            "time_mask_p": 0.5, "time_wrap_W": 0,
        },
        "shuffle": True,
    }  # fmt: skip
    (folder / "config.yaml").write_text(yaml.dump({**config, **changes}), encoding="utf-8")


def write_pieces(folder: Path) -> sentencepiece.SentencePieceProcessor:
    """Train sentencepiece, and write its pieces as a fairseq dictionary."""
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter([u.text for u in SPLITS["train"]]),
        model_prefix=str(folder / "spm"), vocab_size=VOCABULARY, bos_id=0, pad_id=1, eos_id=2,
        unk_id=3, minloglevel=2,
    )  # fmt: skip
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spm.model"))
    symbols = [pieces.id_to_piece(i) for i in range(4, pieces.get_piece_size())]
    (folder / "spm.txt").write_text("".join(f"{s} 1\n" for s in symbols), encoding="utf-8")
    return pieces


def write_tables(folder: Path) -> None:
    """Write the data of ``speech_to_text``: features in a zip, manifests, config, pieces."""
    folder.mkdir()
    archive = folder / "features.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as stream:
        for split in SPLITS.values():
            for utterance in split:
                stream.writestr(f"{utterance.name}.npy", npy(features(utterance)))
    with zipfile.ZipFile(archive) as stream:
        places = {
            Path(i.filename).stem: (i.header_offset + 30 + len(i.filename), i.file_size)
            for i in stream.infolist()
        }
    for split, content in SPLITS.items():
        rows = [
            {
                "id": u.name,
                "audio": "{}:{}:{}".format(archive, *places[u.name]),
                "n_frames": len(features(u)),
                "tgt_text": u.text,
                "speaker": u.name.split("-")[0],
            }
            for u in content
        ]
        write_table(folder / f"{split}.tsv", rows)
    write_pieces(folder)
    write_config(folder)


def write_lists(folder: Path) -> None:
    """Write the data of ``speech_recognition``: audio, lists of utterances, dictionary."""
    (folder / "audio").mkdir(parents=True)
    pieces = write_pieces(folder)
    (folder / "spm.txt").rename(folder / "dict.txt")
    for split, content in SPLITS.items():
        listed = {}
        for u in content:
            path = folder / "audio" / f"{u.name}.wav"
            samples = waveform(u)
            soundfile.write(path, samples, RATE, subtype="PCM_16")
            listed[u.name] = {
                "input": {"length_ms": int(1000 * len(samples) / RATE), "path": str(path)},
                "output": {
                    "text": u.text,
                    "token": " ".join(pieces.encode(u.text, out_type=str)),
                    "tokenid": ", ".join(str(i) for i in pieces.encode(u.text)),
                },
            }
        (folder / f"{split}.json").write_text(json.dumps({"utts": listed}), encoding="utf-8")
