#!/usr/bin/env python3
"""Train classifiers: a member of an ensemble from labels, or students from an ensemble.

Students of one command have the same batches and the same initial weights. The ensemble, which
costs most, is evaluated only once for all of them. Under torchrun, each process trains on its part
of the images. An interrupted training continues after its last finished epoch.
"""

import argparse
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Dict, List, Optional, Tuple

import torch
import torch.distributed as dist
from classifiers import ARCHITECTURES, ensemble_statistics, load, read, save
from criteria import CRITERIA
from image_sets import SETTINGS, LabelledImages, Settings
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler
from tqdm import tqdm

from fairseq_pdd.core import EnsembleStatistics
from fairseq_pdd.errors import UsageError, show_usage_errors_in_one_line


class Learner:
    """A network with the criterion and the optimiser that train it."""

    def __init__(
        self, criterion: str, settings: Settings, steps_per_epoch: int, device: torch.device
    ) -> None:
        self.criterion = CRITERIA[criterion]
        self.network = ARCHITECTURES[settings.architecture](settings.num_classes).to(device)
        self.model: nn.Module = self.network
        if world_size() > 1:
            self.model = DistributedDataParallel(
                self.network, device_ids=[device] if device.type == "cuda" else None
            )
        self.clip_norm = settings.clip_norm
        self.optimizer = torch.optim.SGD(
            self.network.parameters(),
            lr=settings.learning_rate * settings.batch_size * world_size() / 256,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        )
        warmup = settings.warmup_epochs * steps_per_epoch

        def factor(step: int) -> float:
            return min(1.0, (step + 1) / (warmup + 1)) * 0.1 ** (
                step // steps_per_epoch // settings.drop_every
            )

        self.schedule = LambdaLR(self.optimizer, factor)

    def step(self, images: Tensor, labels: Tensor, teacher: Optional[EnsembleStatistics]) -> Tensor:
        """Update the network with a batch; return its mean loss."""
        logits = self.model(images)
        if self.criterion.from_labels is not None:
            loss = self.criterion.from_labels(logits, labels).mean()
        else:
            assert self.criterion.from_teacher is not None
            assert teacher is not None
            loss = self.criterion.from_teacher(logits, teacher).mean()
        self.optimizer.zero_grad()
        loss.backward()
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.clip_norm)
        self.optimizer.step()
        self.schedule.step()
        return loss.detach()

    def state(self) -> Dict[str, object]:
        """Return the state for :meth:`resume`."""
        parts = {"network": self.network, "optimizer": self.optimizer, "schedule": self.schedule}
        return {name: part.state_dict() for name, part in parts.items()}

    def resume(self, state: Dict[str, Dict[str, object]]) -> None:
        """Continue from a state."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])


def world_size() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process."""
    return dist.get_rank() if dist.is_initialized() else 0


def join_others() -> torch.device:
    """Join the processes that torchrun started, if any; return the device of this one."""
    local = int(os.environ.get("LOCAL_RANK", 0))
    device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if "WORLD_SIZE" in os.environ:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return device


def build_learners(
    criteria: List[str], settings: Settings, seed: int, steps_per_epoch: int, device: torch.device
) -> Dict[str, Learner]:
    """Build learners with the same initial weights."""
    learners = {}
    for name in criteria:
        torch.manual_seed(seed)
        learners[name] = Learner(name, settings, steps_per_epoch, device)
    return learners


def resume(path: Path, learners: Dict[str, Learner], settings: Settings) -> int:
    """Continue from a checkpoint if there is one; return the number of finished epochs.

    Raises:
        UsageError: it belongs to another training.
    """
    if not path.exists():
        return 0
    checkpoint = read(path)
    states = checkpoint.get("learners")
    if not isinstance(states, dict) or set(states) != set(learners):
        raise UsageError(f"{path} belongs to other --criteria; give another --out, or delete it")
    try:
        for name, learner in learners.items():
            learner.resume(states[name])
    except RuntimeError:
        raise UsageError(
            f"{path} belongs to another --config; give another --out, or delete it"
        ) from None
    return int(checkpoint["epochs"])


