#!/usr/bin/env python3
"""Uncertainty of an ensemble and of its students over the plane: three noisy spirals.

Trains an ensemble on three classes of points in the plane, distils it by EnD, EnD² and PD-EnD²
in plain PyTorch with fairseq_pdd.core, and draws total, data and knowledge uncertainty of each.
"""

import argparse
import itertools
import json
import math
import os
import platform
import time
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence

import matplotlib
import numpy as np
import torch
from scipy.stats import spearmanr
from tabulate import tabulate
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from fairseq_pdd import __version__
from fairseq_pdd.core import (
    EnsembleStatistics,
    dirichlet_measures,
    dirichlet_nll,
    ensemble_measures,
    mean_kl,
    reverse_kl_proxy_dirichlet,
)

matplotlib.use("Agg")
import matplotlib.pyplot as plt

CLASSES = 3
EXTENT = 4.0  # half the side of the plotted square; the spirals end at about 2
BATCH = 256
LEARNING_RATE = 1e-2

# EnD² has α = exp(z) (Eq. 7). The losses require a positive offset, since an exponential can
# underflow. This one is far below any concentration of these students.
NO_OFFSET = 1e-6

MEASURES = {
    "total": "total uncertainty",
    "data": "data uncertainty",
    "mutual_information": "knowledge uncertainty (MI)",
    "rmi": "knowledge uncertainty (RMI)",
}
SHORT = {"total": "total", "data": "data", "mutual_information": "MI", "rmi": "RMI"}
UNCERTAIN = 0.01  # nats; a point with this total uncertainty or more counts as uncertain


def spirals(num: int, generator: torch.Generator) -> "tuple[Tensor, Tensor]":
    """Draw points ``[num, 2]`` of three spirals, noisier farther out, and classes ``[num]``."""
    classes = torch.randint(CLASSES, (num,), generator=generator)
    radius = torch.rand(num, generator=generator).sqrt()
    angle = 2 * math.pi * (classes / CLASSES + 0.6 * radius)
    points = 2 * radius * torch.stack([angle.cos(), angle.sin()])
    noise = torch.randn(2, num, generator=generator) * (0.1 + 0.35 * radius)
    return (points + noise).T, classes


