"""Writers of the record format: one JSON object per hypothesis and line."""

import os
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Dict, Iterator, List, Optional, Type

import numpy as np
import orjson

from ..errors import UsageError
from .fields import LARGEST
from .files import cannot_write, create, is_special, open_locked

PARTIAL_SUFFIX = ".partial"
_NUMBERS = (float, np.floating, np.ndarray)
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE


def make_record(
    sample_id: int,
    rank: int,
    source: Optional[str],
    reference: Optional[str],
    hypothesis: str,
    tokens: List[str],
    scores: Dict[str, Any],
    utterance: Optional[str] = None,
) -> Dict[str, Any]:
    """Make the JSON object of one hypothesis.

    Args:
        sample_id: position of the sentence in its data set, as in fairseq's ``S-``/``H-`` lines.
        rank: place in the n-best list, from 0.
        source: detokenised source; ``None`` where the source is no text.
        reference: detokenised reference.
        hypothesis: detokenised output, as in fairseq's ``D-`` line.
        tokens: symbols of the output, end-of-sequence included.
        scores: uncertainty: ``log_prob``, ``sequence``, ``token`` and, for an ensemble, ``expr``.
        utterance: name of the sentence, for data that has names.
    """
    return {
        "id": sample_id,
        **({} if utterance is None else {"utterance": utterance}),
        "rank": rank,
        "source": source,
        "reference": reference,
        "hypothesis": hypothesis,
        "tokens": tokens,
        **scores,
    }


def dumps(record: Dict[str, Any]) -> bytes:
    """Serialise a record to one line, with the digits that identify each number in float32.

    JSON has no infinity: the largest number of float32, with its sign, is written for what exceeds
    it. The reader reads that number as infinite.

    Raises:
        UsageError: a value is NaN; names sentence and measure.
    """
    try:
        return orjson.dumps(_in_float32(record), option=_OPTIONS)
    except _NaNError as error:
        raise UsageError(
            f"sentence {record.get('id')}, hypothesis {record.get('rank')}: {error} is NaN: a "
            "model's outputs are NaN; look for weights that are, and generate with another "
            "checkpoint"
        ) from error


class _NaNError(ValueError):
    """A number that no record can hold; the message is its name."""


def _in_float32(record: Dict[str, Any]) -> Dict[str, Any]:
    return {
        key: _in_float32_block(value, key)
        if isinstance(value, dict)
        else _bounded(value, key)
        if isinstance(value, _NUMBERS)
        else value
        for key, value in record.items()
    }


def _in_float32_block(block: Dict[str, Any], name: str) -> Dict[str, Any]:
    """Convert a record's values of measures; ``None`` remains."""
    return {
        key: _in_float32_block(value, f"{name}.{key}")
        if isinstance(value, dict)
        else value
        if value is None
        else _bounded(value, f"{name}.{key}")
        for key, value in block.items()
    }


def _bounded(values: Any, name: str) -> Any:
    """Convert a number or numbers to float32, and what exceeds it to the largest number."""
    if isinstance(values, float) and -LARGEST <= values <= LARGEST:
        return np.float32(values)
    if isinstance(values, np.ndarray) and values.dtype == np.float32 and np.isfinite(values).all():
        return values
    bounded = np.clip(np.asarray(values, np.float64), -LARGEST, LARGEST).astype(np.float32)
    if np.isnan(bounded).any():
        raise _NaNError(name)
    return bounded if bounded.ndim else bounded[()]


class _FileWriter:
    """Writer of lines to a locked file, or directly to a device or a pipe.

    Raises:
        UsageError: the file cannot be written, or another process writes it.
    """

    def __init__(self, path: str, suffix: str = "") -> None:
        self.path = path
        self._is_special = is_special(path)
        # the end of symbolic links, which stay as they are
        self._target = path if self._is_special else os.path.realpath(path)
        if self._is_special:
            self._stream = create(path, path)
        else:
            self._stream = open_locked(path, self._target + suffix)

    def write(self, record: Dict[str, Any]) -> None:
        """Append one record.

        Raises:
            UsageError: the file cannot be written, such as on a full disk.
        """
        line = dumps(record)
        with self._errors_of_the_system():
            self._stream.write(line)

    @contextmanager
    def _errors_of_the_system(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            with suppress(OSError):  # writes what is in the buffer
                self._stream.close()
            raise cannot_write(self.path, error) from error


class JsonLinesWriter(_FileWriter):
    """Writer to a file that appears under its name only when it is complete.

    Until :meth:`close` the lines are in ``<path>.partial``, which remains if the run dies, and
    which the same run overwrites when it is started again. An older file of that name stays
    untouched until then. A device or a pipe is written directly.

    Raises:
        UsageError: the file cannot be written, or another process writes it.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path, PARTIAL_SUFFIX)
        if not self._is_special:
            self._stream.truncate(0)

    def close(self) -> None:
        """Finish the file and give it its name.

        Raises:
            UsageError: the file cannot be written, such as on a full disk.
        """
        with self._errors_of_the_system():
            self._stream.flush()
            if not self._is_special:
                os.fsync(self._stream.fileno())
                # before the lock is released
                os.replace(self._target + PARTIAL_SUFFIX, self._target)
            self._stream.close()

    def __enter__(self) -> "JsonLinesWriter":
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        if error is None:
            self.close()
        else:
            self._stream.close()


class StreamWriter(_FileWriter):
    """Writer to a file that others read while it grows, for a run without a defined end.

    An older file is emptied by the first record, so that a run that fails before it destroys
    nothing.

    Raises:
        UsageError: the file cannot be written, or another process writes it.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._is_older = not self._is_special

    def write(self, record: Dict[str, Any]) -> None:
        """Append one record and flush it.

        Raises:
            UsageError: the file cannot be written, such as on a full disk.
        """
        if self._is_older:
            self._stream.truncate(0)
            self._is_older = False
        super().write(record)
        with self._errors_of_the_system():
            self._stream.flush()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


class StdoutWriter:
    """Writer of ``U-<id>`` lines to standard output, among fairseq's own."""

    def write(self, record: Dict[str, Any]) -> None:
        """Print one record."""
        print(f"U-{record['id']}\t{dumps(record).decode()}", end="", flush=True)

    def close(self) -> None:
        """Do nothing: every line was flushed."""