def train(
    images: LabelledImages,
    criteria: List[str],
    settings: Settings,
    members: List[nn.Module],
    seed: int,
    out: Path,
    device: torch.device,
) -> None:
    """Train one network for each criterion and write ``out/CRITERION.pt``."""
    sampler: DistributedSampler = DistributedSampler(
        images,
        num_replicas=world_size(),
        rank=rank(),
        seed=seed,
    )
    loader = DataLoader(
        images,
        settings.batch_size,
        sampler=sampler,
        num_workers=settings.workers,
        pin_memory=device.type == "cuda",
        persistent_workers=settings.workers > 0,
        # a batch of one image has no variance for batch normalisation
        drop_last=True,
    )
    if len(loader) == 0:
        raise UsageError(
            f"fewer images than a batch of {settings.batch_size} for each process; start fewer "
            "processes, or give more images"
        )
    learners = build_learners(criteria, settings, seed, len(loader), device)
    checkpoint = out / "checkpoint.pt"
    done = resume(checkpoint, learners, settings)
    for epoch in range(done, settings.epochs):
        sampler.set_epoch(epoch)
        # the seed of the augmentation differs between processes, but not after resuming
        torch.manual_seed((seed * settings.epochs + epoch) * world_size() + rank())
        losses = run_epoch(loader, learners, members, device, f"epoch {epoch + 1}")
        if rank() == 0:
            save(
                {
                    "epochs": epoch + 1,
                    "learners": {name: learner.state() for name, learner in learners.items()},
                },
                checkpoint,
            )
            shown = ", ".join(f"{name} {loss:.4f}" for name, loss in losses.items())
            print(f"epoch {epoch + 1}/{settings.epochs}: loss {shown}", flush=True)
    if rank() == 0:
        for name, learner in learners.items():
            save(learner.network.state_dict(), out / f"{name}.pt")
        checkpoint.unlink(missing_ok=True)


def run_epoch(
    loader: "DataLoader[Tuple[Tensor, Tensor]]",
    learners: Dict[str, Learner],
    members: List[nn.Module],
    device: torch.device,
    title: str,
) -> Dict[str, float]:
    """Train on all images once; return each learner's mean loss in this process."""
    sums = {name: torch.zeros((), device=device) for name in learners}
    for learner in learners.values():
        learner.model.train()
    batches = tqdm(loader, title, unit="batch", leave=False, disable=None if rank() == 0 else True)
    for images, labels in batches:
        images = images.to(device, non_blocking=True)
        labels = labels.to(device, non_blocking=True)
        teacher = ensemble_statistics(members, images) if members else None
        for name, learner in learners.items():
            sums[name] += learner.step(images, labels, teacher)
    means = {name: float(total) / len(loader) for name, total in sums.items()}
    for name, mean in means.items():
        if mean != mean or abs(mean) == float("inf"):
            raise UsageError(f"the loss of '{name}' is {mean}; a lower learning rate may help")
    return means


def made_of(args: argparse.Namespace) -> Dict[str, object]:
    """Return what a training depends on, with the content of the members."""
    contents = [path.read_bytes() for path in args.teacher if path.is_file()]
    teacher = [hashlib.sha256(content).hexdigest() for content in contents]
    return {"--config": args.config, "--seed": args.seed, "--teacher": teacher}


def require_same(path: Path, current: Dict[str, object]) -> None:
    """Raise :class:`UsageError` if a folder's training was made of something else.

    Args:
        path: file that :func:`main` wrote when that training started, if any.
        current: what :func:`made_of` returns now.
    """
    if not path.exists():
        return
    recorded = json.loads(path.read_text(encoding="utf-8"))
    changed = [name for name in current if recorded.get(name) != current[name]]
    if changed:
        raise UsageError(
            f"{path.parent} holds a training with another {', '.join(changed)}: give another --out"
        )


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of the images")
    parser.add_argument("--config", choices=SETTINGS, required=True, help="images and training")
    parser.add_argument(
        "--criteria",
        nargs="+",
        choices=CRITERIA,
        default=["single"],
        help="one network for each; 'single' (default) learns from labels, others from --teacher",
    )
    parser.add_argument("--teacher", type=Path, nargs="+", default=[], help="members, MEMBER.pt …")
    parser.add_argument("--seed", type=int, default=1, help="seed of weights, order, augmentation")
    parser.add_argument("--out", type=Path, required=True, help="folder for CRITERION.pt")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    settings = SETTINGS[args.config]
    distilled = [name for name in args.criteria if CRITERIA[name].from_teacher]
    if distilled and not args.teacher:
        raise UsageError(
            f"{', '.join(distilled)} learn from an ensemble; give its checkpoints with --teacher"
        )
    record, current = args.out / "made_of.json", made_of(args)
    require_same(record, current)
    missing = [name for name in args.criteria if not (args.out / f"{name}.pt").exists()]
    if not missing:
        print(f"{args.out}: already trained")
        return
    device = join_others()
    members = [
        load(settings.architecture, settings.num_classes, path).to(device)
        for path in (args.teacher if distilled else [])
    ]
    start = time.time()
    images = settings.train_set(args.data)
    if rank() == 0:
        args.out.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps(current, indent=1) + "\n", encoding="utf-8")
    train(images, args.criteria, settings, members, args.seed, args.out, device)
    if rank() == 0:
        print(f"{args.out}: {', '.join(args.criteria)} in {time.time() - start:.0f} s")
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    show_usage_errors_in_one_line()
    main()
