"""Text corpus: the binarised data of fairseq-preprocess."""

import os
import re
import struct
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from fairseq.data import ConcatDataset, Dictionary, ListDataset, data_utils, indexed_dataset
from torch.utils.data import Subset

from ..errors import UsageError
from ..teacher.cache.content import files_sha256
from .corpus import GENERATED, Corpus, CorpusWriter, copy_files

_FILE = re.compile(r"(?P<split>.+)\.(?P<pair>[^.]+-[^.]+)\.(?P<language>[^.]+)\.(bin|idx)")


class _Part(NamedTuple):
    """A subset: its name, and the paths of its sides without ``.idx`` and ``.bin``."""

    name: str
    source: Path
    target: Optional[Path]


class SentencePairCorpus(Corpus):
    """Sources of a subset, and their targets if the data has some.

    fairseq-train joins train1, train2 and so on to train, so they are joined here, too.

    Args:
        data: output folder of fairseq-preprocess.
        subset: name of the subset.
        source_lang: source language; the files may be named for the opposite direction.
        target_lang: target language.
        extra_sources: folders whose subset of the same name adds sources.

    Raises:
        UsageError: a folder does not hold this subset or a dictionary, or the dictionaries of the
            source differ.
    """

    hypothesis_lines = "H"

    def __init__(
        self,
        data: Path,
        subset: str,
        source_lang: str,
        target_lang: str,
        extra_sources: Sequence[Path] = (),
    ) -> None:
        self.data, self.languages = data, (source_lang, target_lang)
        self.pair = f"{source_lang}-{target_lang}"
        for language in self.languages:
            if not (data / f"dict.{language}.txt").is_file():
                raise UsageError(
                    f"{data / f'dict.{language}.txt'} does not exist: check the languages "
                    "(--source-lang and --target-lang; by default those of the first member), or "
                    "copy the dictionary of the ensemble's data"
                )
        self.dictionaries = [_dictionary(data / f"dict.{k}.txt") for k in self.languages]
        own = self._series(data, subset)
        if not own:
            raise UsageError(
                f"{data / f'{subset}.{self.pair}.{source_lang}.idx'} does not exist: check "
                "--subset and the languages"
            )
        others = [part for folder in extra_sources for part in self._extra(folder, subset)]
        self._own, self._others = own, others
        self.sources = self._load([part.source for part in (*own, *others)], 0)
        self.extra = sum(len(self._load([part.source], 0)) for part in others)
        found = [part.target for part in own if part.target is not None]
        self.references = self._load(found, 1) if len(found) == len(own) else None
        referenced = len(self.sources) - self.extra
        if self.references is not None and len(self.references) != referenced:
            raise UsageError(
                f"'{subset}' of {data} has {referenced:,} sources and "
                f"{len(self.references):,} targets: run fairseq-preprocess again"
            )
        if referenced == 0:
            raise UsageError(f"subset '{subset}' of {data} is empty")
        self.generate_args = [
            "--task", "distill_translation",
            "--source-lang", source_lang, "--target-lang", target_lang,
        ]  # fmt: skip

    def _series(self, folder: Path, subset: str) -> List["_Part"]:
        """Return the subsets that fairseq-train joins."""
        joins = subset.startswith("train") and not subset[-1].isdigit()
        parts: List[_Part] = []
        while joins or not parts:
            name = f"{subset}{len(parts) or ''}"
            source, target = (self._prefix(folder, name, language) for language in self.languages)
            if source is None:
                break
            parts.append(_Part(name, source, target))
        return parts

    def _extra(self, folder: Path, subset: str) -> List["_Part"]:
        """Return the sources of another folder."""
        language = self.languages[0]
        path = folder / f"dict.{language}.txt"
        parts = self._series(folder, subset)
        if not parts:
            raise UsageError(
                f"{folder} holds no sources '{subset}' in {language} (--extra-source): write them "
                "with fairseq-preprocess --only-source --trainpref"
            )
        if not path.is_file() or _dictionary(path) != self.dictionaries[0]:
            raise UsageError(
                f"{path} is not the dictionary of {self.data}: run fairseq-preprocess with "
                f"--srcdict {self.data / path.name}"
            )
        return parts

    def _prefix(self, folder: Path, subset: str, language: str) -> Optional[Path]:
        """Find a side of a subset like fairseq, which accepts files of the opposite direction."""
        source, target = self.languages
        for pair in (f"{source}-{target}", f"{target}-{source}", f"{source}-None"):
            prefix = folder / f"{subset}.{pair}.{language}"
            if indexed_dataset.dataset_exists(str(prefix), impl=None):
                return prefix
        return None

    def _load(self, prefixes: Sequence[Path], side: int) -> Any:
        parts = []
        for prefix in prefixes:
            require_intact(str(prefix), self.dictionaries[side])
            try:
                data = data_utils.load_indexed_dataset(str(prefix), self.dictionaries[side])
            except (OSError, ValueError, AssertionError, RuntimeError) as error:
                raise UsageError(
                    f"{prefix}.idx or .bin is damaged ({error}): run fairseq-preprocess again"
                ) from error
            if data is None:
                raise UsageError(f"{prefix}.idx is no data of fairseq-preprocess")
            parts.append(data)
        return parts[0] if len(parts) == 1 else ConcatDataset(parts)

    def __len__(self) -> int:
        return len(self.sources)

    def _select(self, indices: Sequence[int]) -> None:
        sizes = np.asarray(self.sources.sizes)[indices]
        self.sources = ListDataset(Subset(self.sources, indices), sizes)

    def tokens(self) -> int:
        """Return the number of source tokens."""
        return int(self.sources.sizes.sum())

    @property
    def has_references(self) -> bool:
        """True if every sentence has a target."""
        return self.references is not None

    def made_of(self, translated: bool) -> Dict[str, Any]:
        """Describe dictionaries, sentences and held-out subsets."""
        sides = {
            f"{part.name} {language}": prefix
            for part in self._own
            for language, prefix in zip(self.languages, (part.source, part.target))
            if prefix is not None
        }
        sides.update({f"extra source {k}": part.source for k, part in enumerate(self._others)})
        files = {
            f"{name}{ending}": Path(f"{prefix}{ending}")
            for name, prefix in sides.items()
            for ending in (".bin", ".idx")
        }
        return {
            "languages": list(self.languages),
            "files": files_sha256({**files, **self._rest()}, "reading data"),
        }

    def stage(self, folder: Path) -> None:
        """Write the sources of all joined subsets as one subset without targets."""
        source = self.languages[0]
        prefix = folder / f"{GENERATED}.{self.pair}.{source}"
        builder = _builder(prefix, self.dictionaries[0])
        for i in range(len(self.sources)):
            builder.add_item(self.sources[i])
        builder.finalize(f"{prefix}.idx")
        copy_files({name: path for name, path in self._rest().items() if "dict." in name}, folder)

    def writer(self, folder: Path) -> "_PairWriter":
        """Begin ``train.*`` in a folder."""
        return _PairWriter(self, folder)

    def copy_rest(self, folder: Path) -> None:
        """Copy dictionaries and held-out subsets, named for the direction of this corpus."""
        copy_files(self._rest(), folder)

    def _rest(self) -> Dict[str, Path]:
        """Return the files that go into the set as they are, by their names there."""
        files = {f"dict.{name}.txt": self.data / f"dict.{name}.txt" for name in self.languages}
        for subset in sorted(self._other_subsets()):
            prefixes = {name: self._prefix(self.data, subset, name) for name in self.languages}
            for language, prefix in prefixes.items():
                if None in prefixes.values():  # no targets, so training cannot use it
                    continue
                for ending in (".bin", ".idx"):
                    files[f"{subset}.{self.pair}.{language}{ending}"] = Path(f"{prefix}{ending}")
        return files

    def _other_subsets(self) -> "set[str]":
        matches = (_FILE.fullmatch(path.name) for path in self.data.iterdir())
        names = {match["split"] for match in matches if match is not None}
        # training would join train1 to the new train
        return {name for name in names if not re.fullmatch(r"train\d*", name)}


