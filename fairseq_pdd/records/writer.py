"""Writers of the record format: one JSON object per hypothesis and line."""

import os
from types import TracebackType
from typing import Any, Dict, List, Optional, Type

import numpy as np
import orjson

from .files import create

PARTIAL_SUFFIX = ".partial"
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

    JSON has no infinity, which becomes ``null``: EPKL exceeds float32 where a Dirichlet has
    hardly any evidence.
    """
    return orjson.dumps(_in_float32(record), option=_OPTIONS)


def _in_float32(record: Dict[str, Any]) -> Dict[str, Any]:
    return {
        key: np.float32(value)
        if isinstance(value, float)
        else _in_float32(value)
        if isinstance(value, dict)
        else value
        for key, value in record.items()
    }


class JsonLinesWriter:
    """Writer to a file that appears under its name only when it is complete.

    Until :meth:`close` the lines are in ``<path>.partial``, which remains if the run dies. An
    older file of that name stays untouched until then.

    Raises:
        UsageError: the file cannot be written.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._stream = create(path, path + PARTIAL_SUFFIX)

    def write(self, record: Dict[str, Any]) -> None:
        """Append one record."""
        self._stream.write(dumps(record))

    def close(self) -> None:
        """Finish the file and give it its name."""
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
        os.replace(self.path + PARTIAL_SUFFIX, self.path)

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


class StreamWriter:
    """Writer to a file that others read while it grows, for a run without a defined end.

    Raises:
        UsageError: the file cannot be written.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._stream = create(path, path)

    def write(self, record: Dict[str, Any]) -> None:
        """Append one record and flush it."""
        self._stream.write(dumps(record))
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
