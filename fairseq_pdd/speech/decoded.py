"""Audio of the ``speech_recognition`` example, read with soundfile.

Importing this module imports the example.
"""

from typing import Any, Dict, List

import numpy as np
import torch
from fairseq.data import BaseWrapperDataset

from .examples import import_speech_recognition

SAMPLE_RATE = 16000
"""Sample rate in Hz that the example's features assume."""

# Here and not in DecodedAudio: a process that unpickles the data set needs the example, too.
_example = import_speech_recognition()


class DecodedAudio(BaseWrapperDataset):
    """The example's data set ``AsrDataset`` with another reader of audio files.

    The example reads with ``torchaudio.load_wav``, which torchaudio removed. Features are those
    of the example: log-mel energies of the 16-bit samples, normalised for each utterance.
    """

    @property
    def ids(self) -> List[str]:
        """Names of the utterances."""
        names: List[str] = self.dataset.ids
        return names

    @property
    def sizes(self) -> np.ndarray:
        """Number of frames of each utterance."""
        return np.asarray(self.dataset.frame_sizes)

    def __getitem__(self, index: int) -> Dict[str, Any]:
        """Return features ``[T, D]`` and target of an utterance, as the example collates them."""
        import soundfile
        from torchaudio.compliance import kaldi

        samples, _ = soundfile.read(self.dataset.aud_paths[index], dtype="int16", always_2d=True)
        frames = kaldi.fbank(
            torch.from_numpy(samples.T).float(),
            num_mel_bins=self.dataset.num_mel_bins,
            frame_length=self.dataset.frame_length,
            frame_shift=self.dataset.frame_shift,
        )
        features = _example.data.data_utils.apply_mv_norm(frames)
        return {"id": index, "data": [features, self.dataset.tgt[index]]}
