"""Audio of the ``speech_recognition`` example, read with soundfile.

Importing this module imports the example.
"""

from typing import Any, Dict, List

import numpy as np
import torch
from fairseq.data import BaseWrapperDataset

from ..errors import UsageError
from .examples import import_speech_recognition
from .utterances import require_finite

SAMPLE_RATE = 16000
"""Sample rate in Hz that the example's features assume."""

# Here and not in DecodedAudio: a process that unpickles the data set needs the example, too.
_example = import_speech_recognition()


class DecodedAudio(BaseWrapperDataset):
    """The example's data set ``AsrDataset`` with another reader of audio files.

    The example reads with ``torchaudio.load_wav``, which torchaudio removed. Features are those
    of the example: log-mel energies of the samples in units of 16 bits, normalised for each
    utterance. They do not depend on the type in which a file stores its samples.
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
        """Return features ``[T, D]`` and target of an utterance, as the example collates them.

        Raises:
            UsageError: the audio is damaged, or has samples that are NaN or infinite.
        """
        import soundfile
        from torchaudio.compliance import kaldi

        name, path = self.ids[index], self.dataset.aud_paths[index]
        try:
            # Samples of every type become floats in [-1, 1]; reading integers from a file of
            # floats would give zeros.
            with soundfile.SoundFile(path) as file:
                samples = file.read(dtype="float32", always_2d=True)
                if len(samples) != file.frames:
                    raise OSError(f"it ends after {len(samples):,} of {file.frames:,} samples")
        except (OSError, RuntimeError) as error:
            raise UsageError(
                f"utterance {name}: {path} cannot be decoded: {error}; create it again or remove "
                "the utterance"
            ) from error
        frames = kaldi.fbank(
            torch.from_numpy(2**15 * samples.T),
            num_mel_bins=self.dataset.num_mel_bins,
            frame_length=self.dataset.frame_length,
            frame_shift=self.dataset.frame_shift,
        )
        # In float32, the rounding of the mean would become large values where all frames are equal
        # (silence), as the example divides by a standard deviation of 1e-8.
        features = _example.data.data_utils.apply_mv_norm(frames.double()).float()
        require_finite(features, name, path)
        return {"id": index, "data": [features, self.dataset.tgt[index]]}
