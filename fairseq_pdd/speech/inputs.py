"""Check of every input that a manifest lists, before training starts; reads headers only."""

import io
import os
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Iterable, NamedTuple, Optional, Tuple

import numpy as np
from fairseq.data.audio.audio_utils import FEATURE_OR_SF_AUDIO_FILE_EXTENSIONS, parse_path
from tqdm import tqdm

from ..errors import UsageError

AUDIO_BINS = 80
"""Number of mel bins that fairseq computes from audio; no option changes it."""


class Utterance(NamedTuple):
    """An entry of a manifest."""

    name: str
    path: str
    """A file, or ``zip:offset:length`` as in fairseq's manifests."""
    transcript: Optional[str]
    """Transcript; ``None`` to skip its check."""


@dataclass(frozen=True)
class Expected:
    """Properties that inputs must have to fit the model.

    Args:
        dimension: number of features per frame; ``None`` for models that take the waveform.
        sample_rate: sample rate of audio in Hz; ``None`` if fairseq resamples.
        through_sox: whether fairseq's S2T reads the audio, which needs a part of torchaudio that
            newer versions do not have.
    """

    dimension: Optional[int]
    sample_rate: Optional[int]
    through_sox: bool


def check_inputs(utterances: Iterable[Utterance], manifest: str, expected: Expected) -> None:
    """Check the header and the transcript of every utterance.

    Args:
        utterances: entries of the manifest.
        manifest: path of the manifest, for messages.
        expected: properties that the inputs must have.

    Raises:
        UsageError: an input is missing or unreadable, differs from what is expected, or has an
            empty transcript.
    """
    listed = list(utterances)
    name = os.path.basename(manifest)
    with _Files() as files:
        for utterance in tqdm(listed, desc=f"checking {name}", disable=None, leave=False):
            problem = _problem(utterance, files, expected)
            if problem is not None:
                raise UsageError(f"{manifest}: utterance {utterance.name}: {problem}")


def _problem(utterance: Utterance, files: "_Files", expected: Expected) -> Optional[str]:
    if utterance.transcript is not None and not utterance.transcript.strip():
        return "its transcript is empty; remove it from the manifest"
    path = utterance.path
    try:
        part = files.open(path)
        if part.peek(2) == b"\x93N":
            return _features_problem(path, part, expected.dimension)
        return _audio_problem(path, part, expected)
    except FileNotFoundError:
        return f"{path} does not exist; fix the manifest, or audio_root in its config yaml"
    # NumPy and soundfile raise these for files that they cannot read
    except (OSError, ValueError, AssertionError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        return f"{path} cannot be read: {reason}; create it again or remove it from the manifest"


def _features_problem(path: str, part: "_Part", dimension: Optional[int]) -> Optional[str]:
    shape, size = _npy_header(part)
    if size > part.length:
        raise ValueError(f"it ends after {part.length:,} of {size:,} bytes")
    if dimension is None:
        return None
    if len(shape) != 2 or shape[1] != dimension:
        return (
            f"{path} holds features of shape {list(shape)}, the model takes frames of "
            f"{dimension}: compute features as for the teachers, or fix input_feat_per_channel "
            "in the config yaml"
        )
    if shape[0] == 0:
        return f"{path} holds no frame; remove it from the manifest"
    return None


def _npy_header(part: "_Part") -> Tuple[Tuple[int, ...], int]:
    """Return the shape and the size in bytes of a .npy file."""
    version = np.lib.format.read_magic(part)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    shape, _, dtype = read(part)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    return shape, part.tell() + int(np.prod(shape)) * dtype.itemsize


def _audio_problem(path: str, part: "_Part", expected: Expected) -> Optional[str]:
    import soundfile  # installed with fairseq_pdd[speech] only

    info = soundfile.info(part)
    if info.frames == 0:
        return f"{path} holds no sound; remove it from the manifest"
    if expected.sample_rate not in (None, info.samplerate):
        return (
            f"{path} has a sample rate of {info.samplerate:,} Hz instead of "
            f"{expected.sample_rate:,}: resample it, since fairseq does not"
        )
    if expected.dimension not in (None, AUDIO_BINS):
        return (
            f"{path} is audio, from which fairseq computes {AUDIO_BINS} features per frame, but "
            f"the model takes {expected.dimension}: store features (.npy) instead"
        )
    if expected.through_sox and not _has_sox():
        return (
            f"{path} is audio, which fairseq's S2T reads with torchaudio.sox_effects, but "
            "torchaudio 2.9 and later do not have it: store features (.npy) instead, or install "
            "fairseq_pdd with an older torchaudio"
        )
    return None


@lru_cache
def _has_sox() -> bool:
    return find_spec("torchaudio.sox_effects") is not None


class _Files:
    """Open files of utterances; an archive stays open while its utterances follow one another."""

    def __init__(self) -> None:
        self._path = ""
        self._file: Optional[IO[bytes]] = None

    def open(self, path: str) -> "_Part":
        file, place = parse_path(path)
        if not place and Path(file).suffix not in FEATURE_OR_SF_AUDIO_FILE_EXTENSIONS:
            kinds = ", ".join(sorted(FEATURE_OR_SF_AUDIO_FILE_EXTENSIONS))
            raise ValueError(f"fairseq reads {kinds}")
        if self._file is None or file != self._path:
            self.close()
            self._file, self._path = open(file, "rb"), file  # noqa: SIM115
        size = os.fstat(self._file.fileno()).st_size
        offset, length = place or (0, size)
        if offset + length > size:
            raise ValueError(f"{file} has {size:,} bytes")
        return _Part(self._file, offset, length)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> "_Files":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Part(io.RawIOBase):
    """A range of a file, as a file of its own; reads no more than is asked for."""

    def __init__(self, file: IO[bytes], offset: int, length: int) -> None:
        self._file, self._offset, self.length = file, offset, length
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.length}[whence]
        self._position = start + offset
        return self._position

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        self._file.seek(self._offset + self._position)
        data = self._file.read(max(0, min(len(buffer), self.length - self._position)))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def peek(self, size: int) -> bytes:
        data = self.read(size) or b""
        self.seek(0)
        return data
