"""Measure the error of loss and gradient of Eq. 17 if only k classes are listed, by k.

Compares the loss and the gradient of a student for the ensemble's whole mean with those for its
top k classes and an evenly spread rest, as in a teacher cache. Uses sentences of a real ensemble's
validation data.
"""

import argparse
import logging
from typing import Any, Dict, List, Tuple

import torch
from fairseq import checkpoint_utils, utils
from torch import Tensor

import fairseq_pdd.tasks  # noqa: F401  (registers the tasks like --user-dir)
from fairseq_pdd.core import MeanProbs, TopKProbs, mean_kl, reverse_kl_proxy_dirichlet
from fairseq_pdd.teacher import EnsembleTeacher

TOP_K = (1, 8, 32, 64, 128, 256)


def batches(task: Any, subset: str, sentences: int) -> List[Dict[str, Any]]:
    """Return evenly spaced sentences of a subset, in batches of 20."""
    task.load_dataset(subset)
    dataset = task.dataset(subset)
    step = max(1, len(dataset) // sentences)
    indices = list(range(0, len(dataset), step))[:sentences]
    return [
        dataset.collater([dataset[i] for i in indices[start : start + 20]])
        for start in range(0, len(indices), 20)
    ]


def loss_and_gradient(name: str, z: Tensor, mean: MeanProbs, lam: Tensor) -> Tuple[Tensor, Tensor]:
    """Compute loss ``[N]`` and gradient ``[N, K]`` of a criterion."""
    z = z.detach().requires_grad_()
    loss = reverse_kl_proxy_dirichlet(z, mean, lam) if name == "pd_send2" else mean_kl(z, mean)
    (gradient,) = torch.autograd.grad(loss.sum(), z)
    return loss.detach(), gradient


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("data", help="binarised data")
    parser.add_argument("--teacher-paths", required=True, help="the ensemble, joined with ':'")
    parser.add_argument("--student", required=True, help="checkpoint whose gradients are compared")
    parser.add_argument("--subset", default="valid", help="subset to compare on")
    parser.add_argument("--sentences", type=int, default=200, help="number of sentences")
    args = parser.parse_args()
    logging.getLogger().setLevel(logging.WARNING)

    paths = utils.split_paths(args.teacher_paths)
    (student,), _, task = checkpoint_utils.load_model_ensemble_and_task(
        [args.student], {"data": args.data}
    )
    members, _ = checkpoint_utils.load_model_ensemble(paths, task=task)
    teacher, student = EnsembleTeacher(members, torch.float32), student.eval()
    num_classes = len(task.target_dictionary)
    sums: Dict[Tuple[str, int], Tensor] = {}
    rest = dict.fromkeys((*TOP_K, num_classes), 0.0)
    tokens = 0
    for sample in batches(task, args.subset, args.sentences):
        mask = sample["target"].ne(task.target_dictionary.pad())
        with torch.no_grad():
            z = student(**sample["net_input"])[0][mask]
        statistics = teacher.statistics(sample, mask)
        mean, lam = statistics.mean_probs, statistics.inverse_precision
        tokens += len(z)
        for name in ("pd_send2", "send"):
            loss, gradient = loss_and_gradient(name, z, mean, lam)
            for k in rest:
                listed = TopKProbs.of(mean, k)
                rest[k] += listed.rest.sum().item() / 2  # two losses
                ours, our_gradient = loss_and_gradient(name, z, listed, lam)
                parts = torch.tensor(
                    [
                        (ours - loss).abs().sum(),
                        loss.abs().sum(),
                        (our_gradient - gradient).double().square().sum(),
                        gradient.double().square().sum(),
                    ],
                    dtype=torch.float64,
                )
                sums[name, k] = sums.get((name, k), torch.zeros(4, dtype=torch.float64)) + parts
    print(
        f"{tokens:,} target tokens of '{args.subset}', {len(members)} members, K = {num_classes:,}"
    )
    print(
        "\n| k | mass not listed | loss pd_send2 | gradient pd_send2 | loss send | gradient send |"
    )
    print("|---|---|---|---|---|---|")
    for k in rest:
        cells = [f"{k:,}", f"{100 * rest[k] / tokens:.2f} %"]
        for name in ("pd_send2", "send"):
            loss_error, loss_size, gradient_error, gradient_size = sums[name, k].tolist()
            cells += [
                f"{loss_error / loss_size:.1e}",
                f"{(gradient_error / gradient_size) ** 0.5:.1e}",
            ]
        print("| " + " | ".join(cells) + " |")
    print("\nloss: mean |error| / mean |loss|; gradient: ‖error‖ / ‖gradient‖ over all tokens")


if __name__ == "__main__":
    main()