def require_intact(prefix: str, dictionary: Dictionary) -> None:
    """Require that an indexed data set is complete and that its numbers are in the dictionary.

    fairseq reads a sentence when it is needed, and fails then. Data of other types than ``mmap``,
    fairseq-preprocess's default, are not checked.

    Args:
        prefix: path of the files without ``.idx`` and ``.bin``.
        dictionary: dictionary of the side.

    Raises:
        UsageError: a file is cut short, or a number is beyond the dictionary.
    """
    if indexed_dataset.infer_dataset_impl(prefix) != "mmap":
        return
    try:
        index = indexed_dataset.MMapIndexedDataset.Index(f"{prefix}.idx")
        if len(index) == 0:
            return
        last, size = index[len(index) - 1]
        if os.path.getsize(f"{prefix}.bin") < last + size * np.dtype(index.dtype).itemsize:
            raise ValueError(f"{prefix}.bin is too short")
        largest = int(np.memmap(f"{prefix}.bin", mode="r", dtype=index.dtype).max())
    except (OSError, ValueError, KeyError, struct.error) as error:
        raise UsageError(
            f"{prefix}.idx or .bin is damaged ({error}): run fairseq-preprocess again"
        ) from error
    if largest >= len(dictionary):
        raise UsageError(
            f"{prefix}.bin holds number {largest:,} and its dictionary has {len(dictionary):,} "
            "types: they are of different runs of fairseq-preprocess; give the dictionary of the "
            "ensemble (--srcdict, --tgtdict) and run it again"
        )


