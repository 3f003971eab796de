"""Features of audio do not depend on the type in which a file stores its samples."""

import numpy as np
import pytest
import soundfile
import torch

from fairseq_pdd.errors import UsageError
from fairseq_pdd.speech.decoded import DecodedAudio, _example

from . import spoken

UTTERANCE = spoken.SPLITS["test"][0]
SAMPLES = np.round(2**15 * spoken.waveform(UTTERANCE).astype(float)) / 2**15


def features(path):
    """Return the features of one file, as the task gives them to a model."""
    example = object.__new__(_example.data.AsrDataset)
    vars(example).update(
        aud_paths=[str(path)], ids=["1-2-3"], tgt=[[5, 2]], num_mel_bins=80, frame_length=25.0,
        frame_shift=10.0,
    )  # fmt: skip
    return DecodedAudio(example)[0]["data"][0]


def write(folder, samples, subtype, kind="WAV"):
    path = folder / f"{subtype}.{kind.lower()}"
    soundfile.write(path, samples, spoken.RATE, subtype=subtype, format=kind)
    return path


@pytest.fixture
def expected(tmp_path):
    return features(write(tmp_path, SAMPLES, "PCM_16"))


@pytest.mark.parametrize(
    ("subtype", "kind"),
    [
        ("FLOAT", "WAV"), ("DOUBLE", "WAV"), ("PCM_24", "WAV"), ("PCM_32", "WAV"),
        ("PCM_16", "FLAC"), ("PCM_24", "FLAC"), ("FLOAT", "RF64"), ("DOUBLE", "AIFF"),
    ],
)  # fmt: skip
def test_lossless_types_give_the_features_of_16_bits(tmp_path, expected, subtype, kind):
    assert torch.equal(features(write(tmp_path, SAMPLES, subtype, kind)), expected)


@pytest.mark.parametrize(
    ("subtype", "kind", "error"),
    [("VORBIS", "OGG", 0.5), ("PCM_U8", "WAV", 0.3), ("ULAW", "WAV", 0.3), ("ALAW", "WAV", 0.3)],
)
def test_lossy_types_give_them_within_the_rounding(tmp_path, expected, subtype, kind, error):
    found = features(write(tmp_path, SAMPLES, subtype, kind))
    assert found.shape == expected.shape
    assert (found - expected).abs().mean() < error


def test_floats_above_one_are_not_clipped(tmp_path, expected):
    """Loudness adds a constant to log energies, which the normalisation removes."""
    for factor in (8, 2**15):
        found = features(write(tmp_path, factor * SAMPLES, "FLOAT"))
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_silence_gives_zeros(tmp_path, value):
    for length in (8000, 8500, 12345):
        found = features(write(tmp_path, np.full(length, value), "PCM_16"))
        assert not found.any()


def test_one_frame_gives_finite_features(tmp_path):
    found = features(write(tmp_path, SAMPLES[:400], "PCM_16"))
    assert found.shape == (1, 80)
    assert found.isfinite().all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_refused(tmp_path, value):
    path = write(tmp_path, np.where(np.arange(8000) == 700, value, 0.1), "FLOAT")
    with pytest.raises(UsageError, match=r"utterance 1-2-3: .*FLOAT\.wav .* NaN or infinite"):
        features(path)


def test_cut_audio_is_refused(tmp_path):
    path = write(tmp_path, SAMPLES, "PCM_16", "FLAC")
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(UsageError, match=r"utterance 1-2-3: .*PCM_16\.flac cannot be decoded"):
        features(path)
