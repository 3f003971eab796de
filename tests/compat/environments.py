"""Environments in which the package has to work, as users have them."""

from dataclasses import dataclass
from typing import Tuple

OFFICIAL = (
    "tests/core", "tests/generation", "tests/records", "tests/plugin", "tests/assess",
    "tests/test_imports.py",
)  # fmt: skip
"""Tests of numerics, plugin, scores and assessment; other parts depend less on fairseq."""
SUITE = ("tests", "--ignore=tests/compat")
QUICK = ("tests/generation", "tests/plugin/test_versions.py", "tests/plugin/test_training.py")
"""Tests that ``--quick`` runs."""


@dataclass(frozen=True)
class Environment:
    """A Python and what ``pip`` installs with it.

    Attributes:
        name: of the environment.
        python: its version, such as ``3.10``.
        fairseq: text for the table.
        install: arguments of each ``pip install``, in order; ``{wheel}`` is our wheel,
            ``{fairseq}`` a checkout of fairseq's repository.
        tests: arguments of pytest; without them, the miniature is run only.
    """

    name: str
    python: str
    fairseq: str
    install: Tuple[Tuple[str, ...], ...]
    tests: Tuple[str, ...] = ()

    @property
    def needs_checkout(self) -> bool:
        """True if a checkout of fairseq's repository has to be given."""
        return any("{fairseq}" in args for args in self.install)


_OLD_PIP = ("pip<24.1",)
"""Newer versions refuse the metadata of omegaconf 2.0, which official fairseq needs."""

ENVIRONMENTS = (
    Environment("fixed-3.12", "3.12", "fairseq-fixed", (("{wheel}[all]",),), SUITE),
    Environment("fixed-3.13", "3.13", "fairseq-fixed", (("{wheel}[all]",),), SUITE),
    Environment(
        "official-3.10",
        "3.10",
        "official 0.12.2",
        (_OLD_PIP, ("{wheel}[all]",)),
        OFFICIAL,
    ),
    Environment(
        "official-3.9",
        "3.9",
        "official 0.12.2",
        (_OLD_PIP, ("torch==2.6.0", "torchaudio==2.6.0"), ("{wheel}[all]",)),
        OFFICIAL,
    ),
    Environment(
        "source-3.10",
        "3.10",
        "official 1.0.0a0, from source",
        (_OLD_PIP, ("torch", "torchaudio"), ("{fairseq}",), ("{wheel}[all]",)),
    ),
)
