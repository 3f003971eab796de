#!/usr/bin/env python3
"""Draw training curves and norms of gradients of students, by loss and size of the vocabulary.

Reads the logs of vocabularies.sh; writes vocabularies.png and vocabularies.json.
"""

import argparse
import json
import math
import re
from pathlib import Path

from matplotlib.figure import Figure

NAMES = {
    "pd_send2": "reverse KL (PD-SEnD²)",
    "pd_send2_forward": "forward KL",
    "send2": "Dirichlet likelihood (SEnD²)",
}
VALUE = re.compile(r"(\w+)[= ]([-+.\deE]+|nan|inf)(?=[, ]|$)")


def read_log(path: Path) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """Read fairseq's log lines of training and of validation; nll_loss in nats."""
    found: dict[str, list[dict[str, float]]] = {"train_inner": [], "valid": []}
    for line in path.read_text(encoding="utf-8").splitlines():
        parts = line.split(" | ")
        if len(parts) > 3 and parts[2] in found:
            values = {key: float(value) for key, value in VALUE.findall(" | ".join(parts[3:]))}
            values["nll_loss"] *= math.log(2)  # fairseq logs it in base 2
            found[parts[2]].append(values)
    return found["train_inner"], found["valid"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path, help="folder with a folder of a run for each vocabulary")
    parser.add_argument("vocabularies", type=int, nargs="+", help="numbers of subwords")
    args = parser.parse_args()

    sizes = args.vocabularies
    figure = Figure(figsize=(3.2 * len(sizes), 5.4), layout="constrained")
    panels = figure.subplots(2, len(sizes), squeeze=False, sharex=True, sharey="row")
    results: dict[str, dict[str, dict[str, list[float]]]] = {}
    for (top, bottom), size in zip(panels.T, sizes):
        results[str(size)] = {}
        for criterion, name in NAMES.items():
            train, valid = read_log(args.work / str(size) / "logs" / f"{criterion}-seed1.log")
            updates = [line["num_updates"] for line in train]
            top.plot(updates, [line["nll_loss"] for line in train], label=name)
            bottom.semilogy(updates, [line["gnorm"] for line in train])
            results[str(size)][name] = {
                "valid NLL by epoch": [line["nll_loss"] for line in valid],
                "gradient norm": [line["gnorm"] for line in train],
            }
        top.axhline(math.log(size), color="black", linewidth=0.8, linestyle=":")
        top.set_title(f"{size:,} subwords", fontsize=10)
        bottom.set_xlabel("updates")
    panels[0][0].set_ylabel("NLL of the targets, nats")
    panels[1][0].set_ylabel("norm of the gradient")
    panels[0][0].legend(fontsize=8)
    figure.savefig(args.work / "vocabularies.png", dpi=100)
    text = json.dumps(results, indent=1) + "\n"
    (args.work / "vocabularies.json").write_text(text, encoding="utf-8")
    for size, by_loss in results.items():
        for name, values in by_loss.items():
            print(f"{int(size):7,} {name:30} NLL {values['valid NLL by epoch'][-1]:.2f} nats")
    print(f"Figure: {args.work}/vocabularies.png, numbers: {args.work}/vocabularies.json")


if __name__ == "__main__":
    main()
