"""Data sets of ``speech_to_text``, looked into."""

from typing import Iterator, List

from fairseq.data import BaseWrapperDataset, ConcatDataset, FairseqDataset
from fairseq.data.audio.feature_transforms.delta_deltas import DeltaDeltas
from fairseq.data.audio.feature_transforms.global_cmvn import GlobalCMVN
from fairseq.data.audio.feature_transforms.utterance_cmvn import UtteranceCMVN
from fairseq.data.audio.speech_to_text_dataset import SpeechToTextDataset

# all others are taken to be random
_FIXED_TRANSFORMS = (DeltaDeltas, GlobalCMVN, UtteranceCMVN)


def parts(dataset: FairseqDataset) -> Iterator[FairseqDataset]:
    """The data sets of single manifests in one that may join several."""
    if isinstance(dataset, ConcatDataset):
        for part in dataset.datasets:
            yield from parts(part)
    elif isinstance(dataset, BaseWrapperDataset):
        yield from parts(dataset.dataset)
    else:
        yield dataset


def augmentations(dataset: FairseqDataset) -> List[str]:
    """What makes an utterance differ from epoch to epoch; empty for other kinds of data, too."""
    found: List[str] = []
    for part in parts(dataset):
        if not isinstance(part, SpeechToTextDataset):
            continue
        for kind in (part.waveform_transforms, part.feature_transforms, part.dataset_transforms):
            transforms = [] if kind is None else kind.transforms
            found += [type(t).__name__ for t in transforms if not isinstance(t, _FIXED_TRANSFORMS)]
        if getattr(part.bpe_tokenizer, "enable_sampling", False):
            found.append("sampling of subwords")
    return sorted(set(found))
