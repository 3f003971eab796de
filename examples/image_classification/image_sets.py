"""The two settings: ImageNet as in the paper, and Fashion-MNIST, which trains in minutes."""

from pathlib import Path
from typing import Callable, Dict, NamedTuple, Optional, Tuple

import fashion
import imagenet
from torch import Tensor
from torch.utils.data import Dataset

LabelledImages = Dataset[Tuple[Tensor, int]]
"""Images ``[C, H, W]`` and their classes; classes that are not trained are -1."""


class Settings(NamedTuple):
    """Images and settings of training, equal for members and students, as in the paper."""

    num_classes: int
    architecture: str
    epochs: int
    batch_size: int
    """Images per batch of each process."""
    drop_every: int
    """Epochs after which the learning rate is divided by 10."""
    train_set: Callable[[Path], LabelledImages]
    evaluation_sets: Callable[[Path], Dict[str, LabelledImages]]
    """Returns sets by name. "test" is in-domain; tables average names that end in "/SEVERITY"."""
    learning_rate: float = 0.1
    """Rate for a batch of 256 images over all processes; scaled in proportion for others."""
    warmup_epochs: int = 0
    momentum: float = 0.9
    weight_decay: float = 1e-4
    clip_norm: Optional[float] = None
    workers: int = 0
    """Number of processes that read images."""


SETTINGS = {
    "imagenet": Settings(
        num_classes=1000,
        architecture="resnet50",
        epochs=90,
        batch_size=256,
        drop_every=30,
        warmup_epochs=5,
        workers=8,
        train_set=imagenet.train_set,
        evaluation_sets=imagenet.evaluation_sets,
    ),
    "fashion": Settings(
        num_classes=len(fashion.KNOWN),
        architecture="resnet8",
        epochs=18,
        batch_size=64,
        drop_every=6,
        learning_rate=0.4,  # four times ImageNet's, for a fifth of the epochs
        clip_norm=1.0,  # needed by the Dirichlet likelihood
        train_set=fashion.train_set,
        evaluation_sets=fashion.evaluation_sets,
    ),
}
SETTINGS["smoke"] = SETTINGS["fashion"]._replace(
    epochs=1,
    train_set=fashion.tiny_train_set,
    evaluation_sets=fashion.tiny_evaluation_sets,
)
