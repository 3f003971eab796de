"""Checks of one record: its fields, their types and their numbers."""

from array import array
from typing import Any, List, Optional, Set

from ..errors import UsageError
from .fields import EXPR, EXPR_PREFIX, LOG_PROB

_SCORES = (LOG_PROB, "sequence", "token")
_REQUIRED = ("id", "rank", "hypothesis", "tokens", *_SCORES)
_OPTIONAL_TEXTS = ("source", "reference", "utterance")
_NUMBERS: Set[type] = {int, float}
# a log-probability of 0 may have a rounding error
_ROUNDING = 1e-3


def check_record(record: Any, line: str) -> None:
    """Refuse an object that is no record.

    Args:
        record: parsed JSON.
        line: file and line, for messages.

    Raises:
        UsageError: names the line and the field.
    """
    if not isinstance(record, dict):
        raise UsageError(f"{line}, is no JSON object")
    expr = record.get(EXPR)
    if expr is not None and not isinstance(expr, dict):
        raise UsageError(f"{line}: {EXPR} must be a JSON object")
    lacking = [name for name in _REQUIRED if name not in record]
    if expr is not None:
        lacking += [EXPR_PREFIX + name for name in _SCORES if name not in expr]
    if lacking:
        raise UsageError(
            f"{line}, lacks {', '.join(lacking)}: is it a file of "
            "fairseq-generate --uncertainty-path?"
        )
    _check_position(record, line)
    _check_texts(record, line)
    _check_scores(record, "", line)
    if expr is not None:
        _check_scores(expr, EXPR_PREFIX, line)


def check_names(names: Any, line: str) -> None:
    """Refuse names of measures that columns have for other values.

    Raises:
        UsageError: names the line and the measure.
    """
    for name in names:
        if name == LOG_PROB or name.startswith(EXPR_PREFIX):
            raise UsageError(f"{line}: a measure is called '{name}': give it another name")


def check_presence(name: str, value: Any, absent: bool, line: str) -> None:
    """Refuse a value that is null in some records and not in others.

    Args:
        name: name of the measure.
        value: its value here.
        absent: True if it is null in the records before.
        line: file and line, for messages.

    Raises:
        UsageError: names the line and the measure.
    """
    if (value is None) != absent:
        here = "has a value here and is null" if absent else "is null here and has values"
        raise UsageError(
            f"{line}: '{name}' {here} in the lines before it; null means that the model has no "
            "such measure: write the file again"
        )


def to_number(value: Any, name: str, line: str) -> float:
    """Return a JSON number.

    Raises:
        UsageError: names the line and the measure.
    """
    return to_numbers([value], name, line)[0]


def to_numbers(values: List[Any], name: str, line: str) -> array:
    """Return JSON numbers.

    Raises:
        UsageError: names the line and the measure.
    """
    odd = set(map(type, values)) - _NUMBERS
    if odd:
        index, value = next((i, v) for i, v in enumerate(values) if type(v) in odd)
        where = f"'{name}'" if len(values) == 1 else f"'{name}', token {index + 1},"
        shown = "null" if value is None else repr(value)
        raise UsageError(f"{line}: {where} is no number but {shown:.40}: write the file again")
    try:
        return array("d", values)
    except OverflowError as error:
        raise UsageError(f"{line}: '{name}' has a whole number beyond float64") from error


def _check_position(record: Any, line: str) -> None:
    for name in ("id", "rank"):
        value = record[name]
        if type(value) is not int or not 0 <= value < 1 << 63:  # bool is an int, too
            raise UsageError(f"{line}: id and rank must be whole numbers from 0 to 2^63 - 1")


def _check_texts(record: Any, line: str) -> None:
    for name in _OPTIONAL_TEXTS:
        _check_text(record.get(name), name, line, optional=True)
    _check_text(record["hypothesis"], "hypothesis", line)
    tokens = record["tokens"]
    if not isinstance(tokens, list) or set(map(type, tokens)) != {str}:
        raise UsageError(f"{line}: tokens must be a list of strings, not empty")


def _check_text(value: Optional[Any], name: str, line: str, optional: bool = False) -> None:
    if not isinstance(value, str) and not (optional and value is None):
        raise UsageError(f"{line}: {name} must be a string{' or null' if optional else ''}")


def _check_scores(block: Any, prefix: str, line: str) -> None:
    for name in ("sequence", "token"):
        if not isinstance(block[name], dict):
            raise UsageError(f"{line}: {prefix}sequence and {prefix}token must be JSON objects")
    if to_number(block[LOG_PROB], f"{prefix}{LOG_PROB}", line) > _ROUNDING:
        raise UsageError(f"{line}: {prefix}{LOG_PROB} is above 0: no probability is above 1")
