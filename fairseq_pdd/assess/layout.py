"""Folders of the records of several systems: ``records/<system>[-seedN]/<set>.jsonl``."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

from ..errors import UsageError

TEST, OOD_PREFIX = "test", "ood_"
# references, and the ensemble's output, scored by fairseq-generate --score-reference
NLL, NLL_ENSEMBLE = "nll", "nll_ensemble"
_SEED = re.compile(r"-seed\d+$")


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
    return stem[len(OOD_PREFIX) :] if stem.startswith(OOD_PREFIX) else stem


def find_systems(records: Path) -> List[System]:
    """Find all systems of a folder; ``x-seed1`` and ``x-seed2`` are runs of the system ``x``.

    Raises:
        UsageError: the folder has none.
    """
    runs: Dict[str, List[Path]] = {}
    for folder in sorted(records.glob("*")):
        if any(folder.glob("*.jsonl")):
            runs.setdefault(_SEED.sub("", folder.name), []).append(folder)
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
        choices: FOLDER may be several folders, joined with ``,``, and contain ``*``; they are
            runs of one system.

    Raises:
        UsageError: a folder does not exist, or a name is given twice.
    """
    systems: List[System] = []
    for choice in choices:
        name, _, patterns = choice.rpartition("=")
        runs: List[Path] = []
        for pattern in patterns.split(","):
            found = sorted(path for path in records.glob(pattern or ".") if path.is_dir())
            if not found:
                raise UsageError(f"{records / pattern} does not exist: '{choice}' names no records")
            runs += found
        systems.append(System(name or patterns, tuple(runs)))
    names = [system.name for system in systems]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two systems are called '{name}': join their folders with ','")
    return systems


def sets_of(systems: Sequence[System]) -> List[str]:
    """Return the names of the sets, which all runs must have.

    Raises:
        UsageError: a run lacks a set that another one has.
    """
    runs = [run for system in systems for run in system.runs]
    sets = {run: {path.stem for path in run.glob("*.jsonl")} for run in runs}
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
