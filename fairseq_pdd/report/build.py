"""Records of systems and sets → the page."""

from pathlib import Path
from typing import Dict, Sequence

from ..assess import Style, System, sets_of
from ..assess.layout import NLL, NLL_ENSEMBLE, TEST
from .browser import browser_data
from .page import render_page
from .sections import make_sections


def build_report(
    systems: Sequence[System], style: Style, title: str, nbest: int = 5, sentences: int = 2000
) -> str:
    """Make the page.

    Args:
        systems: to compare, which have the same sets.
        style: which quality, and which measures detect out-of-domain input.
        title: of the page.
        nbest: hypotheses of a sentence that can be browsed.
        sentences: sentences of a set that can be browsed, from the lowest id.

    Raises:
        UsageError: a file holds no records, or a run lacks what another one has.
    """
    sections = make_sections(systems, style)
    # outputs are browsed, references that were scored are not
    sets = [name for name in sets_of(systems) if name not in (TEST, NLL, NLL_ENSEMBLE)]
    files: Dict[str, Dict[str, Path]] = {}
    for system in systems:
        for run in system.runs:
            name = system.name if len(system.runs) == 1 else f"{system.name}: {run.name}"
            files[name] = {subset: run / f"{subset}.jsonl" for subset in (TEST, *sets)}
    manifest, data = browser_data(files, nbest, sentences)
    facts = f"{_count(len(systems), 'system')}, {_count(len(sets) + 1, 'set')} of sentences"
    return render_page(title, facts, sections, manifest, data)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
