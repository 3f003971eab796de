"""Log-mel features of clips. All have one sample rate, so that it does not reveal the set."""

from __future__ import annotations

import hashlib
import io
from functools import lru_cache

import numpy as np
import soundfile
import torch
import torchaudio
from torchaudio.compliance import kaldi
from utterances import SEED, InputError, Utterance

RATE = 8000  # that of the telephone prompts; the game has hardly anything above 2.7 kHz
MEL_BINS = 40


def waveform(utterance: Utterance) -> torch.Tensor:
    """Read a clip in one channel at RATE: float32, shape (samples,).

    Raises:
        InputError: the audio is missing, cannot be decoded, or has samples that are NaN or
            infinite.
    """
    source = utterance.audio
    where = utterance.name if isinstance(source, bytes) else source
    try:
        stream = io.BytesIO(source) if isinstance(source, bytes) else str(source)
        samples, rate = soundfile.read(stream, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise InputError(f"{where} cannot be read as audio: {error}") from None
    if not np.isfinite(samples).all():
        raise InputError(f"{where} has samples that are NaN or infinite: remove it")
    mono = torch.from_numpy(samples.mean(axis=1))
    return resampler(rate)(mono) if len(mono) else mono


@lru_cache
def resampler(rate: int) -> torchaudio.transforms.Resample:
    return torchaudio.transforms.Resample(rate, RATE)


def log_mel(samples: torch.Tensor) -> np.ndarray:
    """Compute Kaldi's log-mel energies, 100 frames per second: float32, (frames, MEL_BINS).

    The loudness of a clip adds a constant to them, which fairseq's utterance_cmvn removes.
    """
    # 16-bit units, as in Kaldi and fairseq
    return kaldi.fbank(samples[None] * 2**15, num_mel_bins=MEL_BINS, sample_frequency=RATE).numpy()


def add_noise(samples: torch.Tensor, name: str, decibels: float) -> torch.Tensor:
    """Add white noise at a signal-to-noise ratio; equal names give equal noise."""
    digest = hashlib.sha256(f"{SEED}\n{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    noise = torch.randn(samples.shape, generator=generator)
    scale = (samples.square().mean() / noise.square().mean()).sqrt()
    return samples + noise * scale * 10 ** (-decibels / 20)
