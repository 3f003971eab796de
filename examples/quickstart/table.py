#!/usr/bin/env python3
"""The columns of the paper's Table 4, measured on the records of a quickstart run."""

import argparse
import json
import logging
import os
import platform
from pathlib import Path
from typing import Optional

import matplotlib
import numpy as np
import sacrebleu
import torch
from tabulate import tabulate

from fairseq_pdd import __version__
from fairseq_pdd.assess import Record, best, negative_log_likelihood, read_records, roc_auc

matplotlib.use("Agg")
import matplotlib.pyplot as plt

logging.getLogger("matplotlib").setLevel(logging.WARNING)  # fairseq logs whatever there is

TOTAL, KNOWLEDGE = "total", "rmi"
NAMES = {"single": "Single", "ensemble": "Ensemble", "send": "SEnD", "pd_send2": "PD-SEnD²"}


def bleu(records: list[Record], hypotheses: list[str]) -> tuple[float, str]:
    """Corpus BLEU and sacreBLEU's signature."""
    metric = sacrebleu.BLEU()
    score = metric.corpus_score(hypotheses, [[r["reference"] for r in records]])
    return score.score, str(metric.get_signature())


def measure(folder: Path, ood_sets: list[str]) -> dict[str, Optional[float]]:
    """All columns for one system."""
    test = best(read_records(folder / "test.jsonl"))
    row: dict[str, Optional[float]] = {
        "BLEU": bleu(test, [r["hypothesis"] for r in test])[0],
        "NLL": negative_log_likelihood(best(read_records(folder / "nll.jsonl"))),
        "NLL Ens-Pred": negative_log_likelihood(best(read_records(folder / "nll_ensemble.jsonl"))),
    }
    for name in ood_sets:
        records = best(read_records(folder / f"{name}.jsonl"))
        for measure_name in (TOTAL, KNOWLEDGE):
            auc = roc_auc(test, records, measure_name)
            row[f"{name} {measure_name}"] = None if auc is None else 100 * auc
    return row


def cell(values: list[Optional[float]], digits: int) -> str:
    """Mean, with the standard deviation where there are several values."""
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    text = f"{np.mean(known):.{digits}f}"
    return text + (f" ± {np.std(known, ddof=1):.{digits}f}" if len(known) > 1 else "")


def draw(folder: Path, ood_sets: list[str], path: Path) -> None:
    """Histograms of knowledge uncertainty, in-domain against each out-of-domain set."""
    systems = ["ensemble", "pd_send2"]
    figure, axes = plt.subplots(
        len(systems), len(ood_sets), figsize=(3 * len(ood_sets), 4.6), squeeze=False, sharey="row"
    )
    for row, system in zip(axes, systems):
        test = best(read_records(folder / system / "test.jsonl"))
        inside = np.array([r["sequence"][KNOWLEDGE] for r in test])
        for axis, name in zip(row, ood_sets):
            records = best(read_records(folder / system / f"{name}.jsonl"))
            outside = np.array([r["sequence"][KNOWLEDGE] for r in records])
            low, high = np.quantile(np.concatenate([inside, outside]), [0.002, 0.998])
            bins = np.linspace(low, high, 30)
            axis.hist(inside, bins, density=True, alpha=0.65, color="#0072b2", label="test set")
            axis.hist(outside, bins, density=True, alpha=0.65, color="#e69f00", label=name[4:])
            axis.set_yticks([])
            axis.legend(frameon=False, fontsize=8)
            axis.set_title(
                f"{NAMES[system]}: AUC {100 * (roc_auc(test, records, KNOWLEDGE) or 0):.1f} %",
                fontsize=10,
            )
    for axis in axes[-1]:
        axis.set_xlabel("RMI (nats a token)", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("records", type=Path, help="folder with a folder of records per system")
    parser.add_argument("--out", type=Path, required=True, help="folder for table and picture")
    args = parser.parse_args()

    members = sorted(p.name for p in args.records.glob("member*"))
    ood_sets = sorted(p.stem for p in (args.records / "ensemble").glob("ood_*.jsonl"))
    systems = {"single": members, **{name: [name] for name in ("ensemble", "send", "pd_send2")}}
    measured = {
        system: [measure(args.records / folder, ood_sets) for folder in folders]
        for system, folders in systems.items()
    }
    digits = {"NLL": 2, "NLL Ens-Pred": 2}
    columns = list(measured["single"][0])
    table = tabulate(
        [
            [NAMES[system], *(cell([r[c] for r in rows], digits.get(c, 1)) for c in columns)]
            for system, rows in measured.items()
        ],
        headers=["", *(c.removeprefix("ood_") for c in columns)],
        tablefmt="github",
        disable_numparse=True,
    )
    test = best(read_records(args.records / "ensemble" / "test.jsonl"))
    copied, signature = bleu(test, [r["source"] for r in test])
    notes = [
        f"BLEU: sacreBLEU `{signature}`; copying the source gives {copied:.1f}. NLL: nats a token, "
        "on references and on the ensemble's output.",
        f"Other columns: ROC-AUC in %, {len(test)} test sentences against as many out-of-domain "
        f"ones, by the mean {TOTAL} (total) and {KNOWLEDGE} (knowledge uncertainty) over the "
        "tokens of the best hypothesis of beam 5.",
        f"Single: mean ± standard deviation over {len(members)} member(s); all else one run, "
        "seed 1.",
        f"fairseq_pdd {__version__}, torch {torch.__version__}, {os.cpu_count()} cores "
        f"{platform.machine()}.",
    ]
    text = table + "\n\n" + "\n".join(f"- {note}" for note in notes) + "\n"
    (args.out / "table.md").write_text(text, encoding="utf-8")
    (args.out / "table.json").write_text(json.dumps(measured, indent=2) + "\n")
    draw(args.records, ood_sets, args.out / "ood.png")
    print(text)
    print(
        f"Table: {args.out}/table.md, numbers: {args.out}/table.json, picture: {args.out}/ood.png"
    )


if __name__ == "__main__":
    main()
