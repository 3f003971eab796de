"""Data sets of manifests whose utterances have names, and numbers of their own when joined."""

from dataclasses import replace
from typing import Any, List, Sequence

import torch
from fairseq.data import BaseWrapperDataset, ConcatDataset, FairseqDataset

from ..errors import UsageError
from .augmentation import manifest_datasets


class Utterances(BaseWrapperDataset):
    """Utterances of one manifest of ``speech_to_text``, checked when they are read.

    Args:
        dataset: fairseq's data set of the manifest, or a random sample of it.
        ids: names of all utterances of the manifest.
        first: number of the first utterance of the manifest, in joined manifests.
    """

    def __init__(self, dataset: FairseqDataset, ids: Sequence[str], first: int = 0) -> None:
        super().__init__(dataset)
        (self._manifest,) = manifest_datasets(dataset)
        self.ids, self._first = list(ids), first

    def __getitem__(self, index: int) -> Any:
        """Return fairseq's item, with the utterance's number among all.

        Raises:
            UsageError: the file cannot be read any more, or the features are not finite.
        """
        try:
            item = self.dataset[index]
        except OSError as error:
            raise UsageError(
                f"an input of subset '{self._manifest.split}' cannot be read any more: {error}"
            ) from error
        name, path = self.ids[item.index], self._manifest.audio_paths[item.index]
        require_finite(item.source, name, path)
        return replace(item, index=item.index + self._first)


class JoinedUtterances(ConcatDataset):
    """Manifests that fairseq joins, ``--gen-subset a,b``; each utterance has a number of its own.

    fairseq numbers the utterances of each manifest from 0.

    Args:
        joined: fairseq's data set of several manifests.
    """

    def __init__(self, joined: ConcatDataset) -> None:
        parts: List[Utterances] = []
        self.ids: List[str] = []
        """Names of the utterances by number."""
        for part in joined.datasets:
            (manifest,) = manifest_datasets(part)
            parts.append(Utterances(part, manifest.ids, first=len(self.ids)))
            self.ids += manifest.ids
        super().__init__(parts)


def named(dataset: FairseqDataset) -> FairseqDataset:
    """Wrap fairseq's data set of one or several manifests."""
    if isinstance(dataset, ConcatDataset):
        return JoinedUtterances(dataset)
    return Utterances(dataset, dataset.ids)


def require_finite(features: torch.Tensor, name: str, path: str) -> None:
    """Raise :class:`UsageError` if features are not all finite.

    Args:
        features: features or samples of an utterance.
        name: its name.
        path: its file.
    """
    if not bool(torch.isfinite(features).all()):
        raise UsageError(
            f"utterance {name}: {path} gives features that are NaN or infinite: create it again "
            "or remove the utterance"
        )
