"""Interface of the data that a transfer set is built from, one class for each fairseq format."""

import os
import shutil
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Callable, ClassVar, List, Optional, Type


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
    """A subset of a data folder."""

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

    @abstractmethod
    def link_rest(self, folder: Path) -> None:
        """Link the other files that training needs into a folder: dictionaries, other subsets."""


def link_files(source: Path, folder: Path, wanted: Callable[[str], bool]) -> None:
    """Link the files with wanted names into a folder, or copy them where links do not work."""
    for path in sorted(source.iterdir()):
        if path.is_file() and wanted(path.name):
            try:
                os.link(path.resolve(), folder / path.name)
            except OSError:  # another file system
                shutil.copyfile(path, folder / path.name)
