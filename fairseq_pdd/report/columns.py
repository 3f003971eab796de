"""Records of one file → the compact columns that the page's browser of outputs reads.

Numbers are base64 of little-endian floats: half precision (3 significant digits) for tokens, single
precision (all digits that records have) for sequences, so that sorting in the page is exact.
"""

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np

from ..assess import Record, read_records
from ..assess.scores import EXPR
from ..errors import UsageError

_Values = List[Optional[float]]


@dataclass(frozen=True)
class Columns:
    """Hypotheses of a file by ascending id and rank.

    Attributes:
        texts: columns of strings and whole numbers. One entry a sentence: ``id``, ``source``,
            ``reference``, ``start`` (index of its first hypothesis); one a hypothesis: ``rank``,
            ``text``, ``length`` (tokens); one a token: ``tokens`` (indices into
            ``vocabulary``); and ``joiner`` as in :func:`joiner_of`.
        log_prob: ``ln P(y|x)``, ``[N]`` for N hypotheses; under the key ``expr.`` that of the
            expectation of products, where the system is such an ensemble.
        sequence: by measure ``[N]``, for all measures that the model has; ``expr.total`` and so
            on for an ensemble combined as an expectation of products.
        token: by measure ``[T]`` for the T tokens of all hypotheses.
        total: sentences in the file, of which there may be fewer here.
    """

    texts: Dict[str, Any]
    log_prob: Dict[str, np.ndarray]
    sequence: Dict[str, np.ndarray]
    token: Dict[str, np.ndarray]
    total: int

    def to_json(self) -> Dict[str, Any]:
        """What the page's script decodes."""
        return {
            **self.texts,
            "total": self.total,
            "log_prob": {key: _encode(values, "<f4") for key, values in self.log_prob.items()},
            "sequence": {name: _encode(values, "<f4") for name, values in self.sequence.items()},
            "token": {name: _encode(values, "<f2") for name, values in self.token.items()},
        }


def read_columns(path: Path, ranks: int, sentences: int) -> Columns:
    """Read a file.

    A value that is null in some records only was too large for a number: it is infinite here.

    Args:
        path: file of records.
        ranks: hypotheses of a sentence that are kept.
        sentences: sentences that are kept, from the lowest id.

    Raises:
        UsageError: the file holds no records, or a measure has not one value for each token.
    """
    records = [record for record in read_records(path) if record["rank"] < ranks]
    ids = sorted({record["id"] for record in records})
    kept = set(ids[:sentences])
    records = sorted(
        (record for record in records if record["id"] in kept),
        key=lambda record: (record["id"], record["rank"]),
    )
    sequence: Dict[str, _Values] = {}
    token: Dict[str, _Values] = {}
    for record in records:
        for name, value, values in _measures(record):
            if len(values) != len(record["tokens"]):
                raise UsageError(
                    f"{path}: id {record['id']}, rank {record['rank']}, has "
                    f"{len(record['tokens'])} tokens and {len(values)} values of '{name}': write "
                    "the file anew"
                )
            sequence.setdefault(name, []).append(value)
            token.setdefault(name, []).extend(values)
    for name, of_sequences in sequence.items():
        if len(of_sequences) != len(records):
            raise UsageError(
                f"{path}: only {len(of_sequences)} of {len(records)} hypotheses have '{name}'; "
                "are there several systems in the file?"
            )
    known = [name for name, values in sequence.items() if any(v is not None for v in values)]
    log_prob = {"": _array([record["log_prob"] for record in records], -np.inf)}
    if records[0].get("expr"):
        log_prob[EXPR] = _array([record["expr"]["log_prob"] for record in records], -np.inf)
    return Columns(
        texts=_texts(records),
        log_prob=log_prob,
        sequence={name: _array(sequence[name]) for name in known},
        token={name: _array(token[name]) for name in known},
        total=len(ids),
    )


def joiner_of(vocabulary: Dict[str, int]) -> str:
    """How sub-words join to words.

    Returns:
        ``▁`` where it begins a word (sentencepiece), ``@@`` where it says that a word goes on
        (subword-nmt), otherwise nothing: every token is a word.
    """
    if any(symbol.startswith("▁") for symbol in vocabulary):
        return "▁"
    return "@@" if any(symbol.endswith("@@") for symbol in vocabulary) else ""


def _measures(record: Record) -> Iterator[Tuple[str, Optional[float], _Values]]:
    """Name, value of the sequence and values of its tokens for each place of a measure."""
    blocks = {"": record, **({EXPR: record["expr"]} if record.get("expr") else {})}
    for prefix, block in blocks.items():
        for name, value in block["sequence"].items():
            values = block["token"].get(name)
            yield prefix + name, value, [None] * len(record["tokens"]) if values is None else values


def _texts(records: List[Record]) -> Dict[str, Any]:
    names = ("id", "source", "reference", "start", "rank", "text", "length", "tokens")
    columns: Dict[str, Any] = {name: [] for name in names}
    vocabulary: Dict[str, int] = {}
    for index, record in enumerate(records):
        if not columns["id"] or columns["id"][-1] != record["id"]:
            columns["start"].append(index)
            for name in ("id", "source", "reference"):
                columns[name].append(record.get(name))
        columns["rank"].append(record["rank"])
        columns["text"].append(record["hypothesis"])
        columns["length"].append(len(record["tokens"]))
        columns["tokens"] += [vocabulary.setdefault(t, len(vocabulary)) for t in record["tokens"]]
    return {**columns, "vocabulary": list(vocabulary), "joiner": joiner_of(vocabulary)}


def _array(values: _Values, null: float = np.inf) -> np.ndarray:
    array = np.array(values, dtype=np.float64)
    return np.where(np.isnan(array), null, array)


def _encode(values: np.ndarray, dtype: str) -> str:
    with np.errstate(over="ignore"):  # beyond the type's range is infinite
        return base64.b64encode(values.astype(dtype).tobytes()).decode("ascii")
