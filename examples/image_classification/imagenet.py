"""ImageNet and its shifted versions, as folders of images.

``DATA/train`` and ``DATA/val`` have a folder of images for each class, as torchvision's
``ImageFolder`` requires. The shifted sets are optional: ``DATA/imagenet-a``, ``-r`` and ``-o`` in
the same layout, and ``DATA/imagenet-c/CORRUPTION/SEVERITY``. The name of its folder identifies a
class; classes that the training set does not have count as unknown.
"""

from pathlib import Path
from typing import Dict, List, Tuple

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from fairseq_pdd.errors import UsageError

SHIFTED = {"imagenet-a": "ImageNet-A", "imagenet-r": "ImageNet-R", "imagenet-o": "ImageNet-O"}

Images = Dataset[Tuple[Tensor, int]]
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_TO_INPUT = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(_MEAN, _STD)]
_CENTRE = v2.Compose([v2.Resize(256), v2.CenterCrop(224), *_TO_INPUT])
_CROPPED = v2.Compose([v2.CenterCrop(224), *_TO_INPUT])
"""Transform of ImageNet-C, which is published cropped to 224 pixels."""


def train_set(folder: Path) -> Images:
    """Return the training set, with random resized crops and flips as in the paper."""
    augment = [v2.RandomResizedCrop(224), v2.RandomHorizontalFlip()]
    return _folder(folder / "train", v2.Compose([*augment, *_TO_INPUT]))


def evaluation_sets(folder: Path) -> Dict[str, Images]:
    """Return ``val`` as "test", and the shifted sets that exist."""
    classes = _folder(folder / "train", _CENTRE).class_to_idx
    sets: Dict[str, Images] = {"test": _labelled(folder / "val", _CENTRE, classes)}
    for name, title in SHIFTED.items():
        if (folder / name).is_dir():
            sets[title] = _labelled(folder / name, _CENTRE, classes)
    corruptions = _subfolders(folder / "imagenet-c")
    for severity in sorted({path.name for kind in corruptions for path in _subfolders(kind)}):
        parts: List[Images] = [
            _labelled(kind / severity, _CROPPED, classes) for kind in corruptions
        ]
        sets[f"corrupted/{severity}"] = ConcatDataset(parts)
    return sets


def _subfolders(folder: Path) -> List[Path]:
    return sorted(path for path in folder.glob("*") if path.is_dir())


def _folder(folder: Path, transform: v2.Transform) -> ImageFolder:
    try:
        return ImageFolder(str(folder), transform)
    except FileNotFoundError as error:
        raise UsageError(
            f"{folder} is not a folder with a folder of images for each class ({error})"
        ) from None


def _labelled(folder: Path, transform: v2.Transform, classes: Dict[str, int]) -> ImageFolder:
    images = _folder(folder, transform)
    labels = [classes.get(name, -1) for name in images.classes]
    images.target_transform = labels.__getitem__
    return images
