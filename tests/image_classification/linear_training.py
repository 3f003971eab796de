"""Training of linear classifiers on fixed data: run by torchrun, and called for comparison.

Without batch normalisation, two processes of batch B give the same result as one of batch 2B.
"""

import sys
from pathlib import Path
from typing import List

import classifiers
import torch
import train_classifier
from image_sets import Settings
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

CLASSES = 4
CRITERIA = ["end", "pd_end2"]


def linear(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(18, num_classes))


def images(folder: Path) -> Dataset:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(64, 2, 3, 3, generator=generator)
    labels: Tensor = torch.randint(CLASSES, (64,), generator=generator)
    return TensorDataset(inputs, labels)


def members() -> List[nn.Module]:
    torch.manual_seed(9)
    return [linear(CLASSES) for _ in range(3)]


def settings(batch_size: int, epochs: int = 4) -> Settings:
    classifiers.ARCHITECTURES["linear"] = linear
    return Settings(
        num_classes=CLASSES,
        architecture="linear",
        epochs=epochs,
        batch_size=batch_size,
        drop_every=2,
        warmup_epochs=1,
        learning_rate=2.0,
        train_set=images,
        evaluation_sets=lambda folder: {},
    )


def train(batch_size: int, out: Path, epochs: int = 4) -> None:
    device = train_classifier.join_others()
    config = settings(batch_size, epochs)
    data = config.train_set(out)
    train_classifier.train(data, CRITERIA, config, members(), 1, out, device)


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(int(sys.argv[1]), Path(sys.argv[2]))
