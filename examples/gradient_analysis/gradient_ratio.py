#!/usr/bin/env python3
"""Plot Figure 1 of the paper: the part of a criterion's gradient for the class of interest.

Computes the ratio ρ (Eq. 15) of every criterion of Eq. 14 against the number of classes, in the
three situations of Section 3, from the losses of fairseq_pdd.core by autograd in float64.
"""

import argparse
import math
import os
from enum import Enum
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple

import matplotlib
import numpy as np
import torch
from tabulate import tabulate
from torch import Tensor
from tqdm import tqdm

from fairseq_pdd.core import (
    dirichlet_nll,
    forward_kl_proxy_dirichlet,
    mean_kl,
    reverse_kl_proxy_dirichlet,
)

matplotlib.use("Agg")
import matplotlib.pyplot as plt

EPSILON, ALPHA_0, BETA_0 = 1e-4, 9e4, 1e5  # Eqs. 11-13, and β₀ of the target

# The losses require δ > 0, for concentrations that underflow. The concentrations here are at least
# 1e-4, and adding 1e-30 to them changes no bit.
NO_OFFSET = 1e-30


class Situation(Enum):
    """Stage of the Prior Network's training."""

    INITIALISATION = "at initialisation"
    CONVERGENCE = "near convergence"
    MISCLASSIFICATION = "after a misclassification"


class Offset(Enum):
    """Place where the +1 of Section 4 is added, and variable of the gradient."""

    NONE = "no offset"
    CONCENTRATIONS = "+1, gradient for ln α"
    """Adds 1 to the α and β of Eqs. 11-13; the gradient is that for ln α (footnote 4)."""
    LOGITS = "+1, gradient for the network's logits z"
    """Adds 1 in the network, α = exp(z) + 1; training follows this gradient."""


class Student(NamedTuple):
    """Logits ``[K]`` and the offset that the losses add to their exponentials."""

    logits: Tensor
    offset: float


class Target(NamedTuple):
    """Target of the losses."""

    probs: Tensor
    """π of Eq. 11, ``[K]``."""
    beta: Tensor
    """Concentrations of the target, ``[K]``, without the offset that a loss adds itself."""


def _cat_kl(student: Student, target: Target) -> Tensor:
    log_alpha = torch.logaddexp(student.logits, torch.tensor(math.log(student.offset)).double())
    return mean_kl(log_alpha, target.probs)


def _dir_nll(student: Student, target: Target) -> Tensor:
    return dirichlet_nll(student.logits, target.probs.log(), student.offset)


def _dir_kl(student: Student, target: Target) -> Tensor:
    beta_0 = target.beta.sum()
    return forward_kl_proxy_dirichlet(
        student.logits, target.beta / beta_0, 1 / beta_0, student.offset
    )


def _dir_rkl(student: Student, target: Target) -> Tensor:
    beta_0 = target.beta.sum()
    return reverse_kl_proxy_dirichlet(
        student.logits, target.beta / beta_0, 1 / beta_0, student.offset
    )


CRITERIA: Dict[str, Callable[[Student, Target], Tensor]] = {
    "Cat-KL": _cat_kl,
    "Dir-NLL": _dir_nll,
    "Dir-KL": _dir_kl,
    "Dir-RKL": _dir_rkl,
}


def sparse_probs(num_classes: int, rest: float, likely: int = 0) -> Tensor:
    """Return probabilities ``[K]``: ``1 - rest`` for ``likely``, ``rest`` over all others."""
    probs = torch.full((num_classes,), rest / (num_classes - 1), dtype=torch.float64)
    probs[likely] = 1 - rest
    return probs


def concentrations(situation: Situation, num_classes: int) -> Tensor:
    """Return the network's α before any offset, ``[K]``: 1, Eq. 12 or Eq. 13."""
    if situation is Situation.INITIALISATION:
        return torch.ones(num_classes, dtype=torch.float64)
    likely = 0 if situation is Situation.CONVERGENCE else num_classes - 1
    return ALPHA_0 * sparse_probs(num_classes, 5 * EPSILON, likely)


