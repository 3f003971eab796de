"""Reading of the JSON lines that fairseq-generate writes with this plugin."""

import json
from pathlib import Path
from typing import Any, Dict, List, Union

from ..errors import UsageError

Record = Dict[str, Any]
_REQUIRED = ("id", "rank", "hypothesis", "tokens", "log_prob", "sequence", "token")


def read_records(path: Union[str, Path]) -> List[Record]:
    """Read all hypotheses of a file, in its order.

    Raises:
        UsageError: the file is missing, empty, or a line is no such record.
    """
    records = []
    try:
        with open(path, encoding="utf-8", newline="\n") as stream:
            for number, line in enumerate(stream, 1):
                try:
                    record = json.loads(line)
                    absent = [name for name in _REQUIRED if name not in record]
                except (ValueError, TypeError) as error:  # TypeError: JSON, but no object
                    raise UsageError(
                        f"{path}, line {number}, is no JSON object: {error}"
                    ) from error
                if absent:
                    raise UsageError(
                        f"{path}, line {number}, lacks {', '.join(absent)}: is it a file of "
                        "fairseq-generate --uncertainty-path?"
                    )
                records.append(record)
    except FileNotFoundError as error:
        raise UsageError(f"{path} does not exist: write it with --uncertainty-path") from error
    if not records:
        raise UsageError(f"{path} is empty: no hypothesis was written")
    return records


def best(records: List[Record]) -> List[Record]:
    """The first hypothesis of each sentence, by ascending id."""
    return sorted((r for r in records if r["rank"] == 0), key=lambda r: int(r["id"]))


def negative_log_likelihood(records: List[Record]) -> float:
    """Mean of ``-ln P`` over all tokens, end-of-sequence included; nats a token."""
    return -sum(r["log_prob"] for r in records) / sum(len(r["tokens"]) for r in records)
