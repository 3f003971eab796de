#!/usr/bin/env python3
"""Make the paper's Table 3 from the records of a speech quickstart run.

The columns are those of `fairseq-pdd assess table --kind speech`, in two tables, since one table
would have some forty columns. A third table has the detection of wrong words
(`fairseq-pdd assess token-errors`), a fourth how well students' measures follow their ensemble's on
the same outputs (`fairseq-pdd assess faithfulness`).
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
    Estimate,
    Level,
    System,
    Table,
    build_table,
    choose_systems,
    faithfulness_of,
    set_name,
    word_errors,
    word_scores,
)
from fairseq_pdd.assess.table import Column, Row
from fairseq_pdd.errors import show_usage_errors_in_one_line
from fairseq_pdd.records import read_records

sys.path.append(str(Path(__file__).resolve().parents[1] / "lib"))
from panels import draw_panels

SHOWN = "mutual_information"
# rows of the table by folder of the records; `pd_send2_train` is there with COMPARE=1 only
NAMES = {
    "single": "Single",
    "ensemble": "Ensemble",
    "send": "SEnD",
    "pd_send2": "PD-SEnD²",
    "pd_send2_train": "PD-SEnD², train only",
}
SYMBOLS = {"rmi": "RMI", "mutual_information": "I", "epkl": "EPKL"}
WRONG = "wrong words"
WORD_MEASURES = ("score", *SPEECH.measures)


def markdown(header: list[str], rows: list[list[str]]) -> str:
    return tabulate(rows, headers=header, tablefmt="github", disable_numparse=True)


def quality(table: Table) -> str:
    """Format the columns of the test set as a table, one row per system."""
    columns = [i for i, column in enumerate(table.columns) if not column.group]
    rows = [[cells[0], *(cells[1 + i] for i in columns)] for cells in table.cells()]
    return markdown(["", *(table.columns[i].name for i in columns)], rows)


def detection(table: Table) -> str:
    """Format ROC-AUCs as a table, one column per set; measures that a system lacks are skipped."""
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
    rows = [
        [f"{system}: {SYMBOLS.get(measure, measure)}", *(cells[g, measure, system] for g in groups)]
        for system, measure in kinds
    ]
    return markdown(["", *groups], rows)


def wrong_words(systems: list[System]) -> Table:
    """Assess the detection of wrong words of the test set, for every run of every system."""
    keys = {measure: f"{WRONG} {measure}" for measure in WORD_MEASURES}
    columns = [Column("", f"{WRONG}, %", WRONG, 1)]
    columns += [Column("", SYMBOLS.get(m, m), key, 1) for m, key in keys.items()]
    rows: dict[str, list[Row]] = {}
    for system in systems:
        rows[system.name] = []
        for run in system.runs:
            words = word_scores(read_records(run / "test.jsonl", token_ranks=1).best())
            row: Row = {WRONG: 100 * float(1 - words.correct.mean())}
            # detection is not defined if all words are right, or all wrong
            found = word_errors(words) if 0 < words.correct.mean() < 1 else {}
            for measure, key in keys.items():
                auc = found[measure].roc_auc if measure in found else None
                row[key] = None if auc is None else 100 * auc
            rows[system.name].append(row)
    return Table(columns, rows, [])


def agreement(systems: list[System], records: Path) -> Table:
    """Correlate students' measures with the ensemble's, over the references of each set."""
    shown, columns = SYMBOLS[SHOWN], []
    rows: dict[str, list[Row]] = {}

    def add(system: str, quantity: str, run: int, key: str, estimate: Estimate | None) -> None:
        runs = rows.setdefault(f"{system}: {quantity}", [])
        if run == len(runs):
            runs.append({})
        runs[run][key] = None if estimate is None else estimate.value

    for path in sorted((records / "ensemble").glob("nll*.jsonl")):
        key = path.stem
        name = "test" if key == "nll" else set_name(key.removeprefix("nll_"))
        columns.append(Column("", name, key, 2))
        ensemble = read_records(path, token_ranks=1).best()
        own = faithfulness_of(ensemble, ensemble, Level.sentence, 0)[SHOWN]
        add(NAMES["ensemble"], f"{shown} ~ total", 0, key, own.ensemble_coupling)
        for system in systems:
            if system.name in (NAMES["single"], NAMES["ensemble"]):
                continue
            for number, run in enumerate(system.runs):
                student = read_records(run / path.name, token_ranks=1).best()
                found = faithfulness_of(student, ensemble, Level.sentence, 0)[SHOWN]
                follows = {
                    f"{shown} ~ ensemble's": found.spearman,
                    f"total ~ ensemble's {shown}": found.by_total,
                    f"{shown} ~ total": found.student_coupling,
                }
                for quantity, estimate in follows.items():
                    add(system.name, quantity, number, key, estimate)
    known = {k: r for k, r in rows.items() if any(v is not None for run in r for v in run.values())}
    return Table(columns, known, [])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("records", type=Path, help="folder with one folder of records per system")
    parser.add_argument("--out", type=Path, required=True, help="folder for table and picture")
    args = parser.parse_args()

    folders = {
        system: found
        for system in NAMES
        if (found := [*args.records.glob(system), *args.records.glob(f"{system}-seed*")])
    }
    choices = [f"{NAMES[s]}={','.join(sorted(f.name for f in folders[s]))}" for s in folders]
    systems = choose_systems(args.records, choices)
    table, words = build_table(systems, SPEECH), wrong_words(systems)
    follows = agreement(systems, args.records)
    notes = [
        *table.notes,
        "Total: entropy of the prediction; RMI, I (mutual information), EPKL: knowledge "
        "uncertainty.",
        "Third table: share of the words of the test set's outputs that are wrong, and ROC-AUC in "
        "% of finding them by a measure, summed over the pieces of a word; score: -ln of the "
        "word's probability.",
        "Last table: Spearman's rank correlations over the references of each set, which all "
        "systems scored; of a student's measure with its ensemble's, and with its own total.",
        f"fairseq_pdd {__version__}, torch {torch.__version__}, {os.cpu_count()} cores "
        f"{platform.machine()}.",
    ]
    tables = [quality(table), detection(table), quality(words), quality(follows)]
    text = "\n\n".join([*tables, "\n".join(f"- {note}" for note in notes)]) + "\n"
    (args.out / "table.md").write_text(text, encoding="utf-8")
    measured = {
        system: [{**row, **more} for row, more in zip(table.rows[name], words.rows[name])]
        for system, name in NAMES.items()
        if name in table.rows
    }
    numbers = {**measured, "agreement": follows.rows}
    (args.out / "table.json").write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
    picture = args.out / "ood.png"
    draw_panels(table, NAMES, args.records, SHOWN, "mutual information (nats per token)", picture)
    print(text)
    print(
        f"Table: {args.out}/table.md, numbers: {args.out}/table.json, picture: {args.out}/ood.png"
    )


if __name__ == "__main__":
    show_usage_errors_in_one_line()
    main()
