"""Folders of the records of several systems: ``records/<system>[-seedN]/<set>.jsonl``."""

import glob
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence, Tuple, TypeVar

from ..errors import UsageError

TEST, OOD_PREFIX = "test", "ood_"
# references, and the ensemble's output, scored by fairseq-generate --score-reference; those of
# out-of-domain sets are nll_ood_NAME
NLL, NLL_ENSEMBLE = "nll", "nll_ensemble"
_SEED = re.compile(r"(?<=.)-seed\d+$", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")

Found = TypeVar("Found")


@dataclass(frozen=True)
class System:
    """A system to compare, trained once or several times.

    Attributes:
        name: label of the system.
        runs: a folder of records for each seed.
    """

    name: str
    runs: Tuple[Path, ...]


def set_name(stem: str) -> str:
    """Return the label of a set: its name without the prefix of out-of-domain sets."""
    return label_of(stem[len(OOD_PREFIX) :] if stem.startswith(OOD_PREFIX) else stem) or stem


def label_of(name: str) -> str:
    """Return the name of a file or folder for tables and figures.

    Bytes that are no UTF-8 and control characters are written as escapes.
    """
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def split_label(
    argument: str, find: Callable[[str], Optional[Found]]
) -> Optional[Tuple[str, Found]]:
    """Split ``NAME=PATH``, where both may contain ``=``.

    Args:
        argument: ``NAME=PATH`` or ``PATH``.
        find: returns what is at a path, ``None`` if nothing is.

    Returns:
        The name, empty for ``PATH`` alone, and what was found; the longest path that exists.
    """
    parts = argument.split("=")
    for number in range(len(parts)):
        found = find("=".join(parts[number:]))
        if found is not None:
            return "=".join(parts[:number]), found
    return None


def is_used(name: str) -> bool:
    """Return True for a set that tables use: test, out-of-domain or scored references."""
    return name in (TEST, NLL, NLL_ENSEMBLE) or name.startswith(OOD_PREFIX)


def is_scored(name: str) -> bool:
    """Return True for a set of given outputs, which is ``nll`` or ``nll_NAME``."""
    return name == NLL or name.startswith(f"{NLL}_")


def in_domain_of(name: str) -> Optional[str]:
    """Return the in-domain set of an out-of-domain one; ``None`` for other sets."""
    if name.startswith(OOD_PREFIX):
        return TEST
    return NLL if name.startswith(f"{NLL}_{OOD_PREFIX}") else None


def set_files(folder: Path) -> List[Path]:
    """Return the files of records in a folder; hidden ones are copies that programs made."""
    return sorted(path for path in folder.glob("*.jsonl") if not path.name.startswith("."))


def find_systems(records: Path) -> List[System]:
    """Find all systems of a folder; ``x-seed1`` and ``x-seed2`` are runs of the system ``x``.

    Raises:
        UsageError: the folder has none.
    """
    if not records.is_dir():
        raise UsageError(f"{records} is no folder: give the folder that holds those of the systems")
    runs: Dict[str, List[Path]] = {}
    for folder in sorted(records.glob("*")):
        if not folder.name.startswith(".") and set_files(folder):
            runs.setdefault(label_of(_SEED.sub("", folder.name)), []).append(folder)
    if not runs:
        raise UsageError(
            f"{records} has no records: <system>/{TEST}.jsonl is expected there, and "
            f"<system>-seed1/{TEST}.jsonl and so on for several runs of a system"
        )
    return [System(name, tuple(folders)) for name, folders in runs.items()]


def choose_systems(records: Path, choices: Sequence[str]) -> List[System]:
    """Find systems by ``NAME=FOLDER`` or ``FOLDER``, in that order.

    Args:
        records: folder that contains the others.
        choices: FOLDER is a folder of ``records`` or an absolute one. If there is none of that
            name, it may be several folders, joined with ``,``, and contain ``*``; they are runs of
            one system.

    Raises:
        UsageError: a folder does not exist, has no records or is given twice, or a name is given
            twice.
    """
    systems: List[System] = []
    for choice in choices:
        split = split_label(choice, lambda path: _runs(records, path))
        if split is None:
            missing = records / choice.rpartition("=")[2]
            raise UsageError(
                f"{missing} does not exist: --system '{choice}' names no folder of records"
            )
        name, runs = split
        for run in runs:
            if not set_files(run):
                raise UsageError(f"{run} has no records (*.jsonl): --system '{choice}'")
            if runs.count(run) > 1:
                raise UsageError(f"{run} is twice in --system '{choice}': give each run once")
        systems.append(System(label_of(name or choice), tuple(runs)))
    names = [system.name for system in systems]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two systems are called '{name}': join their folders with ','")
    return systems


def _runs(records: Path, text: str) -> Optional[List[Path]]:
    """Return the folders of ``FOLDER[,FOLDER…]``; ``None`` if one does not exist."""
    if (records / text).is_dir():
        return [records / text]
    if "," in text:
        parts = [_runs(records, part) for part in text.split(",")]
        return None if None in parts else [run for part in parts for run in part or ()]
    pattern = os.path.join(glob.escape(str(records)), text)
    found = [Path(path) for path in sorted(glob.glob(pattern)) if os.path.isdir(path)]
    return found or None


def sets_of(systems: Sequence[System]) -> List[str]:
    """Return the names of the sets, which all runs must have.

    Raises:
        UsageError: a run lacks a set that another one has.
    """
    runs = [run for system in systems for run in system.runs]
    sets = {run: {path.stem for path in set_files(run)} for run in runs}
    union = sorted(set().union(*sets.values()))
    for run in runs:
        for name in union:
            if name not in sets[run]:
                other = next(run for run in runs if name in sets[run])
                raise UsageError(
                    f"{run} lacks {name}.jsonl, which {other} has: systems are compared on the "
                    "same sets"
                )
    if TEST not in union:
        raise UsageError(f"{runs[0]} lacks {TEST}.jsonl, the in-domain test set")
    return union
