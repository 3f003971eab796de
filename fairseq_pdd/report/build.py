"""Records of systems and sets → the page."""

from pathlib import Path
from typing import Mapping

from .browser import browser_data
from .page import render_page


def build_report(
    systems: Mapping[str, Mapping[str, Path]],
    title: str,
    ranks: int = 5,
    sentences: int = 2000,
) -> str:
    """Make the page.

    Args:
        systems: by name of system and of set the file of records; the first set is in-domain.
        title: of the page.
        ranks: hypotheses of a sentence that can be browsed.
        sentences: sentences of a set that can be browsed, from the lowest id.

    Raises:
        UsageError: a file holds no records.
    """
    manifest, data = browser_data(systems, ranks, sentences)
    return render_page(title, "", "", manifest, data)
