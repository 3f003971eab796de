"""Interface of the data that a transfer set is built from, one class for each fairseq format."""

import shutil
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Dict, List, Mapping, Optional, Sequence, Type

GENERATED = "test"
"""Name of the subset in the folder that fairseq-generate reads. fairseq shuffles and augments
subsets of other names."""


class CorpusWriter(ABC):
    """Writer of the new training set; an index is the sentence's number in the corpus."""

    @abstractmethod
    def add_reference(self, index: int) -> None:
        """Add a sentence with its own target."""

    @abstractmethod
    def add_hypothesis(self, index: int, hypothesis: str) -> None:
        """Add a sentence with the ensemble's output as target."""

    @abstractmethod
    def close(self) -> None:
        """Finish the files."""

    def __enter__(self) -> "CorpusWriter":
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()


class Corpus(ABC):
    """A subset of a data folder, and sources of other folders behind its sentences."""

    extra: int = 0
    """Number of sentences of other folders, the last ones. Their targets, if any, are not used."""

    def keep_extra(self, count: int) -> None:
        """Keep only some sentences of other folders, evenly spread."""
        own = len(self) - self.extra
        selected = [own + i * self.extra // count for i in range(count)]
        self.extra = count
        self._select([*range(own), *selected])

    def _select(self, indices: Sequence[int]) -> None:
        """Keep only the sentences with these indices."""
        raise NotImplementedError(f"{type(self).__name__} has no sentences of other folders")

    generate_args: List[str]
    """Arguments with which fairseq-generate reads the folder."""

    hypothesis_lines: ClassVar[str]
    """Kind of fairseq-generate's lines that hold the hypotheses: ``H`` (symbols), ``D`` (text)."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of sentences."""

    @abstractmethod
    def tokens(self) -> int:
        """Return the size in the units of ``--max-tokens``."""

    @abstractmethod
    def writer(self, folder: Path) -> CorpusWriter:
        """Begin the training set in a folder."""

    @property
    @abstractmethod
    def has_references(self) -> bool:
        """True if every sentence has a target, those of other folders aside."""

    @abstractmethod
    def made_of(self, translated: bool) -> Dict[str, Any]:
        """Describe the content of all files that the set is made of, as JSON.

        Args:
            translated: include what only the ensemble reads.
        """

    @abstractmethod
    def stage(self, folder: Path) -> None:
        """Fill a new folder that fairseq-generate can read; its subset is ``GENERATED``."""

    @abstractmethod
    def copy_rest(self, folder: Path) -> None:
        """Copy the other files that training needs into a folder: dictionaries, other subsets."""


def copy_files(files: Mapping[str, Path], folder: Path) -> None:
    """Copy files into a folder by their new names.

    A link would change with the data: fairseq-preprocess writes into existing files.
    """
    for name, path in files.items():
        shutil.copyfile(path, folder / name)
