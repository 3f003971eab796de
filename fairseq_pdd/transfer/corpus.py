"""Data that an ensemble makes a transfer set of, in whatever format of fairseq."""

import os
import shutil
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Callable, ClassVar, List, Optional, Type


class Writer(ABC):
    """Writes the new training set: what is added is numbered as in the corpus."""

    @abstractmethod
    def add_reference(self, index: int) -> None:
        """Add a sentence with its own target."""

    @abstractmethod
    def add_hypothesis(self, index: int, hypothesis: str) -> None:
        """Add a sentence with what the ensemble says."""

    @abstractmethod
    def close(self) -> None:
        """Finish the files."""

    def __enter__(self) -> "Writer":
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
    """How fairseq-generate is to read the folder."""

    hypothesis_lines: ClassVar[str]
    """Lines of its output to take hypotheses from: ``H`` (symbols) or ``D`` (text)."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of sentences."""

    @abstractmethod
    def tokens(self) -> int:
        """Return the size as ``--max-tokens`` counts it."""

    @abstractmethod
    def writer(self, folder: Path) -> Writer:
        """Begin the training set in a folder."""

    @abstractmethod
    def link_rest(self, folder: Path) -> None:
        """Put beside it what training needs: dictionaries, other subsets."""


def link_files(source: Path, folder: Path, wanted: Callable[[str], bool]) -> None:
    """Link the files with wanted names; validation data can be large."""
    for path in sorted(source.iterdir()):
        if path.is_file() and wanted(path.name):
            try:
                os.link(path.resolve(), folder / path.name)
            except OSError:  # another file system
                shutil.copyfile(path, folder / path.name)
