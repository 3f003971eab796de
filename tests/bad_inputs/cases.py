"""A case of a table, and the checks that are the same for all cases."""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Generic, Sequence, TypeVar

import pytest

from fairseq_pdd.errors import UsageError

from .processes import run

Scene = TypeVar("Scene")
"""Input that the cases of an area spoil, made by a fixture of that area."""

PREFIX = "fairseq_pdd: error: "
# signs of long work in fairseq's and our own output
_WORK = re.compile(r"begin training epoch|\bH-\d+\t|\d+ (?:sentences|pairs) \[|train_loss")


@dataclass(frozen=True)
class Bad(Generic[Scene]):
    """A command that must end in one line.

    Attributes:
        name: id of the test.
        command: makes the input wrong and returns name and arguments of the command.
        expected: parts of the line: the culprit and the fix; ``{…}`` is not special.
        status: exit status.
        works: whether the input can only be found wrong during the work.
        stdin: text on standard input.
    """

    name: str
    command: Callable[[Scene], Sequence[Any]]
    expected: Sequence[str]
    status: int = 1
    works: bool = False
    stdin: str = ""


@dataclass(frozen=True)
class BadCall(Generic[Scene]):
    """A call of the Python API that must raise an ordinary exception.

    Attributes:
        name: id of the test.
        call: makes the input wrong and calls.
        expected: parts of the message: the culprit and the fix.
    """

    name: str
    call: Callable[[Scene], Any]
    expected: Sequence[str]


def parametrize(cases: Sequence[Any]) -> Any:
    """Make a test of each case of a table."""
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


def check(case: "Bad[Any]", scene: Any, folder: Path, root: Path) -> None:
    """Run a case.

    Args:
        case: case of a table.
        scene: what its command works on.
        folder: empty folder for the command's output.
        root: folder whose older files must stay as they are.
    """
    command = case.command(scene)
    before = _files(root)
    ended = run(command, folder, case.stdin)
    output = ended.stdout + ended.stderr
    assert "Traceback" not in output, output[-4000:]
    assert ended.status == case.status, output[-4000:]
    (line,) = [text for text in output.splitlines() if PREFIX in text] or [""]
    assert line.startswith(PREFIX), output[-2000:]
    _check_message(line, case.expected)
    if not case.works:
        assert not _WORK.search(output), output[-4000:]
    after = _files(root)
    changed = [path for path in before if after.get(path) != before[path]]
    assert not changed


def check_call(case: "BadCall[Any]", scene: Any) -> None:
    """Make the call of a case."""
    with pytest.raises(UsageError) as caught:
        case.call(scene)
    error: Any = caught.value
    assert isinstance(error, ValueError)
    assert not isinstance(error, SystemExit)
    _check_message(str(error), case.expected)


def _check_message(line: str, expected: Sequence[str]) -> None:
    assert "\n" not in line.strip()
    for part in expected:
        assert part in line, f"{part!r} is not in {line!r}"


def _files(root: Path) -> Dict[str, str]:
    found = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder) / name
            if path.is_file():
                found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found
