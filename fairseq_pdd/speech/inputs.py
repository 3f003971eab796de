"""A look at every input of a manifest before hours are spent: headers only, seconds an hour."""

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
"""Mel bins that fairseq computes from audio; no option changes it."""


class Utterance(NamedTuple):
    """An entry of a manifest."""

    name: str
    path: str
    """A file, or ``zip:offset:length`` as fairseq writes it."""
    transcript: Optional[str]
    """``None`` where it does not matter."""


@dataclass(frozen=True)
class Expected:
    """What the model is made for.

    Args:
        dimension: numbers in a frame; ``None`` for models that take the waveform.
        sample_rate: of audio, in Hz; ``None`` if fairseq resamples.
        through_sox: whether audio is read by fairseq's S2T, which wants a part of torchaudio
            that newer ones do not have.
    """

    dimension: Optional[int]
    sample_rate: Optional[int]
    through_sox: bool


def check_inputs(utterances: Iterable[Utterance], manifest: str, expected: Expected) -> None:
    """Look at every utterance's header and transcript.

    Args:
        utterances: entries of the manifest.
        manifest: its path, for messages.
        expected: what they should be.

    Raises:
        UsageError: one is missing, unreadable, of another kind than expected or says nothing.
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
        return "its transcript is empty; leave it out of the manifest"
    path = utterance.path
    try:
        part = files.open(path)
        if part.peek(2) == b"\x93N":
            return _features_problem(path, part, expected.dimension)
        return _audio_problem(path, part, expected)
    except FileNotFoundError:
        return f"{path} does not exist; mend the manifest, or audio_root in its config yaml"
    # whatever readers of files say of what they cannot read
    except (OSError, ValueError, AssertionError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        return f"{path} cannot be read: {reason}; make it anew or leave it out of the manifest"


def _features_problem(path: str, part: "_Part", dimension: Optional[int]) -> Optional[str]:
    shape, size = _npy_header(part)
    if size > part.length:
        raise ValueError(f"it ends after {part.length:,} of {size:,} bytes")
    if dimension is None:
        return None
    if len(shape) != 2 or shape[1] != dimension:
        return (
            f"{path} holds features of shape {list(shape)}, the model takes frames of "
            f"{dimension}: compute features as for the teachers, or mend input_feat_per_channel "
            "in the config yaml"
        )
    if shape[0] == 0:
        return f"{path} holds no frame; leave it out of the manifest"
    return None


def _npy_header(part: "_Part") -> Tuple[Tuple[int, ...], int]:
    """Shape, and size in bytes, of a .npy file."""
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
        return f"{path} holds no sound; leave it out of the manifest"
    if expected.sample_rate not in (None, info.samplerate):
        return (
            f"{path} has a sample rate of {info.samplerate:,} Hz and not of "
            f"{expected.sample_rate:,}: resample it, as fairseq does not"
        )
    if expected.dimension not in (None, AUDIO_BINS):
        return (
            f"{path} is audio, of which fairseq computes {AUDIO_BINS} features, and the model "
            f"takes frames of {expected.dimension}: store features instead"
        )
    if expected.through_sox and not _has_sox():
        return (
            f"{path} is audio, which fairseq's S2T reads with torchaudio.sox_effects, and "
            "torchaudio 2.9 and later have none: store features (.npy) instead, or install "
            "fairseq_pdd with an older torchaudio"
        )
    return None


@lru_cache
def _has_sox() -> bool:
    return find_spec("torchaudio.sox_effects") is not None


class _Files:
    """Opens utterances; of those in one archive the file is opened once."""

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
    """A stretch of a file as a file of its own, of which only what is read is touched."""

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
