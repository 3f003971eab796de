#!/usr/bin/env python3
"""Train one SentencePiece model on both sides of the training text and apply it to every set."""

import argparse
import os
from pathlib import Path

import sentencepiece


def train(text: Path, languages: list[str], model: Path, vocabulary: int) -> None:
    """Write ``model`` unless it exists; the file has this name only when complete."""
    if model.exists():
        return
    prefix = model.with_suffix(".partial")
    sentencepiece.SentencePieceTrainer.train(
        input=[str(text / f"train.{language}") for language in languages],
        model_prefix=str(prefix),
        vocab_size=vocabulary,
        character_coverage=1.0,
        # fairseq's dictionary has the other special symbols
        bos_id=-1,
        eos_id=-1,
        pad_id=-1,
        unk_id=0,
        hard_vocab_limit=False,
        minloglevel=1,
    )
    os.replace(f"{prefix}.model", model)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text", type=Path, help="folder with train.XX and other sets")
    parser.add_argument("out", type=Path, help="folder for spm.model and the encoded sets")
    parser.add_argument("--languages", nargs=2, required=True, metavar=("SOURCE", "TARGET"))
    parser.add_argument("--vocabulary", type=int, default=4000, help="subwords, shared by both")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    model = args.out / "spm.model"
    train(args.text, args.languages, model, args.vocabulary)
    encoder = sentencepiece.SentencePieceProcessor(model_file=str(model))
    for language in args.languages:
        for path in sorted(args.text.glob(f"*.{language}")):
            with open(path, encoding="utf-8", newline="\n") as stream:
                lines = encoder.encode([line.rstrip("\n") for line in stream], out_type=str)
            text = "".join(" ".join(pieces) + "\n" for pieces in lines)
            (args.out / path.name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
