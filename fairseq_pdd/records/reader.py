"""Reader of the record format: one pass over a file gives its columns."""

import json
import logging
import math
import os
from array import array
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Optional, Set, Tuple, Union

import numpy as np

from ..errors import UsageError
from .checks import check_names, check_presence, check_record, to_number, to_numbers
from .fields import EXPR, EXPR_PREFIX, LARGEST, LOG_PROB
from .subwords import join_symbols, mark_of
from .writer import PARTIAL_SUFFIX

logger = logging.getLogger(__name__)

Record = Dict[str, Any]
# a column for each value of a record; None for measures that the model does not have
_Columns = Dict[str, Optional[array]]
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class TokenColumns:
    """Columns of the T tokens of all hypotheses, in the order of the hypotheses.

    Attributes:
        offsets: ``[N + 1]``; hypothesis ``i`` has the tokens ``offsets[i]:offsets[i + 1]``, none
            where its tokens were skipped by the reader.
        vocabulary: the distinct symbols.
        ids: ``[T]``, index of each token in ``vocabulary``.
        measures: ``[T]`` each, in nats, of the measures that the model has; named as in
            :class:`RecordSet`. Values beyond float32 are infinite.
        absent: names of the other measures in the records, which are null in all of them.
    """

    offsets: np.ndarray
    vocabulary: List[str]
    ids: np.ndarray
    measures: Dict[str, np.ndarray]
    absent: List[str]

    def symbols(self, index: int) -> List[str]:
        """Return the symbols of one hypothesis."""
        ids = self.ids[self.offsets[index] : self.offsets[index + 1]]
        return [self.vocabulary[number] for number in ids.tolist()]

    def select(self, rows: np.ndarray) -> "TokenColumns":
        """Return the tokens of some hypotheses, given by index."""
        lengths = np.diff(self.offsets)[rows]
        offsets = np.append(0, np.cumsum(lengths))
        positions = np.repeat(self.offsets[rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
        measures = {name: column[positions] for name, column in self.measures.items()}
        return replace(self, offsets=offsets, ids=self.ids[positions], measures=measures)


@dataclass(frozen=True)
class RecordSet:
    """Columns of the N hypotheses of a file, sorted by id and rank.

    An ensemble has some columns twice: combined as a product of expectations under the plain
    name, and as an expectation of products under the name with the prefix ``expr.``.

    Attributes:
        name: path of the file, for messages.
        ids: ``[N]``, position of the sentence in its data set.
        ranks: ``[N]``, place in the n-best list of the sentence, from 0.
        sources: ``N`` texts, ``None`` where the source is no text.
        references: ``N`` texts or ``None``.
        hypotheses: ``N`` texts.
        utterances: ``N`` names of sentences, ``None`` for data without names.
        lengths: ``[N]``, number of tokens, end-of-sequence included.
        log_probs: ``[N]``, ``ln P(y|x)``, under the key ``""`` and, for an ensemble, ``"expr."``;
            minus infinity for an output that is impossible to the model.
        measures: ``[N]`` each, in nats per token, of the measures that the model has. Values
            beyond float32 are infinite.
        absent: names of the other measures in the records, which are null in all of them.
        mark: mark of the sub-words in the texts, where all hypotheses are their tokens joined with
            blanks; empty for text in words.
        tokens: columns of the tokens.
    """

    name: str
    ids: np.ndarray
    ranks: np.ndarray
    sources: List[Optional[str]]
    references: List[Optional[str]]
    hypotheses: List[str]
    utterances: List[Optional[str]]
    lengths: np.ndarray
    log_probs: Dict[str, np.ndarray]
    measures: Dict[str, np.ndarray]
    absent: List[str]
    mark: str
    tokens: TokenColumns

    def __len__(self) -> int:
        """Return the number of hypotheses."""
        return len(self.ids)

    @property
    def nbest(self) -> int:
        """Number of hypotheses in the longest n-best list."""
        return int(self.ranks.max()) + 1

    def select(self, rows: np.ndarray) -> "RecordSet":
        """Return some hypotheses, given by index."""
        numbers = rows.tolist()
        return replace(
            self,
            ids=self.ids[rows],
            ranks=self.ranks[rows],
            sources=[self.sources[i] for i in numbers],
            references=[self.references[i] for i in numbers],
            hypotheses=[self.hypotheses[i] for i in numbers],
            utterances=[self.utterances[i] for i in numbers],
            lengths=self.lengths[rows],
            log_probs={prefix: column[rows] for prefix, column in self.log_probs.items()},
            measures={name: column[rows] for name, column in self.measures.items()},
            tokens=self.tokens.select(rows),
        )

    def best(self) -> "RecordSet":
        """Return the first hypothesis of each sentence."""
        return self.select(np.flatnonzero(self.ranks == 0))


def read_records(path: Union[str, Path], token_ranks: Optional[int] = None) -> RecordSet:
    """Read a file of records.

    Sentences that are missing between others, and an unfinished file of the same name, are logged.

    Args:
        path: JSON lines, in any order.
        token_ranks: number of hypotheses per sentence whose tokens are kept; ``None`` keeps all.
            Tokens take most of the memory.

    Raises:
        UsageError: the file is missing or empty, a line is no such record, an n-best list is not
            whole, the lines do not have the same measures, or a measure is null in some of them.
    """
    partial = f"{path}{PARTIAL_SUFFIX}"
    try:
        with open(path, "rb") as stream:
            records = collect_records(_parse_lines(path, stream), _readable(path), token_ranks)
    except FileNotFoundError as error:
        fix = "write it with --uncertainty-path"
        if Path(partial).exists():
            fix = f"{partial} does, so fairseq-generate did not finish; run it again"
        raise UsageError(f"{path} does not exist: {fix}") from error
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}; give a file of records"
        ) from error
    if Path(partial).exists():
        logger.warning("%s is of a run before the one that writes %s", path, partial)
    return records


