"""What the page's browser of outputs needs: a manifest, and the columns of every file."""

from pathlib import Path
from typing import Any, Dict, List, Mapping, Tuple

import numpy as np
from tqdm import tqdm

from .columns import Columns, read_columns
from .measures import describe

# the ramp ends at this quantile of a system's tokens, so that a few extremes do not pale the rest
_TOP_QUANTILE = 0.95


def browser_data(
    systems: Mapping[str, Mapping[str, Path]], ranks: int, sentences: int
) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """Read all files.

    Args:
        systems: by name of system and of set the file of records.
        ranks: hypotheses of a sentence that are kept.
        sentences: sentences of a file that are kept, from the lowest id.

    Returns:
        The manifest (systems with their measures, sets and ends of the ramp) and, by element id,
        the columns of each file.
    """
    manifest: Dict[str, Any] = {"systems": [], "measures": {}}
    data: Dict[str, Any] = {}
    files = sum(map(len, systems.values()))
    with tqdm(total=files, desc="outputs", unit="file", leave=False) as progress:
        for number, (system, sets) in enumerate(systems.items()):
            columns = {}
            entries = []
            for index, (name, path) in enumerate(sets.items()):
                element = f"outputs-{number}-{index}"
                columns[name] = read_columns(path, ranks, sentences)
                data[element] = columns[name].to_json()
                entries.append({"name": name, "element": element})
                progress.update()
            top = _tops(list(columns.values()))
            manifest["systems"].append({"name": system, "sets": entries, "top": top})
            manifest["measures"].update({measure: describe(measure) for measure in top})
    return manifest, data


def _tops(files: List[Columns]) -> Dict[str, float]:
    """For each measure where the ramp of shades ends."""
    tops = {}
    for measure in dict.fromkeys(name for columns in files for name in columns.token):
        values = np.concatenate([c.token[measure] for c in files if measure in c.token])
        finite = values[np.isfinite(values)]
        top = float(np.quantile(finite, _TOP_QUANTILE)) if len(finite) else 0.0
        tops[measure] = float(f"{top:.2g}") if top > 0 else 1.0
    return tops
