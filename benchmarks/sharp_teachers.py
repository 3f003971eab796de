"""Measure the effect of over-confident teachers on a student, with and without a precision cap.

Speech is the paper's stress test: members are so sharp that most of the mass is on one class, and
λ = 1/β̂0 is close to 0. Here members are classifiers on synthetic data whose logits are multiplied
by a growing sharpness. They differ little on the data and more away from them. A small student
learns from them by Eq. 17, in float32 and with logits rounded to bfloat16, with caps on β̂0 (a floor
on λ) and without. Writes a table and a figure, in about two minutes on one core.
"""

import argparse
import math
from pathlib import Path
from typing import Dict, NamedTuple, Tuple

import torch
from sklearn.metrics import roc_auc_score
from tabulate import tabulate
from torch import Tensor, nn
from tqdm import tqdm

from fairseq_pdd.core import EnsembleStatistics, dirichlet_measures, reverse_kl_proxy_dirichlet

CLASSES, DIM, MEMBERS = 100, 8, 4
SHARPNESS = (1, 8, 64)
CAPS = (math.inf, 1e6, 1e4)
TYPES = (torch.float32, torch.bfloat16)


class Outcome(NamedTuple):
    """Measurements of a trained student."""

    divergence: float
    """KL(π̂ ‖ student) on held-out data, nats."""
    teacher_log_precision: float
    """Mean ln β̂0 of the target, cap included."""
    log_precision: float
    """Mean ln Σ exp z of the student."""
    largest_logit: float
    """Largest |z| of the student on held-out data."""
    auroc: float
    """AUROC of the student's RMI in %, for inputs away from the data against the data."""


class Members:
    """An ensemble that agrees on the data and disagrees away from them."""

    def __init__(self, sharpness: float, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.sharpness = sharpness
        self.common = torch.randn(DIM, CLASSES, generator=generator)
        self.own = torch.randn(MEMBERS, DIM, CLASSES, generator=generator)

    def statistics(self, x: Tensor) -> EnsembleStatistics:
        """Compute the ensemble's statistics for inputs ``[N, DIM]``."""
        # the data have length 1
        distance = (x.norm(dim=-1, keepdim=True) - 1).clamp(min=0)
        statistics = EnsembleStatistics()
        for own in self.own:
            logits = x @ self.common + (0.02 + distance) * (x @ own)
            statistics.update((self.sharpness * logits).log_softmax(-1))
        return statistics


def inputs(size: int, radius: float, generator: torch.Generator) -> Tensor:
    """Draw inputs ``[size, DIM]`` of random direction and length ``radius``."""
    x = torch.randn(size, DIM, generator=generator)
    return radius * x / x.norm(dim=-1, keepdim=True)


def train(sharpness: float, cap: float, dtype: torch.dtype, updates: int, seed: int = 1) -> Outcome:
    """Train a student and measure it."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    members = Members(sharpness, seed)
    student = nn.Sequential(nn.Linear(DIM, 256), nn.GELU(), nn.Linear(256, CLASSES))
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, updates)

    def logits(x: Tensor) -> Tensor:
        return student(x).to(dtype).float()

    def inverse_precision(statistics: EnsembleStatistics) -> Tensor:
        return statistics.inverse_precision.clamp(min=1 / cap)

    def batch(size: int) -> Tensor:
        # a tenth is away from the data, where the members disagree
        inside = inputs(size - size // 10, 1.0, generator)
        return torch.cat([inside, inputs(size // 10, 1.5, generator)])

    for _ in range(updates):
        x = batch(128)
        teacher, z = members.statistics(x), logits(x)
        loss = reverse_kl_proxy_dirichlet(z, teacher.mean_probs, inverse_precision(teacher)).mean()
        if not torch.isfinite(loss):
            raise FloatingPointError(f"loss {loss} at sharpness {sharpness}, cap {cap}, {dtype}")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()

    with torch.no_grad():
        inside, outside = inputs(1000, 1.0, generator), inputs(1000, 1.5, generator)
        teacher, z = members.statistics(inside), logits(inside)
        mean = teacher.mean_probs
        divergence = (torch.xlogy(mean, mean) - mean * z.log_softmax(-1)).sum(-1).mean().item()
        rmi = torch.cat([dirichlet_measures(z).rmi, dirichlet_measures(logits(outside)).rmi])
        labels = torch.arange(2000) >= 1000
        return Outcome(
            divergence=divergence,
            # the smallest λ that float32 members can resolve, as in the training log
            teacher_log_precision=-inverse_precision(teacher)
            .clamp(min=2 * torch.finfo(torch.float32).eps / (CLASSES - 1))
            .log()
            .mean()
            .item(),
            log_precision=z.logsumexp(-1).mean().item(),
            largest_logit=z.abs().max().item(),
            auroc=100 * roc_auc_score(labels, rmi),
        )


def name_of(cap: float) -> str:
    """Name a cap in table and figure."""
    return "no cap" if math.isinf(cap) else f"β̂0 ≤ {cap:.0e}"


def plot(results: Dict[Tuple[float, float, torch.dtype], Outcome], path: Path) -> None:
    """Draw the measurements of students against the sharpness of the members."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    titles = {
        "divergence": "KL(ensemble mean ‖ student), nats",
        "log_precision": "mean ln Σ exp z (dashed: target)",
        "auroc": "AUROC of RMI, %",
    }
    for axis, (field, title) in zip(axes, titles.items()):
        for color, cap in enumerate(CAPS):
            for dtype, marker in zip(TYPES, "ox"):
                values = [getattr(results[s, cap, dtype], field) for s in SHARPNESS]
                label = f"{name_of(cap)}, {str(dtype).removeprefix('torch.')}"
                axis.plot(SHARPNESS, values, color=f"C{color}", marker=marker, label=label)
            if field == "log_precision":
                targets = [results[s, cap, TYPES[0]].teacher_log_precision for s in SHARPNESS]
                axis.plot(SHARPNESS, targets, color=f"C{color}", linestyle="--")
        axis.set(xscale="log", xlabel="sharpness of the members", title=title)
        axis.set_xticks(SHARPNESS, map(str, SHARPNESS))
    axes[0].legend(fontsize="x-small")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Train all students; write table and figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--updates", type=int, default=1000, help="training steps of a student")
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder for the results")
    args = parser.parse_args()
    runs = [(s, cap, dtype) for s in SHARPNESS for cap in CAPS for dtype in TYPES]
    results = {
        (s, cap, dtype): train(s, cap, dtype, args.updates)
        for s, cap, dtype in tqdm(runs, desc="students")
    }
    rows = [
        [s, name_of(cap), str(dtype).removeprefix("torch."), *outcome]
        for (s, cap, dtype), outcome in results.items()
    ]
    headers = ["sharpness", "cap", "logits", "KL", "ln β̂0", "ln Σ exp z", "max |z|", "AUROC"]
    args.out.mkdir(parents=True, exist_ok=True)
    table = tabulate(rows, headers, tablefmt="pipe", floatfmt=".3g")
    (args.out / "sharp_teachers_table.md").write_text(table + "\n", encoding="utf-8")
    plot(results, args.out / "sharp_teachers.png")
    print(table)


if __name__ == "__main__":
    main()
