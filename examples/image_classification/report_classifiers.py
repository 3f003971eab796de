#!/usr/bin/env python3
"""Make the paper's Tables 1 and 2 and Figure 3, and the tables and figure of the class sweep.

Reads RUN/results.json and RUN/glyphs. Writes RUN/report.md, RUN/severity.png and RUN/classes.png.
"""

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

import matplotlib
import numpy as np
import torch
from criteria import CRITERIA
from predictions import ECE_BINS
from tabulate import tabulate

from fairseq_pdd.errors import UsageError, show_usage_errors_in_one_line
from fairseq_pdd.version import __version__

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

TITLES = {
    **{name: criterion.title for name, criterion in CRITERIA.items()},
    "ensemble": "Ensemble",
    "proxy": "Proxy",
}
ORDER = ["single", "end", "pd_end2", "end2", "end2_offset", "forward_kl", "ensemble", "proxy"]
COLOURS = dict(
    zip(
        ORDER,
        ["#999999", "#56b4e9", "#0072b2", "#d55e00", "#cc79a7", "#e69f00", "#000000", "#009e73"],
    )
)
Row = Dict[str, float]


class Results:
    """Rows of measurements, each with system, seed and place (a set, or a number of classes)."""

    def __init__(self, rows: List[Row], key: str) -> None:
        self.rows, self.key = rows, key
        self.systems = [name for name in ORDER if any(row["system"] == name for row in rows)]
        self.places = list(dict.fromkeys(row[key] for row in rows))

    def values(self, system: str, places: Sequence[object], column: str) -> List[float]:
        """Return one value per seed: the mean over places."""
        by_seed: Dict[object, List[float]] = {}
        for row in self.rows:
            if row["system"] == system and row[self.key] in places and column in row:
                by_seed.setdefault(row["seed"], []).append(row[column])
        return [float(np.mean(values)) for values in by_seed.values()]

    def cell(self, system: str, places: Sequence[object], column: str, digits: int) -> str:
        """Format mean ± standard deviation over seeds."""
        values = self.values(system, places, column)
        if not values:
            return "–"
        spread = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
        return f"{np.mean(values):.{digits}f}{spread}"

    def curve(
        self, axis: Axes, system: str, xs: Sequence[float], places: Sequence[object], y: str
    ) -> None:
        """Draw the mean over seeds with a band of one standard deviation."""
        points = [(x, self.values(system, [place], y)) for x, place in zip(xs, places)]
        points = [(x, values) for x, values in points if values]
        if not points:
            return
        means = np.array([np.mean(values) for _, values in points])
        spread = np.array([np.std(v, ddof=1) if len(v) > 1 else 0 for _, v in points])
        at, colour = [x for x, _ in points], COLOURS[system]
        axis.plot(at, means, marker="o", ms=3, lw=1.4, color=colour, label=TITLES[system])
        axis.fill_between(at, means - spread, means + spread, color=colour, alpha=0.2, lw=0)


def read(path: Path, key: str) -> Results:
    """Read the measurements of one file.

    Raises:
        UsageError: the file is missing or damaged.
    """
    try:
        return Results(json.loads(path.read_text()), key)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path} ({error}); run the evaluation first") from None


def read_sweep(folder: Path) -> Optional[Results]:
    """Read the sweep over the number of classes; ``None`` if there is none."""
    parts = sorted(folder.glob("*.json"), key=lambda path: int(path.stem))
    rows = [row for part in parts for row in read(part, "classes").rows]
    return Results(rows, "classes") if rows else None


def grouped(places: Sequence[object]) -> Dict[str, List[object]]:
    """Group sets by name; the severities of a kind are one group."""
    groups: Dict[str, List[object]] = {}
    for place in places:
        groups.setdefault(str(place).partition("/")[0], []).append(place)
    return groups


def predicts(system: str, column: str) -> bool:
    """Check that the system has its own values: the proxy's prediction is the ensemble's."""
    return system != "proxy" or column.startswith("auc")


def markdown(headers: List[str], rows: List[List[str]]) -> str:
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def quality_table(results: Results) -> str:
    """Format Table 1: quality of the predictions."""
    columns: List[Tuple[str, List[object], str]] = []
    for group, places in grouped(results.places).items():
        if results.values("ensemble", places, "accuracy"):
            measures = ["accuracy", "ece", *(["nll", "brier"] if group == "test" else [])]
            columns += [(group, places, name) for name in measures]
    digits = {"nll": 3, "brier": 3}
    names = {"accuracy": "Acc", "ece": "ECE", "nll": "NLL", "brier": "Brier"}
    return markdown(
        ["", *(f"{group} {names[name]}" for group, _, name in columns)],
        [
            [TITLES[s], *(results.cell(s, p, name, digits.get(name, 1)) for _, p, name in columns)]
            for s in results.systems
            if predicts(s, "accuracy")
        ],
    )


