"""Random augmentation in the data sets of ``speech_to_text``."""

from typing import Iterator, List

from fairseq.data import BaseWrapperDataset, ConcatDataset, FairseqDataset
from fairseq.data.audio.feature_transforms.global_cmvn import GlobalCMVN
from fairseq.data.audio.feature_transforms.utterance_cmvn import UtteranceCMVN
from fairseq.data.audio.speech_to_text_dataset import SpeechToTextDataset

TRANSFORMS = ("waveform_transforms", "feature_transforms", "dataset_transforms")
"""Attributes of a data set; official fairseq has the second one only."""

# all other transforms count as random
_FIXED_TRANSFORMS = (GlobalCMVN, UtteranceCMVN)


def manifest_datasets(dataset: FairseqDataset) -> Iterator[FairseqDataset]:
    """Yield the data set of each manifest in a data set that may join several."""
    if isinstance(dataset, ConcatDataset):
        for part in dataset.datasets:
            yield from manifest_datasets(part)
    elif isinstance(dataset, BaseWrapperDataset):
        yield from manifest_datasets(dataset.dataset)
    else:
        yield dataset


def augmentations(dataset: FairseqDataset) -> List[str]:
    """Return the names of the random transforms of a data set; none for other kinds of data."""
    found: List[str] = []
    for part in manifest_datasets(dataset):
        if not isinstance(part, SpeechToTextDataset):
            continue
        for name in TRANSFORMS:
            transforms = getattr(getattr(part, name, None), "transforms", [])
            found += [type(t).__name__ for t in transforms if not isinstance(t, _FIXED_TRANSFORMS)]
        if getattr(part.bpe_tokenizer, "enable_sampling", False):
            found.append("sampling of subwords")
    return sorted(set(found))