def _readable(path: Union[str, Path]) -> str:
    """Return a path for messages; bytes that are no UTF-8 are written as escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def collect_records(
    records: Iterable[Record], name: str = "records", token_ranks: Optional[int] = None
) -> RecordSet:
    """Convert records in memory to columns.

    Args:
        records: parsed JSON objects.
        name: name for messages.
        token_ranks: see :func:`read_records`.

    Raises:
        UsageError: see :func:`read_records`.
    """
    builder = _Builder(name, token_ranks)
    for number, record in enumerate(records, 1):
        builder.add(record, f"{name}, line {number}")
    return builder.build()


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


# the default would accept NaN and Infinity
_decode = json.JSONDecoder(parse_constant=_refuse_constant).decode


def _parse_lines(path: Union[str, Path], lines: Iterable[bytes]) -> Iterator[Record]:
    for number, line in enumerate(lines, 1):
        try:
            record = _decode(line.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise UsageError(
                f"{path}, line {number}, is no JSON object: {_reason(line, error)}"
            ) from error
        yield record


def _reason(line: bytes, error: Exception) -> str:
    if not line.strip():
        return "it is blank; delete it"
    if line.startswith(_BOM):
        return "it begins with a byte order mark; save the file as UTF-8 without one"
    if isinstance(error, json.JSONDecodeError):
        fix = "" if line.lstrip().startswith(b"{") else "; give a file of --uncertainty-path"
        return f"{error.msg}, column {error.colno}{fix}"
    if line.startswith(b"\x1f\x8b"):
        return "it is compressed; decompress it with gunzip"
    return str(error)


class _Builder:
    """Columns that grow record by record."""

    def __init__(self, name: str, token_ranks: Optional[int]) -> None:
        self._name = name
        self._token_ranks = math.inf if token_ranks is None else token_ranks
        self._seen: Set[Tuple[int, int]] = set()
        self._ids, self._ranks, self._lengths = array("q"), array("q"), array("q")
        self._texts: Dict[str, List[Any]] = {
            key: [] for key in ("source", "reference", "hypothesis", "utterance")
        }
        self._interned: Dict[str, str] = {}  # n-best lists repeat their source and reference
        # True as long as all hypotheses are their tokens joined with blanks
        self._texts_are_symbols = True
        self._symbols: Set[str] = set()
        self._sequence: Optional[_Columns] = None
        self._offsets = array("q", [0])
        self._vocabulary: Dict[str, int] = {}
        self._token_ids = array("q")
        self._token: Optional[_Columns] = None

    def add(self, record: Record, line: str) -> None:
        """Append one record; ``line`` names it in messages."""
        check_record(record, line)
        key = record["id"], record["rank"]
        if key in self._seen:
            raise UsageError(
                f"{line}, repeats id {key[0]}, rank {key[1]}: are there several runs in the file?"
            )
        self._seen.add(key)
        self._ids.append(key[0])
        self._ranks.append(key[1])
        self._lengths.append(len(record["tokens"]))
        for field, column in self._texts.items():
            text = record.get(field)
            column.append(text if text is None else self._interned.setdefault(text, text))
        self._add_symbols(record["hypothesis"], record["tokens"])
        blocks = {"": record}
        if record.get(EXPR) is not None:
            blocks[EXPR_PREFIX] = record[EXPR]
        self._add_sequence(blocks, line)
        if record["rank"] < self._token_ranks:
            self._add_tokens(record["tokens"], blocks, line)
        self._offsets.append(len(self._token_ids))

    def build(self) -> RecordSet:
        """Return the columns, sorted."""
        _check_ids(self._name, self._seen)
        assert self._sequence is not None  # there is a record
        sequence = _to_arrays(self._sequence)
        log_probs = {
            prefix: sequence.pop(f"{prefix}{LOG_PROB}")
            for prefix in ("", EXPR_PREFIX)
            if f"{prefix}{LOG_PROB}" in sequence
        }
        texts = self._texts
        records = RecordSet(
            name=self._name,
            ids=np.array(self._ids),
            ranks=np.array(self._ranks),
            sources=texts["source"],
            references=texts["reference"],
            hypotheses=texts["hypothesis"],
            utterances=texts["utterance"],
            lengths=np.array(self._lengths),
            log_probs=log_probs,
            measures=sequence,
            absent=_absent(self._sequence),
            mark=mark_of(self._symbols) if self._texts_are_symbols else "",
            tokens=self._build_tokens(),
        )
        order = np.lexsort((records.ranks, records.ids))
        in_order = np.array_equal(order, np.arange(len(order)))
        return records if in_order else records.select(order)

    def _add_symbols(self, hypothesis: str, tokens: List[str]) -> None:
        if self._texts_are_symbols and hypothesis == join_symbols(tokens):
            self._symbols.update(tokens)
        else:
            self._texts_are_symbols = False

    def _add_sequence(self, blocks: Dict[str, Record], line: str) -> None:
        if self._sequence is None:
            for block in blocks.values():
                check_names(block["sequence"], line)
        values = {
            f"{prefix}{name}": value
            for prefix, block in blocks.items()
            for name, value in {LOG_PROB: block[LOG_PROB], **block["sequence"]}.items()
        }
        self._sequence = _columns_of(self._sequence, values, line)
        for name, column in self._sequence.items():
            check_presence(name, values[name], column is None, line)
            if column is not None:
                column.append(to_number(values[name], name, line))

    def _add_tokens(self, tokens: List[str], blocks: Dict[str, Record], line: str) -> None:
        self._token_ids.extend(
            self._vocabulary.setdefault(token, len(self._vocabulary)) for token in tokens
        )
        values = {
            f"{prefix}{name}": value
            for prefix, block in blocks.items()
            for name, value in block["token"].items()
        }
        self._token = _columns_of(self._token, values, line)
        for name, column in self._token.items():
            check_presence(name, values[name], column is None, line)
            if column is None:
                continue
            if not isinstance(values[name], list):
                raise UsageError(f"{line}: the tokens' values of '{name}' must be a list")
            if len(values[name]) != len(tokens):
                raise UsageError(
                    f"{line}: {len(tokens)} tokens but {len(values[name])} values of '{name}': "
                    "write the file again"
                )
            column.extend(to_numbers(values[name], name, line))

    def _build_tokens(self) -> TokenColumns:
        columns = self._token or {}
        return TokenColumns(
            offsets=np.array(self._offsets),
            vocabulary=list(self._vocabulary),
            ids=np.array(self._token_ids),
            measures=_to_arrays(columns),
            absent=_absent(columns),
        )


def _check_ids(name: str, seen: Set[Tuple[int, int]]) -> None:
    """Refuse n-best lists that are not whole, and log missing sentences.

    Raises:
        UsageError: names the file and the first such sentence.
    """
    if not seen:
        raise UsageError(f"{name} is empty: no hypothesis was written; run fairseq-generate again")
    ids = {number for number, _ in seen}
    holes = {(number, rank - 1) for number, rank in seen if rank > 0} - seen
    if holes:
        number, rank = min(holes)
        what = f"hypothesis of rank {rank}" if rank else "best hypothesis (rank 0)"
        raise UsageError(f"{name} has no {what} of id {number}: write the file again")
    missing = max(ids) + 1 - len(ids)
    if missing > 0:
        first = next(number for number in range(max(ids)) if number not in ids)
        logger.warning(
            "%s lacks %d of the ids up to %d, the first of them %d: sentences that "
            "fairseq-generate skipped are not assessed",
            name,
            missing,
            max(ids),
            first,
        )


def _columns_of(columns: Optional[_Columns], values: Dict[str, Any], line: str) -> _Columns:
    """Return the columns for a record's values; the first record decides which there are."""
    if columns is None:
        return {name: None if value is None else array("d") for name, value in values.items()}
    if values.keys() != columns.keys():
        odd = ", ".join(f"'{name}'" for name in sorted(values.keys() ^ columns.keys()))
        raise UsageError(
            f"{line} has other measures than the lines before it ({odd}); are there several "
            "systems in the file?"
        )
    return columns


def _to_arrays(columns: _Columns) -> Dict[str, np.ndarray]:
    """Convert the columns of measures that the model has."""
    arrays = {}
    for name, column in columns.items():
        if column is not None:
            values = np.array(column)
            arrays[name] = np.where(np.abs(values) < LARGEST, values, np.copysign(np.inf, values))
    return arrays


def _absent(columns: _Columns) -> List[str]:
    return [name for name, column in columns.items() if column is None]