def detection_table(results: Results) -> str:
    """Format Table 2: detection of shifted images."""
    groups = {k: v for k, v in grouped(results.places).items() if k != "test"}
    kinds = ("total", "knowledge")
    return markdown(
        ["", *(f"{group} {kind}" for group in groups for kind in kinds)],
        [
            [
                TITLES[s],
                *(results.cell(s, p, f"auc_{k}", 1) for p in groups.values() for k in kinds),
            ]
            for s in results.systems
        ],
    )


def sweep_table(results: Results, column: str, digits: int) -> str:
    """Format one measure of the sweep: a row for each system, a column for each K."""
    return markdown(
        ["", *(f"K = {place:,}" for place in results.places)],
        [
            [TITLES[s], *(results.cell(s, [k], column, digits) for k in results.places)]
            for s in results.systems
            if any(results.values(s, [k], column) for k in results.places) and predicts(s, column)
        ],
    )


def draw_severity(results: Results, path: Path) -> None:
    """Draw Figure 3: measures by severity; severity 0 is the test set itself."""
    places = ["test", *grouped(results.places).get("corrupted", [])]
    panels = {
        "accuracy": "accuracy (%)",
        "ece": "ECE (%)",
        "auc_total": "ROC-AUC (%), total uncertainty",
        "auc_knowledge": "ROC-AUC (%), knowledge uncertainty",
    }
    figure, axes = plt.subplots(1, len(panels), figsize=(3.3 * len(panels), 3.1))
    for axis, (column, title) in zip(axes, panels.items()):
        for system in results.systems:
            if predicts(system, column):
                results.curve(axis, system, range(len(places)), places, column)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("severity of corruption", fontsize=9)
    finish(figure, path)


def draw_sweep(results: Results, path: Path) -> None:
    """Draw quality and detection by the number of classes."""
    panels = {
        "accuracy": "accuracy (%)",
        "nll": "NLL (nats)",
        "auc_total": "ROC-AUC (%), total uncertainty",
        "auc_knowledge": "ROC-AUC (%), knowledge uncertainty",
    }
    figure, axes = plt.subplots(1, len(panels), figsize=(3.3 * len(panels), 3.3))
    for axis, (column, title) in zip(axes, panels.items()):
        for system in results.systems:
            if predicts(system, column):
                xs = [float(k) for k in results.places]
                results.curve(axis, system, xs, results.places, column)
        axis.set_xscale("log")
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("classes K", fontsize=9)
    finish(figure, path)


def finish(figure: Figure, path: Path) -> None:
    """Add one legend for all panels and write the file."""
    lines = {}
    for axis in figure.axes:
        for line, label in zip(*axis.get_legend_handles_labels()):
            lines[label] = line
        axis.tick_params(labelsize=8)
    figure.legend(
        lines.values(), lines.keys(), loc="lower center", ncol=len(lines), fontsize=8, frameon=False
    )
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.savefig(path, dpi=100)
    plt.close(figure)


def counts(results: Results, system: str) -> int:
    return len({row["seed"] for row in results.rows if row["system"] == system})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of the evaluated run")
    run: Path = parser.parse_args().run

    results = read(run / "results.json", "set")
    students = counts(results, "end")
    sections = [
        "Prediction (Table 1): accuracy and ECE in %, NLL in nats",
        quality_table(results),
        "Detection of shifted images among test images (Table 2): ROC-AUC in %, by total and by "
        "knowledge uncertainty (mutual information)",
        detection_table(results),
        "\n".join(
            [
                f"- Mean ± standard deviation over {counts(results, 'single')} members (Single) "
                f"and {students} seeds (students).",
                f"- ECE: {ECE_BINS} bins of equal width. Corrupted: mean over severities.",
                f"- fairseq_pdd {__version__}, torch {torch.__version__}, "
                f"{os.cpu_count()} cores {platform.machine()}.",
            ]
        ),
    ]
    draw_severity(results, run / "severity.png")
    sweep = read_sweep(run / "glyphs")
    if sweep is not None:
        for column, title, digits in (
            ("accuracy", "accuracy in %", 1),
            ("nll", "NLL in nats", 2),
            ("ece", "ECE in %", 1),
            ("auc_total", "ROC-AUC in % of unknown characters by total uncertainty", 1),
            ("auc_knowledge", "the same by knowledge uncertainty", 1),
        ):
            sections += [f"Sweep over classes: {title}", sweep_table(sweep, column, digits)]
        draw_sweep(sweep, run / "classes.png")
    text = "\n\n".join(sections) + "\n"
    (run / "report.md").write_text(text, encoding="utf-8")
    print(text)
    print(f"wrote {run}/report.md and its figures")


if __name__ == "__main__":
    show_usage_errors_in_one_line()
    main()
