#!/usr/bin/env python3
"""The columns of the paper's Table 3, measured on the records of a run of the speech quickstart."""

import argparse
import json
import logging
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Optional

import jiwer
import matplotlib
import numpy as np
import torch
from tabulate import tabulate

from fairseq_pdd import __version__
from fairseq_pdd.assess import Record, best, negative_log_likelihood, read_records, roc_auc

matplotlib.use("Agg")
import matplotlib.pyplot as plt

logging.getLogger("matplotlib").setLevel(logging.WARNING)  # fairseq logs whatever there is

SYSTEMS = {"single": "Single", "ensemble": "Ensemble", "send": "SEnD", "pd_send2": "PD-SEnD²"}
MEASURES = {"total": "total", "rmi": "RMI", "mutual_information": "I", "epkl": "EPKL"}
Row = dict[str, Optional[float]]


def word_error_rate(records: list[Record]) -> float:
    """Errors in % of the references' words."""
    return 100 * jiwer.wer([r["reference"] for r in records], [r["hypothesis"] for r in records])


def measure(folder: Path, ood_sets: list[str]) -> Row:
    """All columns for one run of a system."""
    test = best(read_records(folder / "test.jsonl"))
    row: Row = {"WER": word_error_rate(test)}
    for column, name in (("NLL", "nll"), ("NLL, other audio", "nll_mismatched")):
        row[column] = negative_log_likelihood(best(read_records(folder / f"{name}.jsonl")))
    for name in ood_sets:
        records = best(read_records(folder / f"{name}.jsonl"))
        for key in MEASURES:
            auc = roc_auc(test, records, key)
            row[f"{name} {key}"] = None if auc is None else 100 * auc
    return row


def cell(runs: list[Row], column: str, digits: int) -> str:
    """Mean, with the standard deviation where there are several runs."""
    known = [value for run in runs if (value := run[column]) is not None]
    if not known:
        return "–"
    text = f"{np.mean(known):.{digits}f}"
    return text + (f" ± {np.std(known, ddof=1):.{digits}f}" if len(known) > 1 else "")


def quality_table(measured: dict[str, list[Row]]) -> str:
    """WER and likelihood, a row a system."""
    columns = {"WER": 1, "NLL": 2, "NLL, other audio": 2}
    rows = [
        [SYSTEMS[system], *(cell(runs, column, digits) for column, digits in columns.items())]
        for system, runs in measured.items()
    ]
    return tabulate(rows, headers=["", *columns], tablefmt="github", disable_numparse=True)


def detection_table(measured: dict[str, list[Row]], ood_sets: list[str]) -> str:
    """ROC-AUCs, a row an out-of-domain set; measures that a system has not are left out."""
    columns = [
        (system, key)
        for system, runs in measured.items()
        for key in MEASURES
        if any(runs[0][f"{name} {key}"] is not None for name in ood_sets)
    ]
    rows = [
        [name.removeprefix("ood_"), *(cell(measured[s], f"{name} {key}", 1) for s, key in columns)]
        for name in ood_sets
    ]
    headers = ["", *(f"{SYSTEMS[system]} {MEASURES[key]}" for system, key in columns)]
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def draw(folder: Path, ood_sets: list[str], path: Path) -> None:
    """Mutual information of the ensemble and of the student, test against each other set."""
    key = "mutual_information"
    systems = ["ensemble", "pd_send2"]
    figure, axes = plt.subplots(
        len(systems), len(ood_sets), figsize=(3 * len(ood_sets), 4.6), squeeze=False, sharey="row"
    )
    for row, system in zip(axes, systems):
        test = best(read_records(folder / system / "test.jsonl"))
        inside = np.array([r["sequence"][key] for r in test])
        for axis, name in zip(row, ood_sets):
            records = best(read_records(folder / system / f"{name}.jsonl"))
            outside = np.array([r["sequence"][key] for r in records])
            low, high = np.quantile(np.concatenate([inside, outside]), [0.002, 0.998])
            bins = np.linspace(low, high, 30)
            axis.hist(inside, bins, density=True, alpha=0.65, color="#0072b2", label="test set")
            axis.hist(outside, bins, density=True, alpha=0.65, color="#e69f00", label=name[4:])
            axis.set_yticks([])
            axis.legend(frameon=False, fontsize=8)
            area = 100 * (roc_auc(test, records, key) or 0)
            axis.set_title(f"{SYSTEMS[system]}: AUC {area:.1f} %", fontsize=10)
    for axis in axes[-1]:
        axis.set_xlabel("mutual information (nats a token)", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("records", type=Path, help="folder with a folder of records per system")
    parser.add_argument("--out", type=Path, required=True, help="folder for table and picture")
    args = parser.parse_args()

    ood_sets = sorted(p.stem for p in (args.records / "ensemble").glob("ood_*.jsonl"))
    folders = {name: [args.records / name] for name in SYSTEMS}
    folders["single"] = sorted(args.records.glob("single-seed*"))
    measured = {
        system: [measure(folder, ood_sets) for folder in runs] for system, runs in folders.items()
    }
    test = best(read_records(args.records / "ensemble" / "test.jsonl"))
    sizes = ", ".join(
        f"{name.removeprefix('ood_')} "
        f"{len(best(read_records(args.records / 'ensemble' / f'{name}.jsonl')))}"
        for name in ood_sets
    )
    notes = [
        f"WER in %: jiwer {version('jiwer')}, {len(test)} utterances. NLL: nats a subword, of the "
        "references; other audio: of the same references with the audio of another utterance, "
        "which is what a model knows without listening.",
        f"Second table: ROC-AUC in % of the test set against other sets ({sizes} utterances), by "
        "the mean of a measure over the tokens of the best hypothesis. Total: entropy of the "
        "prediction; RMI, I (mutual information), EPKL: knowledge uncertainty.",
        f"Single: mean ± standard deviation over {len(folders['single'])} member(s); all else one "
        "run, seed 1.",
        f"fairseq_pdd {__version__}, torch {torch.__version__}, {os.cpu_count()} cores "
        f"{platform.machine()}.",
    ]
    tables = [quality_table(measured), detection_table(measured, ood_sets)]
    text = "\n\n".join([*tables, "\n".join(f"- {note}" for note in notes)]) + "\n"
    (args.out / "table.md").write_text(text, encoding="utf-8")
    (args.out / "table.json").write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
    draw(args.records, ood_sets, args.out / "ood.png")
    print(text)
    print(
        f"Table: {args.out}/table.md, numbers: {args.out}/table.json, picture: {args.out}/ood.png"
    )


if __name__ == "__main__":
    main()
