#!/usr/bin/env python3
"""Make the tables and figures of the study from the records of its run."""

import argparse
import json
import os
import platform
import sys
from pathlib import Path
from typing import Callable, Iterator, NamedTuple, Optional

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.stats import spearmanr, ttest_rel
from tqdm import tqdm

from fairseq_pdd import __version__
from fairseq_pdd.assess import (
    Level,
    Metric,
    Style,
    System,
    build_table,
    choose_systems,
    combine,
    detect_without_total,
    faithfulness_of,
    markdown,
    plain_measures,
    rejection,
    sentence_errors,
    set_name,
)
from fairseq_pdd.assess.quality import corpus_quality
from fairseq_pdd.errors import show_usage_errors_in_one_line
from fairseq_pdd.records import RecordSet, read_records

NAMES = {
    "member*": "Single",
    "ensemble": "Ensemble",
    "proxy": "Proxy",
    "send-seed*": "SEnD",
    "pd_send2-seed*": "PD-SEnD²",
    "pd_send2_authors-seed*": "PD-SEnD², authors' loss",
    "authors-seed*": "PD-SEnD², authors' loss and measures",
    "pd_send2_forward-seed*": "forward KL",
    "send2-seed*": "SEnD² (Dir-NLL)",
}
OURS = "PD-SEnD²"
MEASURES = ("total", "rmi", "mutual_information", "epkl")
SIGNIFICANT = 0.05


class Value(NamedTuple):
    """A quantity of a system: one number per run; None where it is not defined."""

    system: str
    quantity: str
    runs: list[Optional[float]]

    def cell(self, digits: int = 1) -> str:
        """Format the mean ± standard deviation over the runs."""
        known = [value for value in self.runs if value is not None]
        if not known:
            return "–"
        text = f"{np.mean(known):.{digits}f}"
        return text + (f" ± {np.std(known, ddof=1):.{digits}f}" if len(known) > 1 else "")


def best(folder: Path, name: str, token_ranks: int = 0) -> RecordSet:
    """Read the best hypotheses of a set."""
    return read_records(folder / f"{name}.jsonl", token_ranks=token_ranks).best()