def infer_languages(data: Path) -> Optional[Tuple[str, str]]:
    """Return the languages in the names of the data's files."""
    source, target = data_utils.infer_language_pair(str(data))
    return None if source is None or target is None else (source, target)


def _dictionary(path: Path) -> Dictionary:
    try:
        return Dictionary.load(str(path))
    except (ValueError, UnicodeError, RuntimeError) as error:
        raise UsageError(f"{path} is no dictionary of fairseq: {error}") from error


def _builder(prefix: Path, dictionary: Dictionary) -> Any:
    return indexed_dataset.make_builder(f"{prefix}.bin", impl="mmap", vocab_size=len(dictionary))


class _PairWriter(CorpusWriter):
    """Writer of two indexed data sets, source and target."""

    def __init__(self, corpus: SentencePairCorpus, folder: Path) -> None:
        self._corpus = corpus
        self._prefixes = [folder / f"train.{corpus.pair}.{name}" for name in corpus.languages]
        self._builders: List[Any] = [
            _builder(prefix, dictionary)
            for prefix, dictionary in zip(self._prefixes, corpus.dictionaries)
        ]

    def add_reference(self, index: int) -> None:
        assert self._corpus.references is not None
        self._add((self._corpus.sources[index], self._corpus.references[index]))

    def add_hypothesis(self, index: int, hypothesis: str) -> None:
        dictionary = self._corpus.dictionaries[1]
        target = dictionary.encode_line(
            hypothesis,
            # symbols may hold characters that Python takes for spaces
            line_tokenizer=lambda line: line.split(" "),
            append_eos=True,
            add_if_not_exist=False,
        )
        self._add((self._corpus.sources[index], target))

    def _add(self, items: Tuple[torch.Tensor, torch.Tensor]) -> None:
        for builder, item in zip(self._builders, items):
            builder.add_item(item)

    def close(self) -> None:
        for builder, prefix in zip(self._builders, self._prefixes):
            builder.finalize(f"{prefix}.idx")
