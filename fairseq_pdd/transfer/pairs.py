"""Text corpus: the binarised sentence pairs of fairseq-preprocess."""

from pathlib import Path
from typing import Optional, Tuple

import numpy as np
import torch
from fairseq.data import Dictionary, data_utils, indexed_dataset

from ..errors import UsageError
from .corpus import Corpus, CorpusWriter, link_files


class SentencePairCorpus(Corpus):
    """Sources and targets of a subset.

    Args:
        data: output folder of fairseq-preprocess.
        subset: name of the subset.
        source_lang: source language; inferred from the folder if not given.
        target_lang: target language; inferred from the folder if not given.

    Raises:
        UsageError: the folder does not hold this subset.
    """

    hypothesis_lines = "H"

    def __init__(
        self, data: Path, subset: str, source_lang: Optional[str], target_lang: Optional[str]
    ) -> None:
        if not (source_lang and target_lang):
            source_lang, target_lang = data_utils.infer_language_pair(str(data))
        if source_lang is None or target_lang is None:
            raise UsageError(
                f"{data} holds no binarised text to infer the languages from: give "
                "--source-lang and --target-lang"
            )
        self.data, self.languages = data, (source_lang, target_lang)
        self.pair = f"{source_lang}-{target_lang}"
        for language in self.languages:
            for name in (f"dict.{language}.txt", f"{subset}.{self.pair}.{language}.idx"):
                if not (data / name).is_file():
                    raise UsageError(
                        f"{data / name} does not exist: check --subset and the languages"
                    )
        self.dictionaries = [Dictionary.load(str(data / f"dict.{k}.txt")) for k in self.languages]
        self.sources, self.references = (
            data_utils.load_indexed_dataset(str(data / f"{subset}.{self.pair}.{language}"), symbols)
            for language, symbols in zip(self.languages, self.dictionaries)
        )
        self.generate_args = [
            "--task", "translation", "--source-lang", source_lang, "--target-lang", target_lang,
        ]  # fmt: skip

    def __len__(self) -> int:
        return len(self.sources)

    def tokens(self) -> int:
        """Return the number of tokens, for each pair that of the longer side."""
        return int(np.maximum(self.sources.sizes, self.references.sizes).sum())

    def writer(self, folder: Path) -> "_PairWriter":
        """Begin ``train.*`` in a folder."""
        return _PairWriter(self, folder)

    def link_rest(self, folder: Path) -> None:
        """Link dictionaries and held-out subsets."""

        def wanted(name: str) -> bool:
            held_out = f".{self.pair}." in name and not name.startswith("train.")
            return held_out or name.startswith("dict.")

        link_files(self.data, folder, wanted)


class _PairWriter(CorpusWriter):
    """Writer of two indexed data sets, source and target."""

    def __init__(self, corpus: SentencePairCorpus, folder: Path) -> None:
        self._corpus = corpus
        self._prefixes = [str(folder / f"train.{corpus.pair}.{name}") for name in corpus.languages]
        self._builders = [
            indexed_dataset.make_builder(f"{prefix}.bin", impl="mmap", vocab_size=len(dictionary))
            for prefix, dictionary in zip(self._prefixes, corpus.dictionaries)
        ]

    def add_reference(self, index: int) -> None:
        self._add((self._corpus.sources[index], self._corpus.references[index]))

    def add_hypothesis(self, index: int, hypothesis: str) -> None:
        dictionary = self._corpus.dictionaries[1]
        target = dictionary.encode_line(hypothesis, append_eos=True, add_if_not_exist=False)
        self._add((self._corpus.sources[index], target))

    def _add(self, items: Tuple[torch.Tensor, torch.Tensor]) -> None:
        for builder, item in zip(self._builders, items):
            builder.add_item(item)

    def close(self) -> None:
        for builder, prefix in zip(self._builders, self._prefixes):
            builder.finalize(f"{prefix}.idx")