def pivot(values: list[Value], digits: int) -> str:
    """Return a Markdown table: a row per system, a column per quantity."""
    columns = list(dict.fromkeys(value.quantity for value in values))
    cells = {(value.system, value.quantity): value.cell(digits) for value in values}
    lines = ["| | " + " | ".join(columns) + " |", "|" + " --- |" * (len(columns) + 1)]
    for system in dict.fromkeys(value.system for value in values):
        row = [cells.get((system, column), "–") for column in columns]
        lines.append(f"| {system} | " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def quality(systems: list[System]) -> list[Value]:
    """Compute chrF, and the prediction rejection ratio of each measure over sentence BLEU, in %."""
    values = []
    for system in tqdm(systems, "quality", leave=False, disable=None):
        rows: dict[str, list[Optional[float]]] = {}
        for folder in system.runs:
            test = best(folder, "test")
            rows.setdefault("chrF", []).append(corpus_quality(test, Metric.chrf).value)
            errors = sentence_errors(test, Metric.bleu)
            found = combine(test)
            for measure in MEASURES:
                prr = None
                if measure in found:
                    prr = rejection(errors, found[measure]).prr
                rows.setdefault(f"PRR {measure}", []).append(prr and 100 * prr)
        values += [Value(system.name, quantity, runs) for quantity, runs in rows.items()]
    return values


def faithfulness(students: list[System], ensemble: Path) -> Iterator[tuple[str, Value]]:
    """Yield, by set, what a student's RMI has in common with its ensemble's, on its outputs."""
    for name in sorted(path.stem for path in ensemble.glob("nll*.jsonl")):
        teacher, inside = best(ensemble, name), best(ensemble, "nll")
        label = set_name(name.removeprefix("nll_")) if name != "nll" else "test"
        own = faithfulness_of(teacher, teacher, Level.sentence, 0)["rmi"]
        coupling = own.ensemble_coupling
        yield label, Value("Ensemble", "RMI ~ total", [coupling and coupling.value])
        for student in students:
            rows: dict[str, list[Optional[float]]] = {}
            for folder in student.runs:
                outputs = best(folder, name)
                found = faithfulness_of(outputs, teacher, Level.sentence, 0)["rmi"]
                estimates = {
                    "RMI ~ ensemble's": found.spearman,
                    "given total and length": found.given_total_and_length,
                    "total ~ ensemble's RMI": found.by_total,
                    "RMI ~ total": found.student_coupling,
                }
                if name != "nll":
                    areas = detect_without_total(
                        plain_measures(best(folder, "nll"), Level.sentence),
                        plain_measures(outputs, Level.sentence),
                        0,
                    )
                    if "rmi" in areas:
                        estimates["AUC without total"] = areas["rmi"].residual
                for key, estimate in estimates.items():
                    rows.setdefault(key, []).append(estimate and estimate.value)
            for key, runs in rows.items():
                yield label, Value(student.name, key, runs)
        if name != "nll":
            areas = detect_without_total(
                plain_measures(inside, Level.sentence), plain_measures(teacher, Level.sentence), 0
            )
            residual = areas["rmi"].residual
            yield label, Value("Ensemble", "AUC without total", [residual and residual.value])


def paired_tests(rows: dict[str, list[dict[str, Optional[float]]]]) -> str:
    """Compare PD-SEnD² with the other students over their seeds; return a Markdown table."""
    lines = ["| quantity | compared with | difference | p |", "|" + " --- |" * 4]
    ours = rows[OURS]
    for name, runs in rows.items():
        if name in (OURS, "Single") or len(runs) != len(ours) or len(ours) < 2:
            continue
        for key in ours[0]:
            pairs = [(a[key], b[key]) for a, b in zip(ours, runs)]
            if any(None in pair for pair in pairs):
                continue
            a, b = np.array(pairs, float).T
            p = ttest_rel(a, b).pvalue
            remark = "" if p < SIGNIFICANT else ", not significant"
            lines.append(f"| {key} | {name} | {np.mean(a - b):+.2f} | {p:.3f}{remark} |")
    return "\n".join(lines) + "\n"


def draw_precision(records: Path, classes: int, path: Path) -> dict[str, float]:
    """Draw students' precisions against the proxy's, by token of the ensemble's output.

    Returns:
        The rank correlation by system.
    """
    figure = Figure(figsize=(9, 4), layout="constrained")
    folders = {OURS: "pd_send2-seed1", "authors' loss": "pd_send2_authors-seed1"}
    proxy = _log_precision(records / "proxy", classes)
    correlations = {}
    for axes, (name, folder) in zip(figure.subplots(1, 2, sharey=True), folders.items()):
        student = _log_precision(records / folder, classes)
        correlations[name] = float(spearmanr(proxy, student).statistic)
        axes.plot(proxy, student, ",", alpha=0.4, rasterized=True)
        axes.axline((proxy.mean(), proxy.mean()), slope=1, color="black", linewidth=0.8)
        axes.set_title(f"{name}: rank correlation {correlations[name]:.2f}", fontsize=10)
        axes.set_xlabel("ln precision of the proxy")
    figure.axes[0].set_ylabel("ln precision of the student")
    figure.savefig(path, dpi=100)
    return correlations


def _log_precision(folder: Path, classes: int) -> np.ndarray:
    """Return ln α₀ of each token, from EPKL = (K - 1)/α₀."""
    tokens = best(folder, "nll", token_ranks=1).tokens
    return np.log((classes - 1) / tokens.measures["epkl"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path, help="folder of the run")
    parser.add_argument("--out", type=Path, required=True, help="folder for tables and figures")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    records, same = args.work / "records", args.work / "same_outputs"

    def present(folder: Path, wanted: Callable[[str], bool]) -> list[System]:
        names = {p: n for p, n in NAMES.items() if wanted(p) and any(folder.glob(p))}
        return choose_systems(folder, [f"{name}={pattern}" for pattern, name in names.items()])

    systems = present(records, lambda pattern: True)
    table = build_table(systems, Style(Metric.bleu, MEASURES))
    measured = quality(systems)
    students = present(same, lambda pattern: "seed" in pattern or pattern == "proxy")
    faithful: dict[str, list[Value]] = {}
    for label, value in faithfulness(students, same / "ensemble"):
        faithful.setdefault(label, []).append(value)
    types = (args.work / "bin").glob("dict.*.txt")
    classes = len(next(types).read_text(encoding="utf-8").splitlines()) + 4  # fairseq's own symbols
    precision = draw_precision(same, classes, args.out / "precision.png")

    table.notes.append(
        f"fairseq_pdd {__version__}, torch {torch.__version__}, {os.cpu_count()} cores "
        f"{platform.machine()}."
    )
    parts = {"Table 4": markdown(table), "Quality and rejection": pivot(measured, 1)}
    for label, values in faithful.items():
        parts[f"Faithfulness, {label}"] = pivot(values, 2)
    parts[f"{OURS} and other students, paired by seed"] = paired_tests(table.rows)
    text = "\n".join(f"## {title}\n\n{part}" for title, part in parts.items())
    (args.out / "study.md").write_text(text, encoding="utf-8")
    numbers = {
        "table": table.rows,
        "quality": [value._asdict() for value in measured],
        "faithfulness": {k: [v._asdict() for v in values] for k, values in faithful.items()},
        "precision_rank_correlation": precision,
    }
    (args.out / "study.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    print(text)
    print(f"Tables: {args.out}/study.md, numbers: {args.out}/study.json", file=sys.stderr)


if __name__ == "__main__":
    show_usage_errors_in_one_line()
    main()
