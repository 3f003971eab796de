"""Networks made of torchvision's blocks, and their weights on disk."""

import os
from pathlib import Path
from typing import Callable, Dict, List

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from fairseq_pdd.core import EnsembleStatistics
from fairseq_pdd.errors import UsageError


def resnet50(num_classes: int) -> nn.Module:
    """Build the paper's network; the last normalisation of each residual branch starts at 0."""
    return torchvision.models.resnet50(num_classes=num_classes, zero_init_residual=True)


def resnet8(num_classes: int) -> nn.Module:
    """Build a ResNet of three residual blocks for grey images of about 28 × 28 pixels."""

    def smaller(inputs: int, outputs: int) -> BasicBlock:
        shortcut = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride=2, bias=False), nn.BatchNorm2d(outputs)
        )
        return BasicBlock(inputs, outputs, stride=2, downsample=shortcut)

    blocks = [BasicBlock(16, 16), smaller(16, 32), smaller(32, 64)]
    for block in blocks:
        nn.init.zeros_(block.bn2.weight)
    stem = [nn.Conv2d(1, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, num_classes)]
    return nn.Sequential(*stem, *blocks, *head)


ARCHITECTURES: Dict[str, Callable[[int], nn.Module]] = {"resnet50": resnet50, "resnet8": resnet8}


def save(state: Dict[str, object], path: Path) -> None:
    """Write ``state``; the old file stays intact if the process is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    torch.save(state, unfinished)
    os.replace(unfinished, path)


def read(path: Path) -> Dict[str, object]:
    """Read a file that :func:`save` wrote, tensors only.

    Raises:
        UsageError: the file does not exist, or is no checkpoint of this example.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist; train that model first") from None
    except Exception:  # reading a damaged or foreign file can raise anything
        raise UsageError(f"{path} is damaged or no checkpoint of this example") from None
    if not isinstance(state, dict):
        raise UsageError(f"{path} is no checkpoint of this example")
    return state


def load(architecture: str, num_classes: int, path: Path) -> nn.Module:
    """Load a trained model for evaluation.

    Raises:
        UsageError: the file is missing, damaged, or of another network.
    """
    model = ARCHITECTURES[architecture](num_classes)
    try:
        model.load_state_dict(read(path))
    except RuntimeError:
        raise UsageError(
            f"{path} is no {architecture} of {num_classes} classes; give the --config of its "
            "training"
        ) from None
    return model.eval().requires_grad_(False)


@torch.no_grad()
def ensemble_statistics(members: List[nn.Module], images: Tensor) -> EnsembleStatistics:
    """Compute the ensemble's statistics for images ``[N, C, H, W]``."""
    statistics = EnsembleStatistics()
    for member in members:
        statistics.update(member(images).log_softmax(-1))
    return statistics
