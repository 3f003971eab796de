"""Source side of tasks that read what fairseq-preprocess wrote."""

import os
from typing import Any

import torch
from fairseq import utils
from fairseq.data import Dictionary
from omegaconf import DictConfig

from ..errors import UsageError
from ..teacher.dictionaries import dictionary_files
from ._data_source import DataSource


class _FastDictionary(Dictionary):
    """fairseq's dictionary; it takes the tokens out of a tensor at once.

    fairseq's own asks a tensor of each token several questions, so that the text of five
    hypotheses a sentence can take a sixth of a run of fairseq-generate.
    """

    def string(self, tensor: Any, *args: Any, **kwargs: Any) -> str:
        """Join symbols, as in fairseq."""
        is_row = torch.is_tensor(tensor) and tensor.dim() == 1
        text: str = super().string(tensor.tolist() if is_row else tensor, *args, **kwargs)
        return text


class BinarisedText(DataSource):
    """Checks of binarised data, mixed in before fairseq's task."""

    @classmethod
    def load_dictionary(cls, filename: str) -> Dictionary:
        """Load a dictionary that makes text of tensors as fast as of lists."""
        return _FastDictionary.load(filename)

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
        """Load a split, which must exist and hold something."""
        empty = UsageError(
            f"subset '{split}' of {self.cfg.data} is empty: check the text that it was binarised "
            "from"
        )
        if self._has_no_bytes(split):  # fairseq could not map such a file into memory
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

    def _has_no_bytes(self, split: str) -> bool:
        languages = getattr(self.cfg, "source_lang", None), getattr(self.cfg, "target_lang", None)
        for folder in utils.split_paths(self.cfg.data):
            for source, target in (languages, languages[::-1]):
                path = os.path.join(folder, f"{split}.{source}-{target}.{source}.bin")
                if os.path.isfile(path) and os.path.getsize(path) == 0:
                    return True
        return False
