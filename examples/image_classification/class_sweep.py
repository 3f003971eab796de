#!/usr/bin/env python3
"""Distil an ensemble that classifies K glyphs, to measure the effect of K on each loss.

Everything but K is the same for every K and every loss: the network (except its last layer),
the number of steps, the optimiser. Writes a row for each system and seed to a JSON file.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Dict, List, NamedTuple

import torch
from classifiers import ensemble_statistics
from criteria import CRITERIA
from glyphs import SIZE, Glyphs, glyphs, sample
from predictions import Prediction, Scores, of_classifier, of_ensemble, of_prior_network, of_proxy
from torch import Generator, Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from tqdm import trange

from fairseq_pdd.errors import show_usage_errors_in_one_line

STUDENTS = ["end", "pd_end2", "end2", "end2_offset", "forward_kl"]
BATCH, HIDDEN, CLIP_NORM = 128, 256, 1.0


class Effort(NamedTuple):
    """Amount of training and evaluation."""

    members: int
    seeds: int
    """Number of students of each loss."""
    steps: int
    test_images: int
    """Number of test images of known classes, and of unknown characters."""


FULL, QUICK = Effort(4, 3, 600, 4000), Effort(2, 2, 60, 200)


def network(num_classes: int, seed: int) -> nn.Module:
    """Build a perceptron of two hidden layers."""
    torch.manual_seed(seed)
    return nn.Sequential(
        *(nn.Linear(SIZE * SIZE, HIDDEN), nn.ReLU(), nn.LayerNorm(HIDDEN)),
        *(nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.LayerNorm(HIDDEN)),
        nn.Linear(HIDDEN, num_classes),
    )


def train(
    criteria: List[str],
    shapes: Tensor,
    members: List[nn.Module],
    effort: Effort,
    learning_rate: float,
    seed: int,
) -> Dict[str, nn.Module]:
    """Train one network per criterion, all with the same initial weights and images."""
    networks = {name: network(len(shapes), seed) for name in criteria}
    optimizers = {
        name: torch.optim.Adam(model.parameters(), learning_rate)
        for name, model in networks.items()
    }
    schedules = [
        OneCycleLR(optimizer, learning_rate, total_steps=effort.steps)
        for optimizer in optimizers.values()
    ]
    generator = Generator().manual_seed(seed)
    for _ in trange(effort.steps, desc=f"seed {seed}", unit="step", leave=False):
        images, labels = sample(shapes, BATCH, generator)
        teacher = ensemble_statistics(members, images)
        for name, model in networks.items():
            of_labels, of_teacher = CRITERIA[name].from_labels, CRITERIA[name].from_teacher
            logits = model(images)
            losses = of_labels(logits, labels) if of_labels else of_teacher(logits, teacher)
            optimizers[name].zero_grad()
            losses.mean().backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
            optimizers[name].step()
        for schedule in schedules:
            schedule.step()
    return {name: model.eval() for name, model in networks.items()}


class Evaluation:
    """Test images, known and unknown, and the scores of the systems on them."""

    def __init__(self, shapes: Glyphs, effort: Effort) -> None:
        generator = Generator().manual_seed(2**31)
        self.num_classes = len(shapes.known)
        self.known = sample(shapes.known, effort.test_images, generator)
        self.novel = sample(shapes.novel, effort.test_images, generator)[0]
        self.rows: List[Dict[str, object]] = []

    def add(self, system: str, seed: int, known: Prediction, novel: Prediction) -> None:
        """Score a system's predictions."""
        inside, outside = Scores(), Scores()
        inside.update(known, self.known[1])
        outside.update(novel, torch.full((len(self.novel),), -1))
        self.rows.append(
            {
                "classes": self.num_classes,
                "system": system,
                "seed": seed,
                **inside.quality(),
                **outside.detection(inside),
            }
        )

    @torch.no_grad()
    def add_network(self, criterion: str, seed: int, model: nn.Module) -> None:
        """Score a single network."""
        predict = of_prior_network if CRITERIA[criterion].is_prior_network else of_classifier
        self.add(criterion, seed, predict(model(self.known[0])), predict(model(self.novel)))

    def add_ensemble(self, members: List[nn.Module]) -> None:
        """Score the members, the ensemble and its proxy."""
        for seed, member in enumerate(members):
            self.add_network("single", seed, member)
        known = ensemble_statistics(members, self.known[0])
        novel = ensemble_statistics(members, self.novel)
        self.add("ensemble", 0, of_ensemble(known), of_ensemble(novel))
        self.add("proxy", 0, of_proxy(known), of_proxy(novel))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("classes", type=int, help="number of classes, K")
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    parser.add_argument(
        "--learning-rate", type=float, default=3e-3, help="peak rate of all networks (%(default)s)"
    )
    parser.add_argument("--quick", action="store_true", help="little training, for tests")
    args = parser.parse_args()
    if args.out.exists():
        print(f"{args.out}: already trained")
        return

    effort = QUICK if args.quick else FULL
    start = time.time()
    shapes = glyphs(args.classes)
    evaluation = Evaluation(shapes, effort)
    members = []
    for seed in range(effort.members):
        trained = train(["single"], shapes.known, [], effort, args.learning_rate, seed)
        members.append(trained["single"])
    evaluation.add_ensemble(members)
    for seed in range(effort.members, effort.members + effort.seeds):
        students = train(STUDENTS, shapes.known, members, effort, args.learning_rate, seed)
        for name, student in students.items():
            evaluation.add_network(name, seed, student)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    (new := args.out.with_suffix(".unfinished")).write_text(json.dumps(evaluation.rows, indent=1))
    os.replace(new, args.out)
    print(f"K = {args.classes}: {len(evaluation.rows)} systems in {time.time() - start:.0f} s")


if __name__ == "__main__":
    show_usage_errors_in_one_line()
    main()