class Networks(nn.Module):
    """Independent multilayer perceptrons, evaluated together.

    Args:
        num: number of networks, n.
        hidden: width of the two hidden layers.
        generator: random generator of the initial weights.
    """

    def __init__(self, num: int, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        sizes = [2, hidden, hidden, CLASSES]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for fan_in, fan_out in zip(sizes, sizes[1:]):
            weight = torch.randn(num, fan_in, fan_out, generator=generator) * math.sqrt(2 / fan_in)
            bias = torch.zeros(num, 1, fan_out)
            if fan_in == 2:  # spread the units' bends over the whole plane
                bias = (2 * torch.rand(num, 1, fan_out, generator=generator) - 1) * EXTENT
            self.weights.append(weight)
            self.biases.append(bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute logits ``[n, B, 3]`` for shared inputs ``[B, 2]`` or own inputs ``[n, B, 2]``."""
        hidden = inputs.expand(len(self.weights[0]), *inputs.shape[-2:])
        *layers, last = zip(self.biases, self.weights)
        for bias, weight in layers:
            hidden = torch.baddbmm(bias, hidden, weight).tanh()
        bias, weight = last
        return torch.baddbmm(bias, hidden, weight)


def draw_rows(sizes: Sequence[int], num: int, generator: torch.Generator) -> Tensor:
    """Draw row numbers ``[num, B]`` of concatenated sets, equally many from each set."""
    starts = np.cumsum([0, *sizes])
    return torch.cat(
        [
            int(start) + torch.randint(size, (num, BATCH // len(sizes)), generator=generator)
            for start, size in zip(starts, sizes)
        ],
        dim=1,
    )


def fit(
    networks: Networks,
    sets: Sequence[Tensor],
    loss_of: Callable[[Tensor, Tensor], Tensor],
    steps: int,
    generator: torch.Generator,
    name: str,
) -> None:
    """Train all networks, each on its own batches.

    Args:
        networks: n networks.
        sets: inputs ``[N_i, 2]`` of each set; a batch has equally many from each.
        loss_of: maps logits ``[n, B, 3]`` and rows ``[n, B]`` of the joined sets to ``[n, B]``.
        steps: number of updates.
        generator: random generator of the batches.
        name: label of the progress bar.
    """
    inputs = torch.cat(list(sets))
    optimizer = torch.optim.AdamW(networks.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for _ in tqdm(range(steps), desc=name, unit="step"):
        rows = draw_rows([len(each) for each in sets], len(networks.weights[0]), generator)
        loss = loss_of(networks(inputs[rows]), rows)
        optimizer.zero_grad()
        loss.mean(-1).sum().backward()  # summed, so that each network trains as alone
        optimizer.step()
        schedule.step()


def train_ensemble(
    points: Tensor, classes: Tensor, args: argparse.Namespace, generator: torch.Generator
) -> Networks:
    """Train members that differ in their initial weights and batches."""
    members = Networks(args.members, args.hidden, generator)

    def cross_entropy(logits: Tensor, rows: Tensor) -> Tensor:
        return F.cross_entropy(logits.movedim(-1, 1), classes[rows], reduction="none")

    fit(members, [points], cross_entropy, args.member_steps, generator, "ensemble")
    return members


@torch.no_grad()
def teacher_statistics(members: Networks, inputs: Tensor) -> EnsembleStatistics:
    """Compute the ensemble's statistics for inputs ``[N, 2]``."""
    result = EnsembleStatistics()
    # in float32, rounding exceeds the disagreement of members that nearly agree
    for log_probs in members(inputs).double().log_softmax(-1):
        result.update(log_probs)
    return result


class Prediction(NamedTuple):
    """Outputs of a system for N inputs."""

    probs: Tensor
    """Class probabilities, ``[N, 3]``."""
    measures: Dict[str, Tensor]
    """The measures of MEASURES that the system has, each ``[N]`` in nats."""


def _categorical_prediction(logits: Tensor) -> Prediction:
    log_probs = logits.log_softmax(-1)
    return Prediction(log_probs.exp(), {"total": ensemble_measures(log_probs[None], dim=0).total})


def _dirichlet_prediction(logits: Tensor, offset: float) -> Prediction:
    measures = dirichlet_measures(logits, offset)._asdict()
    alpha = logits.exp() + offset
    return Prediction(
        alpha / alpha.sum(-1, keepdim=True), {name: measures[name] for name in MEASURES}
    )


class Method(NamedTuple):
    """A distillation method: the loss of a student, and the prediction from its logits."""

    loss: Callable[[Tensor, EnsembleStatistics, Tensor], Tensor]
    """Maps logits ``[n, B, 3]``, the teacher and its rows ``[n, B]`` to ``[n, B]``."""
    predict: Callable[[Tensor], Prediction]
    """Maps the logits ``[N, 3]`` of one student to its prediction."""


METHODS = {
    "EnD": Method(
        loss=lambda z, teacher, rows: mean_kl(z, teacher.mean_probs[rows]),
        predict=_categorical_prediction,
    ),
    "EnD²": Method(
        loss=lambda z, teacher, rows: dirichlet_nll(z, teacher.mean_log_probs[rows], NO_OFFSET),
        predict=lambda z: _dirichlet_prediction(z, NO_OFFSET),
    ),
    "PD-EnD²": Method(
        loss=lambda z, teacher, rows: reverse_kl_proxy_dirichlet(
            z, teacher.mean_probs[rows], teacher.inverse_precision[rows]
        ),
        predict=lambda z: _dirichlet_prediction(z, 0.0),
    ),
}


def train_students(
    name: str,
    members: Networks,
    sets: Sequence[Tensor],
    args: argparse.Namespace,
    generator: torch.Generator,
) -> Networks:
    """Train ``args.students`` students that differ in their initial weights and batches."""
    students = Networks(args.students, args.hidden, generator)
    teacher = teacher_statistics(members, torch.cat(list(sets)))
    fit(
        students,
        sets,
        lambda logits, rows: METHODS[name].loss(logits, teacher, rows),
        args.student_steps,
        generator,
        name,
    )
    return students


def ensemble_prediction(members: Networks, inputs: Tensor) -> Prediction:
    """Predict with the ensemble itself."""
    statistics = teacher_statistics(members, inputs)
    measures = statistics.measures()._asdict()
    return Prediction(statistics.mean_probs, {name: measures[name] for name in MEASURES})


def proxy_prediction(members: Networks, inputs: Tensor) -> Prediction:
    """Predict with the Proxy-Dirichlet Dir(β̂) of Eq. 16, the target of PD-EnD²."""
    statistics = teacher_statistics(members, inputs)
    return _dirichlet_prediction(
        statistics.mean_probs.log() - statistics.inverse_precision.log().unsqueeze(-1), 0.0
    )


@torch.no_grad()
def student_predictions(students: Networks, method: Method, inputs: Tensor) -> List[Prediction]:
    """Predict with every student."""
    return [method.predict(logits) for logits in students(inputs)]


def plane(points: int) -> Tensor:
    """Make a square grid of points ``[points², 2]``, row by row from the bottom."""
    axis = torch.linspace(-EXTENT, EXTENT, points)
    return torch.cartesian_prod(axis, axis).flip(-1)


def measure(
    test: Prediction, classes: Tensor, on_plane: Prediction, teacher: Prediction
) -> Dict[str, Optional[float]]:
    """Compute a table row: quality on the test points, likeness to the ensemble on the plane."""
    of_class = test.probs.gather(-1, classes.unsqueeze(-1))
    row: Dict[str, Optional[float]] = {
        "accuracy": 100 * float((test.probs.argmax(-1) == classes).float().mean()),
        "NLL": float(-of_class.log().mean()),
    }
    uncertain = teacher.measures["total"] >= UNCERTAIN
    for name, theirs in teacher.measures.items():
        for column in ("error", "rank", "rank, uncertain"):
            row[f"{name} {column}"] = None
        if (ours := on_plane.measures.get(name)) is not None:
            row[f"{name} error"] = float((ours - theirs).abs().mean())
            row[f"{name} rank"] = rank_correlation(ours, theirs)
            row[f"{name} rank, uncertain"] = rank_correlation(ours[uncertain], theirs[uncertain])
    return row


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Compute Spearman's rank correlation of two tensors ``[N]``."""
    return float(spearmanr(a.numpy(), b.numpy()).statistic)


def cell(rows: List[Dict[str, Optional[float]]], column: str) -> str:
    """Format the mean, with the standard deviation if there are several students."""
    values = [value for row in rows if (value := row[column]) is not None]
    if not values:
        return "–"
    digits = 1 if column == "accuracy" else 3
    text = f"{np.mean(values):.{digits}f}"
    return text + (f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else "")


def table(measured: Dict[str, List[Dict[str, Optional[float]]]], columns: Dict[str, str]) -> str:
    """Format columns of the rows as Markdown, under their headings."""
    return tabulate(
        [[name, *(cell(rows, c) for c in columns)] for name, rows in measured.items()],
        headers=["", *columns.values()],
        tablefmt="github",
        disable_numparse=True,
    )


def report(measured: Dict[str, List[Dict[str, Optional[float]]]]) -> str:
    """Format both tables as Markdown, with descriptions of their columns."""
    quality = {"accuracy": "accuracy", "NLL": "NLL"}
    errors = {f"{name} error": title for name, title in SHORT.items()}
    ranks = {f"{name} rank": title for name, title in SHORT.items()}
    uncertain = {f"{name} rank, uncertain": f"{title} †" for name, title in SHORT.items()}
    return f"""{table(measured, {**quality, **errors})}

Accuracy (%) and NLL (nats) on test points; then the mean absolute difference of each measure
from the ensemble's over the plane (nats).

{table(measured, {**ranks, **uncertain})}

Spearman correlation of each measure with the ensemble's over the plane; †: over those points where
the ensemble's total uncertainty is at least {UNCERTAIN} nats.
"""


def draw(systems: Dict[str, Prediction], points: Tensor, classes: Tensor, path: Path) -> None:
    """Draw heat maps, one row per system; a column has the colour scale of its first row."""
    figure, axes = plt.subplots(
        len(systems),
        len(MEASURES),
        figsize=(11, 10),
        layout="constrained",
        sharex=True,
        sharey=True,
    )
    first = next(iter(systems.values()))
    for column, (name, title) in zip(axes.T, MEASURES.items()):
        highest = float(first.measures[name].quantile(0.99))
        for axis, (system, prediction) in zip(column, systems.items()):
            axis.set(xticks=[], yticks=[], xlim=(-EXTENT, EXTENT), ylim=(-EXTENT, EXTENT))
            axis.set_aspect("equal")
            if name not in prediction.measures:
                axis.text(0, 0, f"{system} has none", ha="center", va="center", color="gray")
                continue
            values = prediction.measures[name]
            side = math.isqrt(len(values))
            image = axis.imshow(
                values.view(side, side),
                origin="lower",
                extent=(-EXTENT, EXTENT, -EXTENT, EXTENT),
                vmin=0,
                vmax=highest,
                cmap="viridis",
                interpolation="nearest",
            )
        column[0].set_title(f"{title}, nats", fontsize=10)
        figure.colorbar(image, ax=column[-1], location="bottom", extend="max")
    for axis, system in zip(axes[:, 0], systems):
        axis.set_ylabel(system, fontsize=12)
    for of_class, colour in zip(range(CLASSES), ("#e69f00", "#56b4e9", "#cc79a7")):
        axes[0, 0].scatter(*points[classes == of_class].T, s=2, color=colour)
    figure.savefig(path, dpi=66)
    plt.close(figure)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results", help="folder of the results"
    )
    for name, default, text in (
        ("members", 10, "members of the ensemble"),
        ("students", 3, "students of each method"),
        ("hidden", 64, "width of hidden layers"),
        ("training-points", 300, "labelled points"),
        ("member-steps", 800, "updates of the members"),
        ("student-steps", 2000, "updates of the students"),
        ("grid", 100, "points per side of the plane"),
        ("seed", 1, "random seed"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=text)
    args = parser.parse_args()
    for name, value in vars(args).items():
        least = 2 if name in ("members", "grid") else 1
        if isinstance(value, int) and name != "seed" and value < least:
            parser.error(f"--{name.replace('_', '-')} must be at least {least}, not {value}")
    return args


def main() -> None:
    args = parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    started = time.time()
    generator = torch.Generator().manual_seed(args.seed)
    points, classes = spirals(args.training_points, generator)
    test, test_classes = spirals(5000, generator)
    anywhere = (2 * torch.rand(10_000, 2, generator=generator) - 1) * EXTENT
    grid = plane(args.grid)

    members = train_ensemble(points, classes, args, generator)
    teacher = ensemble_prediction(members, grid)
    systems = {"Ensemble": teacher}
    measured = {
        name: [measure(predict(members, test), test_classes, predict(members, grid), teacher)]
        for name, predict in (("Ensemble", ensemble_prediction), ("Proxy", proxy_prediction))
    }
    for suffix, sets in (("", [points, anywhere]), (", training inputs only", [points])):
        for name, method in METHODS.items():
            students = train_students(name, members, sets, args, generator)
            on_test = student_predictions(students, method, test)
            on_plane = student_predictions(students, method, grid)
            measured[name + suffix] = [
                measure(*of_student, teacher)
                for of_student in zip(on_test, itertools.repeat(test_classes), on_plane)
            ]
            systems.setdefault(name, on_plane[0])

    seconds, threads = time.time() - started, torch.get_num_threads()
    text = f"""{report(measured)}
Students: mean ± standard deviation over {args.students}; one ensemble of {args.members}; seed
{args.seed}.
The run took {seconds:.0f} s, and {time.process_time():.0f} s of CPU, with {threads} thread(s)
on {platform.machine()};
fairseq_pdd {__version__}, torch {torch.__version__}.
"""
    for file, content in (
        ("table.md", text),
        ("table.json", json.dumps(measured, indent=2) + "\n"),
    ):
        new = args.out / f"{file}.new"
        new.write_text(content, encoding="utf-8")
        os.replace(new, args.out / file)
    draw(systems, points, classes, args.out / "uncertainty.png")
    print(f"{text}\nTable: {args.out}/table.md, figure: {args.out}/uncertainty.png")


if __name__ == "__main__":
    main()
