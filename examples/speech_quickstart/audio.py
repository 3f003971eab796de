"""Log-mel features of utterances. All have one sample rate, so that it does not reveal the set."""

from __future__ import annotations

import hashlib
import io
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio
from scipy.signal import butter, sosfilt
from torchaudio.compliance import kaldi
from utterances import SEED, InputError, Utterance

RATE = 8000  # that of the telephone prompts
TELEPHONE = (300, 3400)  # Hz
MEL_BINS = 40


def waveform(utterance: Utterance) -> torch.Tensor:
    """Read an utterance in one channel at RATE, with all changes to it: float32, (samples,).

    Raises:
        InputError: the audio is missing, cannot be decoded, or has samples that are NaN or
            infinite.
    """
    source = utterance.audio() if callable(utterance.audio) else utterance.audio
    where = source if isinstance(source, Path) else utterance.name
    try:
        stream = io.BytesIO(source) if isinstance(source, bytes) else str(source)
        samples, rate = soundfile.read(stream, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise InputError(f"{where} cannot be read as audio: {error}") from None
    if not np.isfinite(samples).all():
        raise InputError(f"{where} has samples that are NaN or infinite: remove it")
    mono = torch.from_numpy(samples.mean(axis=1))
    if not len(mono):
        return mono
    mono = resampler(rate)(mono)
    if utterance.speed != 1:
        mono, _ = torchaudio.functional.speed(mono, RATE, utterance.speed)
    if utterance.telephone:
        mono = telephone(mono)
    if utterance.snr is None:
        return mono
    return add_noise(mono, utterance.name, utterance.snr, utterance.pink)


@lru_cache
def resampler(rate: int) -> torchaudio.transforms.Resample:
    return torchaudio.transforms.Resample(rate, RATE)


def log_mel(samples: torch.Tensor) -> np.ndarray:
    """Compute Kaldi's log-mel energies, 100 frames per second: float32, (frames, MEL_BINS).

    The loudness of a clip adds a constant to them, which fairseq's utterance_cmvn removes.
    """
    # 16-bit units, as in Kaldi and fairseq
    return kaldi.fbank(samples[None] * 2**15, num_mel_bins=MEL_BINS, sample_frequency=RATE).numpy()


def telephone(samples: torch.Tensor) -> torch.Tensor:
    """Remove what is outside of the band of a telephone."""
    band = butter(8, TELEPHONE, "bandpass", fs=RATE, output="sos")
    return torch.from_numpy(sosfilt(band, samples.numpy()).astype(np.float32))


def add_noise(
    samples: torch.Tensor, name: str, decibels: float, pink: bool = False
) -> torch.Tensor:
    """Add noise at a signal-to-noise ratio, white or pink; equal names give equal noise."""
    digest = hashlib.sha256(f"{SEED}\n{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    noise = torch.randn(samples.shape, generator=generator)
    if pink:  # the power falls with 1 / frequency
        spectrum = torch.fft.rfft(noise)
        spectrum[0] = 0
        spectrum[1:] /= torch.arange(1, len(spectrum)).sqrt()
        noise = torch.fft.irfft(spectrum, len(noise))
    scale = (samples.square().mean() / noise.square().mean()).sqrt()
    return samples + noise * scale * 10 ** (-decibels / 20)
