#!/usr/bin/env python3
"""Make the paper's Table 3 from the records of a speech quickstart run.

The columns are those of `fairseq-pdd assess table --kind speech`, in two tables, since one table
would have some twenty columns.
"""

import argparse
import json
import os
import platform
import sys
from pathlib import Path

import torch
from tabulate import tabulate

from fairseq_pdd import __version__
from fairseq_pdd.assess import (
    SPEECH,
    Table,
    build_table,
    choose_systems,
    negative_log_likelihood,
)
from fairseq_pdd.assess.table import Column
from fairseq_pdd.errors import show_usage_errors_in_one_line
from fairseq_pdd.records import read_records

sys.path.append(str(Path(__file__).resolve().parents[1] / "lib"))
from panels import draw_panels

OTHER_AUDIO = "NLL, other audio"
SHOWN = "mutual_information"
NAMES = {"single": "Single", "ensemble": "Ensemble", "send": "SEnD", "pd_send2": "PD-SEnD²"}
FOLDERS = {"single": "single-seed*"}  # folders that differ from the system's name
SYMBOLS = {"rmi": "RMI", "mutual_information": "I", "epkl": "EPKL"}


def mismatched_nll(records: Path, folders: str) -> list[float]:
    """Compute the NLL of references with the audio of another utterance, per run of a system."""
    return [
        negative_log_likelihood(read_records(run / "nll_mismatched.jsonl", token_ranks=0).best())
        for run in sorted(records.glob(folders))
    ]


def quality(table: Table) -> str:
    """Format WER and NLL as a table, one row per system."""
    columns = [i for i, column in enumerate(table.columns) if not column.group]
    rows = [[cells[0], *(cells[1 + i] for i in columns)] for cells in table.cells()]
    header = ["", *(table.columns[i].name for i in columns)]
    return tabulate(rows, headers=header, tablefmt="github", disable_numparse=True)


def detection(table: Table) -> str:
    """Format ROC-AUCs as a table, one row per set; measures that a system lacks are skipped."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("records", type=Path, help="folder with one folder of records per system")
    parser.add_argument("--out", type=Path, required=True, help="folder for table and picture")
    args = parser.parse_args()

    choices = [f"{name}={FOLDERS.get(system, system)}" for system, name in NAMES.items()]
    table = build_table(choose_systems(args.records, choices), SPEECH)
    for system, name in NAMES.items():
        values = mismatched_nll(args.records, FOLDERS.get(system, system))
        for row, value in zip(table.rows[name], values):
            row[OTHER_AUDIO] = value
    table.columns.append(Column("", OTHER_AUDIO, OTHER_AUDIO, 2))
    table.notes.extend(
        [
            f"{OTHER_AUDIO}: NLL of the same references, each with the audio of another utterance; "
            "it measures how well a model predicts the text without its audio.",
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
    picture = args.out / "ood.png"
    draw_panels(table, NAMES, args.records, SHOWN, "mutual information (nats per token)", picture)
    print(text)
    print(
        f"Table: {args.out}/table.md, numbers: {args.out}/table.json, picture: {args.out}/ood.png"
    )


if __name__ == "__main__":
    show_usage_errors_in_one_line()
    main()
