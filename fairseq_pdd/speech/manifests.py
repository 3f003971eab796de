"""Strict readers of manifests: tables of ``speech_to_text``, lists of ``speech_recognition``.

fairseq's own readers stop in the middle of a file without its name, or fill in missing values.
"""

import csv
import io
import json
import math
import re
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple, Union

from fairseq.data import Dictionary

from ..errors import UsageError

COLUMNS = ("id", "audio", "n_frames", "tgt_text")
"""Columns that a table must have."""

# format of fairseq's own reader
TABLE_FORMAT: Dict[str, Any] = {
    "delimiter": "\t",
    "quotechar": None,
    "doublequote": False,
    "lineterminator": "\n",
    "quoting": csv.QUOTE_NONE,
}

MIN_MILLISECONDS = 25
"""Length of a window of the ``speech_recognition`` example; a recording must be longer."""


class Table(NamedTuple):
    """A manifest table."""

    columns: List[str]
    rows: List[Dict[str, str]]


def read_table(path: Union[str, Path]) -> Table:
    """Read a manifest table.

    Raises:
        UsageError: the file cannot be read, lacks columns or rows, or has a line with another
            number of fields or with a wrong ``n_frames``.
    """
    # fairseq's reader takes \r\n and \r for \n, too
    reader = csv.reader(io.StringIO(_text(path), newline=None), **TABLE_FORMAT)
    columns: List[str] = []
    rows: List[Dict[str, str]] = []
    try:
        for fields in reader:
            if reader.line_num == 1:
                columns = fields
                _check_columns(path, columns)
            elif fields:
                problem = _row_problem(columns, fields)
                if problem is not None:
                    raise UsageError(f"{path}, line {reader.line_num}: {problem}")
                rows.append(dict(zip(columns, fields)))
    except csv.Error as error:
        raise UsageError(
            f"{path}, line {reader.line_num}: fairseq cannot read it ({error}): fix or remove it"
        ) from error
    if not rows:
        raise UsageError(f"manifest {path} lists no utterance: write it again")
    return Table(columns, rows)


def _check_columns(path: Union[str, Path], columns: List[str]) -> None:
    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        raise UsageError(
            f"manifest {path} lacks the column {', '.join(missing)}: its first line needs "
            f"{', '.join(COLUMNS)}, separated by tabs"
        )
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise UsageError(f"manifest {path} has two columns {twice[0]!r}: remove one")


def _row_problem(columns: List[str], fields: List[str]) -> Optional[str]:
    if len(fields) != len(columns):
        return (
            f"{len(fields)} fields instead of the {len(columns)} of the first line: add or remove "
            "tabs"
        )
    frames = fields[columns.index("n_frames")]
    try:
        valid = int(frames) > 0
    except ValueError:
        valid = False
    return None if valid else f"n_frames is '{frames[:40]}', not a number above 0: fix the line"


def read_list(path: Union[str, Path], dictionary: Dictionary) -> Dict[str, Dict[str, Any]]:
    """Read the utterances of a JSON list by name.

    Args:
        path: file that fairseq's ``asr_prep_json.py`` writes.
        dictionary: target dictionary.

    Raises:
        UsageError: the file cannot be read, lists no utterance or one of them twice, or an entry
            lacks values, or its tokens are not those of the dictionary.
    """
    try:
        content = json.loads(_text(path), object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise UsageError(
            f"{path}, line {error.lineno}: {error.msg}; the file is cut or no JSON: write it again"
        ) from error
    except (_Repeated, RecursionError) as error:
        raise UsageError(f"{path}: {error}; fix the list") from error
    utterances = content.get("utts") if isinstance(content, dict) else None
    if not isinstance(utterances, dict) or not utterances:
        raise UsageError(
            f"{path} lists no utterance: give the output of fairseq's asr_prep_json.py, an object "
            "'utts' with an entry for each utterance"
        )
    for name, entry in utterances.items():
        problem = _entry_problem(name, entry, dictionary)
        if problem is not None:
            raise UsageError(
                f"{path}: utterance {name}: {problem}; fix or remove it, or write the list again "
                "with fairseq's asr_prep_json.py"
            )
    return utterances


class _Repeated(Exception):
    """A name occurs twice in a JSON object, of which Python keeps the last."""


def _unique(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Repeated(f"{next(n for n in names if names.count(n) > 1)} is listed twice")
    return found


def _entry_problem(name: str, entry: Any, dictionary: Dictionary) -> Optional[str]:
    if not re.search("(.+?)-(.+?)-(.+?)", name):  # the example takes the speaker from it
        return "its name must be speaker-chapter-number"
    source, target = (
        part if isinstance(part, dict) else {}
        for part in (_get(entry, "input"), _get(entry, "output"))
    )
    if not isinstance(source.get("path"), str):
        return "its 'input' needs a 'path', a string"
    length = source.get("length_ms")
    if (
        isinstance(length, bool)
        or not isinstance(length, (int, float))
        or not math.isfinite(length)
    ):
        return f"its 'input' needs a number 'length_ms', not {str(length)[:40]!r}"
    if length <= MIN_MILLISECONDS:
        return f"length_ms is {length}, no more than one window of {MIN_MILLISECONDS} ms"
    try:
        ids = [int(number) for number in target["tokenid"].split(", ")]
    except (KeyError, AttributeError, ValueError):
        return "its 'output' needs a 'tokenid', numbers joined with ', '"
    symbols = {dictionary.bos(), dictionary.pad(), dictionary.eos()}
    wrong = next((i for i in ids if i in symbols or not 0 <= i < len(dictionary)), None)
    if wrong is not None:
        return f"its tokenid {wrong} is no token of dict.txt, which has {len(dictionary)} types"
    pieces = target.get("token")
    if isinstance(pieces, str):
        encoded = dictionary.encode_line(pieces, append_eos=False, add_if_not_exist=False)
        if encoded.tolist() != ids:
            return "its 'tokenid' is not its 'token' in dict.txt, but in another dictionary"
    return None


def _get(entry: Any, key: str) -> Any:
    return entry.get(key) if isinstance(entry, dict) else None


def read_dictionary(path: Union[str, Path], hint: str) -> Dictionary:
    """Read a target dictionary.

    Args:
        path: fairseq's dictionary file.
        hint: the fix, for the message of an error.

    Raises:
        UsageError: the file does not exist, is no dictionary, or has no symbol.
    """
    if not Path(path).is_file():
        raise UsageError(f"dictionary {path} does not exist: {hint}")
    try:
        dictionary = Dictionary.load(str(path))
    except Exception as error:  # fairseq raises Exception itself, too
        raise UsageError(f"dictionary {path} is damaged: {one_line(error)}; {hint}") from error
    if len(dictionary) == dictionary.nspecial:
        raise UsageError(f"dictionary {path} is empty: {hint}")
    return dictionary


def one_line(error: BaseException) -> str:
    """Return kind and text of an error of a library, at most some 300 characters in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _text(path: Union[str, Path]) -> str:
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise UsageError(f"manifest {path} does not exist: check the name of the subset") from error
    except OSError as error:
        raise UsageError(f"manifest {path} cannot be read: {error.strerror}") from error
    if data.startswith(b"\xef\xbb\xbf"):
        raise UsageError(f"{path} begins with a byte order mark: save it as UTF-8 without one")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(
            f"{path}, line {line} is not UTF-8: convert the file, for example with iconv"
        ) from error
