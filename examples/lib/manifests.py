"""Writers for fairseq's speech_to_text: features in a zip, manifests, subwords, config.yaml."""

from __future__ import annotations

import csv
import io
import os
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import sentencepiece
import yaml

from fairseq_pdd.speech.config import FEATURE_TRANSFORMS

FEATURES = "features.zip"
COLUMNS = ("id", "audio", "n_frames", "tgt_text", "speaker")


class FeatureZip:
    """Features in a zip without compression, which fairseq reads by offset and size.

    The file has its final name only when it is complete.
    """

    def __init__(self, folder: Path, name: str = FEATURES) -> None:
        self.path = folder / name
        self._partial = folder / f".{name}.{os.getpid()}"
        self._zip = zipfile.ZipFile(self._partial, "w", zipfile.ZIP_STORED)

    def add(self, name: str, features: np.ndarray) -> str:
        """Write features, shape (frames, bins); return the value of the column "audio"."""
        stream = io.BytesIO()
        np.save(stream, features)
        # a ZipInfo has a constant date, so that two runs give equal files
        info = zipfile.ZipInfo(f"{name}.npy")
        self._zip.writestr(info, stream.getvalue())
        offset = info.header_offset + len(info.FileHeader())
        return f"{self.path.name}:{offset}:{info.file_size}"

    def __enter__(self) -> FeatureZip:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._zip.close()
        if kind is None:
            self._partial.replace(self.path)
        else:
            self._partial.unlink()


def write_tsv(path: Path, rows: Iterable[dict[str, str | int]]) -> None:
    """Write a manifest with the columns that fairseq reads."""
    with open(path, "w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(
            stream,
            COLUMNS,
            delimiter="\t",
            lineterminator="\n",
            quoting=csv.QUOTE_NONE,
            quotechar=None,  # quotation marks are text like any other
        )
        writer.writeheader()
        writer.writerows(rows)


def train_subwords(texts: Iterable[str], folder: Path, vocabulary: int) -> None:
    """Write a SentencePiece model, spm.model, and fairseq's dictionary of its pieces, dict.txt."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        vocab_size=vocabulary,
        character_coverage=1.0,
        hard_vocab_limit=False,  # a small text may have fewer subwords
        # fairseq's dictionary has the other special symbols
        bos_id=-1,
        eos_id=-1,
        pad_id=-1,
        unk_id=0,
        minloglevel=2,
    )
    (folder / "spm.model").write_bytes(model.getvalue())
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    known = [pieces.id_to_piece(i) for i in range(1, pieces.get_piece_size())]
    text = "".join(f"{piece} 1\n" for piece in known)
    (folder / "dict.txt").write_text(text, encoding="utf-8")


def write_config(folder: Path, bins: int, augment: bool) -> None:
    """Write config.yaml like fairseq's own preparation; `augment` adds a light SpecAugment."""
    root = folder.resolve()
    config = {
        "audio_root": str(root),
        "vocab_filename": "dict.txt",
        "bpe_tokenizer": {"bpe": "sentencepiece", "sentencepiece_model": str(root / "spm.model")},
        "input_channels": 1,
        "input_feat_per_channel": bins,
        "shuffle": False,
        FEATURE_TRANSFORMS: {
            "*": ["utterance_cmvn"],
            "_train": ["utterance_cmvn", *(["specaugment"] if augment else [])],
        },
        "specaugment": {
            "freq_mask_N": 1,
            "freq_mask_F": bins // 5,
            "time_mask_N": 2,
            "time_mask_T": 20,
            "time_mask_p": 0.2,
        },
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
