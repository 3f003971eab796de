"""Reading of the JSON lines that fairseq-generate writes with this plugin."""

import json
import logging
from pathlib import Path
from typing import Any, Dict, Iterator, List, Set, Tuple, Union

from ..errors import UsageError

logger = logging.getLogger(__name__)

Record = Dict[str, Any]
_REQUIRED = ("id", "rank", "hypothesis", "tokens", "log_prob", "sequence", "token")


def read_records(path: Union[str, Path]) -> List[Record]:
    """Read all hypotheses of a file, in its order.

    Raises:
        UsageError: the file is missing, empty, a line is no such record, or the n-best lists
            are not whole.
    """
    return list(iter_records(path))


def iter_records(path: Union[str, Path]) -> Iterator[Record]:
    """:func:`read_records` one at a time: token values of a large file need a lot of memory.

    Sentences that are missing between others are told of in the log when the file ends.
    """
    seen: Set[Tuple[int, int]] = set()
    try:
        with open(path, "rb") as stream:
            for number, line in enumerate(stream, 1):
                record = _parse(path, number, line)
                key = record["id"], record["rank"]
                if key in seen:
                    raise UsageError(
                        f"{path}, line {number}, repeats id {key[0]}, rank {key[1]}: are there "
                        "several runs in the file?"
                    )
                seen.add(key)
                yield record
    except FileNotFoundError as error:
        mend = "write it with --uncertainty-path"
        if Path(f"{path}.partial").exists():
            mend = f"{path}.partial does, so fairseq-generate did not finish; run it again"
        raise UsageError(f"{path} does not exist: {mend}") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    _check_ids(path, seen)


def best(records: List[Record]) -> List[Record]:
    """The first hypothesis of each sentence, by ascending id."""
    return sorted((r for r in records if r["rank"] == 0), key=lambda r: int(r["id"]))


def negative_log_likelihood(records: List[Record]) -> float:
    """Mean of ``-ln P`` over all tokens, end-of-sequence included; nats a token.

    Raises:
        UsageError: an output is impossible to the model (its ``log_prob`` is null).
    """
    for record in records:
        if record["log_prob"] is None:
            raise UsageError(
                f"id {record['id']} has log_prob null: the model gives its tokens no probability, "
                "so the likelihood of the set is zero"
            )
    return -sum(r["log_prob"] for r in records) / sum(len(r["tokens"]) for r in records)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


# the default would take NaN and Infinity, which fairseq-generate writes as null
_decode = json.JSONDecoder(parse_constant=_refuse_constant).decode


def _parse(path: Union[str, Path], number: int, line: bytes) -> Record:
    try:
        record = _decode(line.decode("utf-8"))
        absent = [name for name in _REQUIRED if name not in record]
    except (ValueError, TypeError) as error:  # TypeError: JSON, but no object
        raise UsageError(f"{path}, line {number}, is no JSON object: {error}") from error
    if absent:
        raise UsageError(
            f"{path}, line {number}, lacks {', '.join(absent)}: is it a file of "
            "fairseq-generate --uncertainty-path?"
        )
    if not isinstance(record["id"], int) or not isinstance(record["rank"], int):
        raise UsageError(f"{path}, line {number}: id and rank must be whole numbers")
    return record


def _check_ids(path: Union[str, Path], seen: Set[Tuple[int, int]]) -> None:
    if not seen:
        raise UsageError(f"{path} is empty: no hypothesis was written")
    ids = {number for number, _ in seen}
    for number in ids:
        if (number, 0) not in seen:
            raise UsageError(f"{path} has no best hypothesis (rank 0) of id {number}")
    missing = max(ids) + 1 - len(ids)
    if missing > 0:
        first = next(number for number in range(max(ids)) if number not in ids)
        logger.warning(
            "%s lacks %d of the ids up to %d, the first of them %d: sentences that "
            "fairseq-generate passed over are not assessed",
            path,
            missing,
            max(ids),
            first,
        )
