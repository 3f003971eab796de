"""Data of the page's browser of outputs: a manifest, and the columns of every file."""

from typing import Any, Dict, List, Mapping

import numpy as np

from .browser_columns import BrowserColumns
from .descriptions import describe

# the ramp ends at this quantile of a system's tokens, so that a few extremes do not pale the rest
_TOP_QUANTILE = 0.95


class BrowserData:
    """Data that the page's script reads, collected run by run.

    Attributes:
        manifest: systems with their measures, sets and ends of the ramp of shades.
        elements: columns of each file by the id of its element in the page.
    """

    def __init__(self) -> None:
        self.manifest: Dict[str, Any] = {"systems": [], "measures": {}}
        self.elements: Dict[str, Any] = {}

    def add(self, system: str, sets: Mapping[str, BrowserColumns]) -> None:
        """Add a run.

        Args:
            system: label of the run.
            sets: columns by name of the set.
        """
        number = len(self.manifest["systems"])
        entries = []
        for index, (name, columns) in enumerate(sets.items()):
            element = f"outputs-{number}-{index}"
            self.elements[element] = columns.to_json()
            entries.append({"name": name, "element": element})
        top = _tops(list(sets.values()))
        self.manifest["systems"].append({"name": system, "sets": entries, "top": top})
        self.manifest["measures"].update({measure: describe(measure) for measure in top})


def _tops(files: List[BrowserColumns]) -> Dict[str, float]:
    """Compute the end of the ramp of shades for each measure."""
    tops = {}
    for measure in dict.fromkeys(name for columns in files for name in columns.token):
        values = np.concatenate([c.token[measure] for c in files if measure in c.token])
        finite = values[np.isfinite(values)]
        top = float(np.quantile(finite, _TOP_QUANTILE)) if len(finite) else 0.0
        tops[measure] = float(f"{top:.2g}") if top > 0 else 1.0
    return tops
