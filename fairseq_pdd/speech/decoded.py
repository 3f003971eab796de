"""Audio of the ``speech_recognition`` example, read with what reads audio today."""

from typing import Any, Dict, List

import numpy as np
import torch
from fairseq.data import BaseWrapperDataset, FairseqDataset

from .examples import import_speech_recognition

SAMPLE_RATE = 16000
"""Rate in Hz that the example's features take for granted."""


class DecodedAudio(BaseWrapperDataset):
    """The example's data set with another reader of audio files.

    Its own is ``torchaudio.load_wav``, which torchaudio no longer has. Features are those of
    the example: log-mel energies of the 16-bit samples, each utterance normalised.

    Args:
        dataset: ``AsrDataset`` of the example.
    """

    def __init__(self, dataset: FairseqDataset) -> None:
        super().__init__(dataset)
        self._normalise = import_speech_recognition().data.data_utils.apply_mv_norm

    @property
    def ids(self) -> List[str]:
        """Names of the utterances."""
        names: List[str] = self.dataset.ids
        return names

    @property
    def sizes(self) -> np.ndarray:
        """Numbers of frames."""
        return np.asarray(self.dataset.frame_sizes)

    def __getitem__(self, index: int) -> Dict[str, Any]:
        """Features ``[T, D]`` and target of an utterance, in the form that the example collates."""
        import soundfile
        from torchaudio.compliance import kaldi

        samples, _ = soundfile.read(self.dataset.aud_paths[index], dtype="int16", always_2d=True)
        frames = kaldi.fbank(
            torch.from_numpy(samples.T).float(),
            num_mel_bins=self.dataset.num_mel_bins,
            frame_length=self.dataset.frame_length,
            frame_shift=self.dataset.frame_shift,
        )
        return {"id": index, "data": [self._normalise(frames), self.dataset.tgt[index]]}
