"""Sentences of a set, to compare those of several systems."""

from pathlib import Path
from typing import Iterable, NamedTuple, Optional

import numpy as np

from ..errors import UsageError
from ..records import RecordSet
from ..records.subwords import join_words

# a vocabulary decides which words of a source are unknown, so other systems know them
_UNKNOWN = "<unk>"


class Sentences(NamedTuple):
    """Sentences of a set, by ascending id.

    Texts are stored as hashes of 64 bits, 0 where there is none.
    """

    path: Path
    ids: np.ndarray
    references: np.ndarray
    sources: np.ndarray
    utterances: np.ndarray


def sentences_of(path: Path, records: RecordSet) -> Sentences:
    """Return the sentences of a file's records.

    Args:
        path: the file.
        records: its records.
    """
    ids, first = np.unique(records.ids, return_index=True)
    rows = first.tolist()
    sources = (records.sources[row] for row in rows)
    return Sentences(
        path=path,
        ids=ids,
        references=_hashes((records.references[row] for row in rows), records.mark),
        sources=_hashes((None if s is None or _UNKNOWN in s else s for s in sources), records.mark),
        utterances=_hashes((records.utterances[row] for row in rows), ""),
    )


def check_same_sentences(first: Sentences, second: Sentences) -> None:
    """Refuse two systems' files of a set that are not of the same sentences.

    Raises:
        UsageError: names both files and the first id that differs.
    """
    odd = np.setxor1d(first.ids, second.ids)
    if len(odd):
        raise UsageError(
            f"{second.path} and {first.path} do not have the same sentences: only one has id "
            f"{odd[0]}, and {len(odd) - 1} more differ"
        )
    for name in ("references", "sources", "utterances"):
        ours, theirs = getattr(first, name), getattr(second, name)
        differ = np.flatnonzero((ours != theirs) & (ours != 0) & (theirs != 0))
        if len(differ):
            raise UsageError(
                f"{second.path} and {first.path} have different {name}: id "
                f"{first.ids[differ[0]]} is the first of {len(differ)}; systems are compared on "
                "the same data"
            )


def _hashes(texts: Iterable[Optional[str]], mark: str) -> np.ndarray:
    values = [0 if text is None else hash(join_words(text, mark)) or 1 for text in texts]
    return np.array(values, np.int64)
