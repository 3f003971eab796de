#!/usr/bin/env python3
"""Evaluate single models, ensemble, proxy and students on plain and on shifted images.

Reads the members from RUN/members/SEED/single.pt, the students from RUN/students/SEED/CRITERION.pt.
Writes RUN/results.json, the input of report_classifiers.py.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Dict, List, Tuple

import torch
from classifiers import load
from criteria import CRITERIA
from image_sets import SETTINGS, LabelledImages, Settings
from predictions import (
    Prediction,
    Scores,
    of_classifier,
    of_ensemble,
    of_prior_network,
    of_proxy,
)
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from fairseq_pdd.core import EnsembleStatistics
from fairseq_pdd.errors import UsageError, show_usage_errors_in_one_line

BATCH = 250
System = Tuple[str, str]
"""Name of the system and its seed; the seed of ensemble and proxy is empty."""


class Systems:
    """All models of a run."""

    def __init__(self, run: Path, settings: Settings, device: torch.device) -> None:
        def find(pattern: str) -> Dict[System, nn.Module]:
            return {
                (path.stem, path.parent.name): load(
                    settings.architecture, settings.num_classes, path
                ).to(device)
                for path in sorted(run.glob(pattern))
            }

        self.members = find("members/*/single.pt")
        self.students = find("students/*/*.pt")
        if not self.members:
            raise UsageError(f"{run} has no members/SEED/single.pt; train the ensemble first")

    def predict(self, images: Tensor) -> Dict[System, Prediction]:
        """Predict with every system."""
        predictions: Dict[System, Prediction] = {}
        statistics = EnsembleStatistics()
        for system, member in self.members.items():
            prediction = of_classifier(member(images))
            statistics.update(prediction.log_probs)
            predictions[system] = prediction
        predictions["ensemble", ""] = of_ensemble(statistics)
        predictions["proxy", ""] = of_proxy(statistics)
        for system, student in self.students.items():
            predict = of_prior_network if CRITERIA[system[0]].is_prior_network else of_classifier
            predictions[system] = predict(student(images))
        return predictions


@torch.no_grad()
def score(
    images: LabelledImages, systems: Systems, settings: Settings, device: torch.device, title: str
) -> Dict[System, Scores]:
    """Score every system on one set."""
    scores: Dict[System, Scores] = {}
    loader = DataLoader(images, BATCH, num_workers=settings.workers)
    for batch, labels in tqdm(loader, title, unit="batch", leave=False):
        for system, prediction in systems.predict(batch.to(device)).items():
            if system not in scores:
                scores[system] = Scores()
            scores[system].update(prediction, labels)
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of the images")
    parser.add_argument("run", type=Path, help="folder of the trained models")
    parser.add_argument("--config", choices=SETTINGS, required=True, help="as in training")
    args = parser.parse_args()

    settings = SETTINGS[args.config]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    systems = Systems(args.run, settings, device)
    sets = settings.evaluation_sets(args.data)
    in_domain = score(sets.pop("test"), systems, settings, device, "test")
    measured: List[Dict[str, object]] = [
        {"system": name, "seed": seed, "set": "test", **scores.quality()}
        for (name, seed), scores in in_domain.items()
    ]
    for title, images in sets.items():
        for system, scores in score(images, systems, settings, device, title).items():
            measured.append(
                {
                    "system": system[0],
                    "seed": system[1],
                    "set": title,
                    **scores.quality(),
                    **scores.detection(in_domain[system]),
                }
            )
    out = args.run / "results.json"
    (new := out.with_suffix(".unfinished")).write_text(json.dumps(measured, indent=1) + "\n")
    os.replace(new, out)
    print(f"wrote {out}")


if __name__ == "__main__":
    show_usage_errors_in_one_line()
    main()
