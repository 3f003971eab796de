"""Fashion-MNIST without two of its classes, and its test images shifted in four ways."""

from pathlib import Path
from typing import Dict, List, Tuple

import shifts
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.utils.data import Dataset, Subset
from torchvision.datasets import FashionMNIST
from torchvision.transforms import v2

from fairseq_pdd.errors import UsageError

KNOWN = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker"]
"""Classes for training; the last two of the data set, bag and ankle boot, are held out."""

TRAIN_IMAGES = 6_000
CORRUPTED_IMAGES = 500
"""Number of test images for each corruption of each severity."""

_MEAN, _STD = (0.29,), (0.35,)
Images = Dataset[Tuple[Tensor, int]]


class LabelledTensor(Dataset[Tuple[Tensor, int]]):
    """Images ``[N, 1, 28, 28]`` of bytes and labels ``[N]``; transformed at each access."""

    def __init__(self, images: Tensor, labels: Tensor, *augmentation: v2.Transform) -> None:
        self.images, self.labels = images, labels.tolist()
        self.transform = v2.Compose(
            [*augmentation, v2.ToDtype(torch.float32, scale=True), v2.Normalize(_MEAN, _STD)]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tuple[Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


def _read(folder: Path, train: bool) -> Tuple[Tensor, Tensor]:
    """Read images ``[N, 1, 28, 28]`` of bytes and labels ``[N]`` of 0 to 9."""
    try:
        data = FashionMNIST(str(folder), train=train)
    except (RuntimeError, OSError, ValueError) as error:
        raise UsageError(
            f"{folder} has no complete Fashion-MNIST ({error}); fetch it with "
            "examples/image_classification/run.sh or fetch_fashion.py"
        ) from None
    return data.data.unsqueeze(1), data.targets


def train_set(folder: Path) -> Images:
    """Return the first TRAIN_IMAGES images of the known classes."""
    images, labels = _read(folder, train=True)
    known = (labels < len(KNOWN)).nonzero().squeeze(1)[:TRAIN_IMAGES]
    augmentation = [v2.RandomCrop(28, padding=2), v2.RandomHorizontalFlip()]
    return LabelledTensor(images[known], labels[known], *augmentation)


def evaluation_sets(folder: Path) -> Dict[str, Images]:
    """Return the known classes' test images, plain and shifted, and images of unknown classes."""
    images, labels = _read(folder, train=False)
    known = labels < len(KNOWN)
    unknown = images[~known]
    images, labels = images[known], labels[known]
    sets: Dict[str, Images] = {
        "test": LabelledTensor(images, labels),
        "outlines": LabelledTensor(shifts.outlines(images), labels),
        "new classes": _novel(unknown),
        "digits": _novel(_digits()),
    }
    for severity in range(1, shifts.SEVERITIES + 1):
        shifted: List[Tensor] = []
        for name in shifts.CORRUPTIONS:
            shifted.append(shifts.corrupt(images[:CORRUPTED_IMAGES], name, severity))
        repeated = labels[:CORRUPTED_IMAGES].repeat(len(shifted))
        sets[f"corrupted/{severity}"] = LabelledTensor(torch.cat(shifted), repeated)
    return sets


def tiny_train_set(folder: Path) -> Images:
    """Return a small part of the training set, for tests."""
    return Subset(train_set(folder), range(300))


def tiny_evaluation_sets(folder: Path) -> Dict[str, Images]:
    """Return a small part of each evaluation set, for tests."""
    tiny: Dict[str, Images] = {}
    for name, images in evaluation_sets(folder).items():
        assert isinstance(images, LabelledTensor)
        # evenly spaced, since the images of a corruption are consecutive
        tiny[name] = Subset(images, range(0, len(images), max(1, len(images) // 100)))
    return tiny


def _novel(images: Tensor) -> Images:
    return LabelledTensor(images, torch.full((len(images),), -1))


def _digits() -> Tensor:
    """Load the handwritten digits of scikit-learn, resized to 28 × 28."""
    images = torch.from_numpy(load_digits().images).unsqueeze(1).float() * (255 / 16)
    return v2.functional.resize(images, [28, 28]).clamp(0, 255).to(torch.uint8)
