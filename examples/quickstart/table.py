#!/usr/bin/env python3
"""The columns of the paper's Table 4, measured on the records of a quickstart run."""

import argparse
import json
import logging
import os
import platform
from pathlib import Path

import sacrebleu
import torch
from matplotlib.figure import Figure

from fairseq_pdd import __version__
from fairseq_pdd.assess import (
    TRANSLATION,
    Table,
    best,
    build_table,
    choose_systems,
    combine,
    markdown,
    read_records,
    read_scores,
    set_name,
)
from fairseq_pdd.assess.plots import histogram

logging.getLogger("matplotlib").setLevel(logging.WARNING)  # fairseq logs whatever there is

KNOWLEDGE = "rmi"
NAMES = {"single": "Single", "ensemble": "Ensemble", "send": "SEnD", "pd_send2": "PD-SEnD²"}
FOLDERS = {"single": "member*"}  # where not that of the name


def draw(table: Table, records: Path, path: Path) -> None:
    """Histograms of knowledge uncertainty, in-domain against each out-of-domain set."""
    systems = ["ensemble", "pd_send2"]
    ood_sets = sorted(file.stem for file in (records / systems[0]).glob("ood_*.jsonl"))
    figure = Figure(figsize=(3 * len(ood_sets), 4.6), layout="constrained")
    panels = figure.subplots(len(systems), len(ood_sets), squeeze=False, sharey="row")
    for row, system in zip(panels, systems):
        inside = combine(read_scores(records / system / "test.jsonl"))[KNOWLEDGE]
        for axes, name in zip(row, ood_sets):
            outside = combine(read_scores(records / system / f"{name}.jsonl"))[KNOWLEDGE]
            histogram(axes, inside, outside, set_name(name))
            auc = table.rows[NAMES[system]][0][f"{name} {KNOWLEDGE}"]
            axes.set_title(f"{NAMES[system]}: AUC {auc:.1f} %", fontsize=10)
    for axes in panels[-1]:
        axes.set_xlabel("RMI (nats a token)", fontsize=9)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("records", type=Path, help="folder with a folder of records per system")
    parser.add_argument("--out", type=Path, required=True, help="folder for table and picture")
    args = parser.parse_args()

    choices = [f"{name}={FOLDERS.get(system, system)}" for system, name in NAMES.items()]
    table = build_table(choose_systems(args.records, choices), TRANSLATION)
    test = best(read_records(args.records / "ensemble" / "test.jsonl"))
    references = [r["reference"] for r in test]
    copied = sacrebleu.corpus_bleu([r["source"] for r in test], [references]).score
    table.notes.extend(
        [
            f"Copying the source has a BLEU of {copied:.1f}. Students have seed 1.",
            f"fairseq_pdd {__version__}, torch {torch.__version__}, {os.cpu_count()} cores "
            f"{platform.machine()}.",
        ]
    )
    text = markdown(table)
    (args.out / "table.md").write_text(text, encoding="utf-8")
    measured = {system: table.rows[name] for system, name in NAMES.items()}
    (args.out / "table.json").write_text(json.dumps(measured, indent=2) + "\n")
    draw(table, args.records, args.out / "ood.png")
    print(text)
    print(
        f"Table: {args.out}/table.md, numbers: {args.out}/table.json, picture: {args.out}/ood.png"
    )


if __name__ == "__main__":
    main()
