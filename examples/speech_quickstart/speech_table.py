#!/usr/bin/env python3
"""The columns of the paper's Table 3, measured on the records of a run of the speech quickstart.

They are what `fairseq-pdd assess table --kind speech` measures, as two tables: that of the paper
would have some twenty columns.
"""

import argparse
import json
import logging
import os
import platform
from pathlib import Path

import torch
from matplotlib.figure import Figure
from tabulate import tabulate

from fairseq_pdd import __version__
from fairseq_pdd.assess import (
    SPEECH,
    Table,
    best,
    build_table,
    choose_systems,
    combine,
    negative_log_likelihood,
    read_records,
    read_scores,
    set_name,
)
from fairseq_pdd.assess.plots import histogram
from fairseq_pdd.assess.table import Column

logging.getLogger("matplotlib").setLevel(logging.WARNING)  # fairseq logs whatever there is

UNHEARD = "NLL, other audio"
SHOWN = "mutual_information"
NAMES = {"single": "Single", "ensemble": "Ensemble", "send": "SEnD", "pd_send2": "PD-SEnD²"}
FOLDERS = {"single": "single-seed*"}  # where not that of the name
SYMBOLS = {"rmi": "RMI", "mutual_information": "I", "epkl": "EPKL"}


def unheard(records: Path, folders: str) -> list[float]:
    """NLL of references with the audio of another utterance, for each run of a system."""
    return [
        negative_log_likelihood(best(read_records(run / "nll_mismatched.jsonl")))
        for run in sorted(records.glob(folders))
    ]


def quality(table: Table) -> str:
    """WER and likelihood, a row a system."""
    columns = [i for i, column in enumerate(table.columns) if not column.group]
    rows = [[cells[0], *(cells[1 + i] for i in columns)] for cells in table.cells()]
    header = ["", *(table.columns[i].name for i in columns)]
    return tabulate(rows, headers=header, tablefmt="github", disable_numparse=True)


def detection(table: Table) -> str:
    """ROC-AUCs, a row a set; measures that a system does not have are left out."""
    cells = {
        (column.group, column.name, row[0]): text
        for row in table.cells()
        for column, text in zip(table.columns, row[1:])
        if column.group
    }
    groups = list(dict.fromkeys(group for group, _, _ in cells))
    kinds = [
        (system, measure)
        for system, runs in table.rows.items()
        for measure in SPEECH.measures
        if any(runs[0][c.key] is not None for c in table.columns if c.group and c.name == measure)
    ]
    header = ["", *(f"{system} {SYMBOLS.get(measure, measure)}" for system, measure in kinds)]
    rows = [[group, *(cells[group, m, system] for system, m in kinds)] for group in groups]
    return tabulate(rows, headers=header, tablefmt="github", disable_numparse=True)


def draw(table: Table, records: Path, path: Path) -> None:
    """Mutual information of the ensemble and of the student, test against each other set."""
    systems = ["ensemble", "pd_send2"]
    ood_sets = sorted(file.stem for file in (records / systems[0]).glob("ood_*.jsonl"))
    figure = Figure(figsize=(3 * len(ood_sets), 4.6), layout="constrained")
    panels = figure.subplots(len(systems), len(ood_sets), squeeze=False, sharey="row")
    for row, system in zip(panels, systems):
        inside = combine(read_scores(records / system / "test.jsonl"))[SHOWN]
        for axes, name in zip(row, ood_sets):
            outside = combine(read_scores(records / system / f"{name}.jsonl"))[SHOWN]
            histogram(axes, inside, outside, set_name(name))
            auc = table.rows[NAMES[system]][0][f"{name} {SHOWN}"]
            axes.set_title(f"{NAMES[system]}: AUC {auc:.1f} %", fontsize=10)
    for axes in panels[-1]:
        axes.set_xlabel("mutual information (nats a token)", fontsize=9)
    figure.savefig(path, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("records", type=Path, help="folder with a folder of records per system")
    parser.add_argument("--out", type=Path, required=True, help="folder for table and picture")
    args = parser.parse_args()

    choices = [f"{name}={FOLDERS.get(system, system)}" for system, name in NAMES.items()]
    table = build_table(choose_systems(args.records, choices), SPEECH)
    for system, name in NAMES.items():
        values = unheard(args.records, FOLDERS.get(system, system))
        for row, value in zip(table.rows[name], values):
            row[UNHEARD] = value
    table.columns.append(Column("", UNHEARD, UNHEARD, 2))
    table.notes.extend(
        [
            f"{UNHEARD}: of the same references with the audio of another utterance, which "
            "is what a model knows without listening.",
            "Total: entropy of the prediction; RMI, I (mutual information), EPKL: knowledge "
            "uncertainty. Students have seed 1.",
            f"fairseq_pdd {__version__}, torch {torch.__version__}, {os.cpu_count()} cores "
            f"{platform.machine()}.",
        ]
    )
    notes = "\n".join(f"- {note}" for note in table.notes)
    text = "\n\n".join([quality(table), detection(table), notes]) + "\n"
    (args.out / "table.md").write_text(text, encoding="utf-8")
    measured = {system: table.rows[name] for system, name in NAMES.items()}
    (args.out / "table.json").write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
    draw(table, args.records, args.out / "ood.png")
    print(text)
    print(
        f"Table: {args.out}/table.md, numbers: {args.out}/table.json, picture: {args.out}/ood.png"
    )


if __name__ == "__main__":
    main()