def gradient(criterion: str, situation: Situation, offset: Offset, num_classes: int) -> Tensor:
    """Compute the gradient of a criterion of Eq. 14, ``[K]``; the first class is the target's."""
    added = 1.0 if offset is Offset.CONCENTRATIONS else 0.0
    logits = (concentrations(situation, num_classes) + added).log().requires_grad_()
    probs = sparse_probs(num_classes, EPSILON)
    student = Student(logits, 1.0 if offset is Offset.LOGITS else NO_OFFSET)
    loss = CRITERIA[criterion](student, Target(probs, BETA_0 * probs + added))
    (result,) = torch.autograd.grad(loss, logits)
    return result


def gradient_ratio(grad: Tensor) -> float:
    """Compute ρ of Eq. 15 for a gradient ``[K]``; infinite if the tail has no gradient."""
    num_classes = len(grad)
    return float((num_classes - 1) / num_classes * grad[0].abs() / grad[1:].abs().sum())


class Curve(NamedTuple):
    """ρ of one criterion in one panel of the figure, for every number of classes."""

    criterion: str
    situation: Situation
    offset: Offset
    ratios: List[float]


def curves(classes: List[int]) -> List[Curve]:
    """Compute all curves of the figure."""
    return [
        Curve(
            criterion,
            situation,
            offset,
            [gradient_ratio(gradient(criterion, situation, offset, k)) for k in classes],
        )
        for offset in tqdm(Offset, unit="row")
        for situation in Situation
        for criterion in CRITERIA
    ]


def draw(classes: List[int], all_curves: List[Curve], path: Path) -> None:
    """Draw all curves and write the figure."""
    figure, axes = plt.subplots(
        len(Offset), len(Situation), figsize=(11, 8.5), sharex=True, layout="constrained"
    )
    colours = dict(zip(CRITERIA, ("#0072b2", "#d55e00", "#e69f00", "#009e73")))
    styles = dict(zip(CRITERIA, ("-", "--", "-.", "-")))
    for row, offset in zip(axes, Offset):
        for axis, situation in zip(row, Situation):
            for curve in all_curves:
                if (curve.offset, curve.situation) == (offset, situation):
                    axis.plot(
                        classes,
                        curve.ratios,
                        color=colours[curve.criterion],
                        linestyle=styles[curve.criterion],
                        label=curve.criterion,
                    )
            axis.set(xscale="log", yscale="log")
            axis.grid(alpha=0.3)
        row[0].set_ylabel(f"{offset.value}\nρ", fontsize=9)
    for axis, situation in zip(axes[0], Situation):
        axis.set_title(situation.value)
    for axis in axes[-1]:
        axis.set_xlabel("classes K")
    axes[0, 0].legend(frameon=False)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def table(classes: List[int], all_curves: List[Curve]) -> str:
    """Format the curves at the powers of ten as Markdown."""
    decades = [k for k in classes if math.log10(k).is_integer()]
    rows = [
        [curve.situation.value, curve.offset.value, curve.criterion]
        + [f"{curve.ratios[classes.index(k)]:.2g}" for k in decades]
        for curve in all_curves
    ]
    header = ["situation", "offset", "criterion", *(f"K = {k:,}" for k in decades)]
    return tabulate(rows, headers=header, tablefmt="github", disable_numparse=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results", help="folder of the results"
    )
    parser.add_argument("--most", type=int, default=100_000, help="largest number of classes")
    parser.add_argument("--points", type=int, default=81, help="number of points per curve")
    args = parser.parse_args()
    if args.most < 10 or args.points < 1:
        parser.error("--most must be at least 10 and --points at least 1")
    args.out.mkdir(parents=True, exist_ok=True)

    grid = np.geomspace(10, args.most, args.points).round().astype(int)
    classes = sorted(set(grid.tolist()))
    all_curves = curves(classes)
    text = table(classes, all_curves)
    new = args.out / "ratios.md.new"
    new.write_text(text + "\n", encoding="utf-8")
    os.replace(new, args.out / "ratios.md")
    draw(classes, all_curves, args.out / "gradient_ratio.png")
    print(f"{text}\n\nTable: {args.out}/ratios.md, figure: {args.out}/gradient_ratio.png")


if __name__ == "__main__":
    main()
