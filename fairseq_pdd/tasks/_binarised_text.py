"""Checks of data from fairseq-preprocess."""

import os
from typing import Any

from fairseq import utils
from omegaconf import DictConfig

from ..errors import UsageError
from ..teacher.dictionaries import dictionary_files
from ._data_source import DataSource


class BinarisedText(DataSource):
    """Checks of binarised data, mixed in before fairseq's task."""

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

    def load_dataset(self, split: str, *args: Any, **kwargs: Any) -> None:
        """Load a split, which must exist and not be empty."""
        empty = UsageError(
            f"subset '{split}' of {self.cfg.data} is empty: check the text that it was binarised "
            "from"
        )
        if self._is_empty_file(split):  # fairseq cannot map such a file into memory
            raise empty
        try:
            super().load_dataset(split, *args, **kwargs)
        except FileNotFoundError as error:
            raise UsageError(
                f"no subset '{split}' in {self.cfg.data}: {error} (fairseq-preprocess names them "
                "train, valid, test, test1, …)"
            ) from error
        if len(self.dataset(split)) == 0:
            raise empty

    def _is_empty_file(self, split: str) -> bool:
        languages = getattr(self.cfg, "source_lang", None), getattr(self.cfg, "target_lang", None)
        for folder in utils.split_paths(self.cfg.data):
            for source, target in (languages, languages[::-1]):
                path = os.path.join(folder, f"{split}.{source}-{target}.{source}.bin")
                if os.path.isfile(path) and os.path.getsize(path) == 0:
                    return True
        return False
