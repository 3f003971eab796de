#!/usr/bin/env python3
"""Make the paper's Table 4 from the records of a quickstart run."""

import argparse
import json
import os
import platform
import sys
from pathlib import Path

import sacrebleu
import torch

from fairseq_pdd import __version__
from fairseq_pdd.assess import (
    TRANSLATION,
    build_table,
    choose_systems,
    markdown,
)
from fairseq_pdd.errors import show_usage_errors_in_one_line
from fairseq_pdd.records import read_records

sys.path.append(str(Path(__file__).resolve().parents[1] / "lib"))
from panels import draw_panels

KNOWLEDGE = "rmi"
NAMES = {"single": "Single", "ensemble": "Ensemble", "send": "SEnD", "pd_send2": "PD-SEnD²"}
# folders that differ from the system's name
FOLDERS = {"single": "member*", "send": "send-seed*", "pd_send2": "pd_send2-seed*"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("records", type=Path, help="folder with one folder of records per system")
    parser.add_argument("--out", type=Path, required=True, help="folder for table and picture")
    args = parser.parse_args()

    choices = [f"{name}={FOLDERS.get(system, system)}" for system, name in NAMES.items()]
    table = build_table(choose_systems(args.records, choices), TRANSLATION)
    test = read_records(args.records / "ensemble" / "test.jsonl", token_ranks=0).best()
    sources, references = (
        [text or "" for text in column] for column in (test.sources, test.references)
    )
    copied = sacrebleu.corpus_bleu(sources, [references]).score
    table.notes.extend(
        [
            f"Copying the source has a BLEU of {copied:.1f}.",
            f"fairseq_pdd {__version__}, torch {torch.__version__}, {os.cpu_count()} cores "
            f"{platform.machine()}.",
        ]
    )
    text = markdown(table)
    (args.out / "table.md").write_text(text, encoding="utf-8")
    measured = {system: table.rows[name] for system, name in NAMES.items()}
    (args.out / "table.json").write_text(json.dumps(measured, indent=2) + "\n")
    picture = args.out / "ood.png"
    draw_panels(table, NAMES, args.records, KNOWLEDGE, "RMI (nats per token)", picture)
    print(text)
    print(
        f"Table: {args.out}/table.md, numbers: {args.out}/table.json, picture: {args.out}/ood.png"
    )


if __name__ == "__main__":
    show_usage_errors_in_one_line()
    main()
