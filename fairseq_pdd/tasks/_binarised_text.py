"""Checks of data from fairseq-preprocess."""

import os
from typing import Any, Iterator, Sequence

from fairseq import utils
from fairseq.data import data_utils
from omegaconf import DictConfig

from ..checkpoints.dictionaries import dictionary_files
from ..checkpoints.fit import languages_of
from ..errors import UsageError
from ._data_source import DataSource


class BinarisedText(DataSource):
    """Checks of binarised data, mixed in before fairseq's task."""

    @classmethod
    def take_languages(cls, cfg: DictConfig, checkpoints: Sequence[str]) -> None:
        """Complete ``--source-lang`` and ``--target-lang``.

        The languages are those of the first checkpoint that has some, if the data folder has
        their dictionaries, and otherwise those of the first file in that folder. fairseq would
        take the latter even if one language is given.

        Raises:
            UsageError: one language is given, which is not of the data.
        """
        given = cfg.source_lang or None, cfg.target_lang or None
        data = utils.split_paths(cfg.data)[0] if cfg.data else ""
        if None not in given or not os.path.isdir(data):
            return
        inferred = tuple(data_utils.infer_language_pair(data))
        known = next(filter(None, map(languages_of, checkpoints)), None)
        if known is None or not all(
            os.path.isfile(os.path.join(data, f"dict.{language}.txt")) for language in known
        ):
            known = inferred
        found = [
            pair
            for pair in (known, known[::-1])
            if None not in pair and all(a in (None, b) for a, b in zip(given, pair))
        ]
        if found:
            cfg.source_lang, cfg.target_lang = found[0]
            if found[0] != inferred:  # which fairseq would use where the checkpoint is loaded
                _record_languages(cfg)
        elif any(given):
            raise UsageError(
                f"{data} has no language pair with {given[0] or given[1]}: give both "
                "--source-lang and --target-lang"
            )

    @classmethod
    def require_data(cls, cfg: DictConfig) -> None:
        """Raise :class:`UsageError` if there is no data folder or it lacks a dictionary."""
        data = utils.split_paths(cfg.data)[0] if cfg.data else None
        if data is None or not os.path.isdir(data):
            raise UsageError(
                f"data folder {data} does not exist: give the --destdir of fairseq-preprocess"
            )
        files = dictionary_files(cfg, data)
        if len(files) < 2:
            raise UsageError(
                f"{data} holds no binarised parallel data: give the --destdir of "
                "fairseq-preprocess, or --source-lang and --target-lang"
            )
        for path in files.values():
            if not os.path.isfile(path):
                raise UsageError(f"dictionary {path} does not exist: is {data} binarised data?")

    def load_dataset(self, split: str, *args: Any, combine: bool = False, **kwargs: Any) -> None:
        """Load a split, which must exist and not be empty; see fairseq for ``combine``."""
        empty = UsageError(
            f"subset '{split}' of {self.cfg.data} is empty: check the text that it was binarised "
            "from"
        )
        # with its default of -1, fairseq counts the sentences of the first set as negative
        if combine and self.cfg.upsample_primary < 1 and any(self._files(f"{split}1")):
            raise UsageError(
                f"fairseq joins '{split}' and '{split}1' of {self.cfg.data}, and cannot do so "
                f"with --upsample-primary {self.cfg.upsample_primary}: give --upsample-primary 1"
            )
        if self._is_empty_file(split):  # fairseq cannot map such a file into memory
            raise empty
        try:
            super().load_dataset(split, *args, combine=combine, **kwargs)
        except FileNotFoundError as error:
            raise UsageError(
                f"no subset '{split}' in {self.cfg.data}: {error} (fairseq-preprocess names them "
                "train, valid, test, test1, …)"
            ) from error
        if len(self.dataset(split)) == 0:
            raise empty

    def _is_empty_file(self, split: str) -> bool:
        return any(os.path.getsize(path) == 0 for path in self._files(split))

    def _files(self, split: str) -> Iterator[str]:
        """Yield the files of a split's first language, in either direction, that exist."""
        languages = getattr(self.cfg, "source_lang", None), getattr(self.cfg, "target_lang", None)
        for folder in utils.split_paths(self.cfg.data):
            for source, target in (languages, languages[::-1]):
                path = os.path.join(folder, f"{split}.{source}-{target}.{source}.bin")
                if os.path.isfile(path):
                    yield path


def _record_languages(cfg: DictConfig) -> None:
    """Set the languages in the configuration that checkpoints hold, of which ``cfg`` is a copy."""
    parent = cfg._get_parent()
    if isinstance(parent, DictConfig) and isinstance(parent.get("task"), DictConfig):
        parent.task.source_lang, parent.task.target_lang = cfg.source_lang, cfg.target_lang
