"""Check of every input that a manifest lists, before training starts; reads headers only."""

import io
import math
import os
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Iterable, NamedTuple, Optional, Tuple

import numpy as np
from fairseq.data.audio.audio_utils import FEATURE_OR_SF_AUDIO_FILE_EXTENSIONS, parse_path
from tqdm import tqdm

from .._requirements import require_extra
from ..errors import UsageError

AUDIO_BINS = 80
"""Number of mel bins that fairseq computes from audio; no option changes it."""

_WINDOW, _SHIFT = 0.025, 0.010  # seconds of a frame's window, and from frame to frame
# Of other types, the squares overflow in fairseq's utterance_cmvn: features become 0 in silence.
_FEATURE_TYPES = (np.dtype("float32"), np.dtype("float64"))
# first bytes by which fairseq recognises audio in a zip
_AUDIO_MAGIC = (b"RIF", b"fLa", b"Ogg")


class Utterance(NamedTuple):
    """An entry of a manifest."""

    name: str
    path: str
    """A file, or ``zip:offset:length`` as in fairseq's manifests."""
    transcript: Optional[str]
    """Transcript; ``None`` to skip its check."""
    frames: Optional[int] = None
    """Number of frames that the manifest lists; ``None`` to skip its check."""


@dataclass(frozen=True)
class Expected:
    """Properties that inputs must have to fit the model.

    Args:
        dimension: number of features per frame; ``None`` for models that take the waveform.
        sample_rate: sample rate of audio in Hz; ``None`` if fairseq resamples.
        through_sox: whether fairseq's S2T reads the inputs, which needs for audio a part of
            torchaudio that newer versions do not have. Else soundfile reads them: files of audio,
            of one channel.
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
        return "its transcript is empty; remove the utterance"
    path = utterance.path
    try:
        part = files.open(path)
        if expected.through_sox and not part.in_archive:
            _require_suffix(path)
        start = part.peek(3)
        if start[:2] == b"\x93N":
            return _features_problem(utterance, part, expected)
        if part.in_archive and not start.startswith(_AUDIO_MAGIC):
            raise ValueError("that part of the zip is neither .npy, WAV, FLAC nor Ogg")
        return _audio_problem(utterance, _soundfile().info(part), part.in_archive, expected)
    except FileNotFoundError:
        hint = ", or audio_root in its config yaml" if expected.through_sox else ""
        return f"{path} does not exist; fix the path{hint}"
    except UsageError:
        raise
    except Exception as error:  # NumPy and soundfile raise many types for what they cannot read
        reason = " ".join(str(error).split())[:200]
        return f"{path} cannot be read: {reason}; create it again or remove the utterance"


def _require_suffix(path: str) -> None:
    if Path(path).suffix not in FEATURE_OR_SF_AUDIO_FILE_EXTENSIONS:
        kinds = ", ".join(sorted(FEATURE_OR_SF_AUDIO_FILE_EXTENSIONS))
        raise ValueError(f"fairseq reads {kinds}")


def _soundfile() -> Any:
    require_extra("speech", "audio")
    try:
        import soundfile
    except OSError as error:
        raise UsageError(
            f"soundfile cannot be imported: {error}; install the library libsndfile"
        ) from error
    return soundfile


def _features_problem(utterance: Utterance, part: "_Part", expected: Expected) -> Optional[str]:
    path, dimension = utterance.path, expected.dimension
    if not expected.through_sox:
        return f"{path} holds features, but the task computes its own: list audio"
    if not part.in_archive and (Path(path).suffix != ".npy" or dimension is None):
        kind = "a waveform" if dimension is None else "audio"
        raise ValueError(f"fairseq takes it for {kind}, but it is a .npy array")
    shape, dtype, size = _npy_header(part)
    if size > part.length:
        raise ValueError(f"it ends after {part.length:,} of {size:,} bytes")
    if dtype not in _FEATURE_TYPES:
        return (
            f"{path} holds numbers of type {dtype}, with which fairseq does not compute right: "
            "save them as float32"
        )
    frames = (dimension,) if dimension is not None else ()
    if shape[1:] != frames or len(shape) != 1 + len(frames):
        takes = "samples" if dimension is None else f"frames of {dimension}"
        return (
            f"{path} holds features of shape {list(shape)}, the model takes {takes}: compute "
            "features as for the teachers, or fix input_feat_per_channel in the config yaml"
        )
    if shape[0] < 1:
        return f"{path} holds no frame; remove the utterance"
    # fairseq's older scripts compute n_frames from rounded milliseconds
    if utterance.frames is not None and abs(shape[0] - utterance.frames) > 1:
        return (
            f"{path} holds {shape[0]:,} frames, n_frames is {utterance.frames:,}: fix the one that "
            "is wrong"
        )
    return None


def _npy_header(part: "_Part") -> Tuple[Tuple[int, ...], np.dtype, int]:
    """Return the shape, the type and the size in bytes of a .npy file."""
    version = np.lib.format.read_magic(part)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"version {version} of the .npy format is not for plain numbers")
    shape, _, dtype = read(part)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    return shape, dtype, part.tell() + math.prod(shape) * dtype.itemsize


def _audio_problem(
    utterance: Utterance, info: Any, in_archive: bool, expected: Expected
) -> Optional[str]:
    """Return the problem of audio.

    Args:
        utterance: entry of the manifest.
        info: header of the audio, from soundfile.
        in_archive: whether it is a part of a zip.
        expected: properties that it must have.
    """
    path = utterance.path
    if info.frames == 0:
        return f"{path} holds no sound; remove the utterance"
    if not in_archive and Path(path).suffix == ".npy":
        raise ValueError("fairseq takes it for a .npy array, but it is audio")
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
    if expected.dimension is not None and info.frames < round(_WINDOW * info.samplerate):
        return f"{path} is shorter than one frame of {1000 * _WINDOW:g} ms; remove the utterance"
    if not expected.through_sox:
        return _decoded_problem(utterance, info, in_archive)
    if not _has_sox():
        return (
            f"{path} is audio, which fairseq's S2T reads with torchaudio.sox_effects, but "
            "torchaudio 2.9 and later do not have it: store features (.npy) instead, or install "
            "fairseq_pdd with an older torchaudio"
        )
    return None


def _decoded_problem(utterance: Utterance, info: Any, in_archive: bool) -> Optional[str]:
    """Return the problem of audio that soundfile decodes."""
    path = utterance.path
    if in_archive:
        return f"{path} is a part of a zip, which this task does not read: list a file of its own"
    if info.channels != 1:
        return (
            f"{path} has {info.channels} channels, of which features would show the first only: "
            "convert it to one channel"
        )
    frames = 1 + int((info.frames / info.samplerate - _WINDOW) / _SHIFT)
    # length_ms is rounded
    if utterance.frames is not None and abs(frames - utterance.frames) > 1:
        milliseconds = round(1000 * info.frames / info.samplerate)
        return (
            f"{path} has {milliseconds:,} ms, which its length_ms does not match: fix the one "
            "that is wrong"
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
        if self._file is None or file != self._path:
            self.close()
            self._file, self._path = open(file, "rb"), file  # noqa: SIM115
        size = os.fstat(self._file.fileno()).st_size
        if place and not file.endswith(".zip"):
            raise ValueError("fairseq reads parts of .zip files only")
        offset, length = place or (0, size)
        if min(offset, length) < 0 or offset + length > size:
            raise ValueError(f"{file} has {size:,} bytes")
        return _Part(self._file, offset, length, in_archive=bool(place))

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

    def __init__(self, file: IO[bytes], offset: int, length: int, in_archive: bool) -> None:
        self._file, self._offset, self.length = file, offset, length
        self.in_archive = in_archive
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
