"""Shifts of images ``[N, C, H, W]`` of bytes: corruptions of five severities, and outlines.

Kinds and strengths are those of ImageNet-C (Hendrycks and Dietterich, 2019), except that blur is
scaled down with the size of the images.
"""

import zlib
from typing import Callable, Dict, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import v2

from fairseq_pdd.errors import UsageError

SEVERITIES = 5


def _gaussian_noise(x: Tensor, sigma: float) -> Tensor:
    return v2.functional.gaussian_noise(x, sigma=sigma)


def _shot_noise(x: Tensor, photons: float) -> Tensor:
    return torch.poisson(x * photons) / photons


def _impulse_noise(x: Tensor, fraction: float) -> Tensor:
    return torch.where(torch.rand_like(x) < fraction, torch.rand_like(x).round(), x)


def _gaussian_blur(x: Tensor, sigma: float) -> Tensor:
    return v2.functional.gaussian_blur(x, kernel_size=[13, 13], sigma=[sigma, sigma])


def _contrast(x: Tensor, factor: float) -> Tensor:
    mean = x.mean(dim=(-2, -1), keepdim=True)
    return (x - mean) * factor + mean


def _brightness(x: Tensor, amount: float) -> Tensor:
    return x + amount


def _pixelate(x: Tensor, factor: float) -> Tensor:
    small = F.interpolate(x, scale_factor=factor, mode="area")
    return F.interpolate(small, size=x.shape[-2:], mode="nearest")


def _jpeg(x: Tensor, quality: float) -> Tensor:
    images = [v2.functional.jpeg(image, int(quality)) for image in _bytes(x)]
    return torch.stack(images).float() / 255


CORRUPTIONS: Dict[str, Tuple[Callable[[Tensor, float], Tensor], Sequence[float]]] = {
    "gaussian noise": (_gaussian_noise, (0.08, 0.12, 0.18, 0.26, 0.38)),
    "shot noise": (_shot_noise, (60, 25, 12, 5, 3)),
    "impulse noise": (_impulse_noise, (0.03, 0.06, 0.09, 0.17, 0.27)),
    "gaussian blur": (_gaussian_blur, (0.5, 0.75, 1, 1.5, 2)),
    "contrast": (_contrast, (0.4, 0.3, 0.2, 0.1, 0.05)),
    "brightness": (_brightness, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "pixelate": (_pixelate, (0.6, 0.5, 0.4, 0.3, 0.25)),
    "jpeg": (_jpeg, (25, 18, 15, 10, 7)),
}


def corrupt(images: Tensor, name: str, severity: int) -> Tensor:
    """Apply the corruption ``name``; repeated calls give the same images.

    Raises:
        UsageError: there is no such corruption or severity.
    """
    if name not in CORRUPTIONS or not 1 <= severity <= SEVERITIES:
        raise UsageError(
            f"no corruption '{name}' of severity {severity}; available: {', '.join(CORRUPTIONS)}, "
            f"each of severity 1 to {SEVERITIES}"
        )
    function, strengths = CORRUPTIONS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(zlib.crc32(f"{name}/{severity}".encode()))
        return _bytes(function(images.float() / 255, strengths[severity - 1]))


def outlines(images: Tensor) -> Tensor:
    """Make line drawings: the difference of the largest and the smallest neighbour of a pixel."""
    x = images.float()
    return (F.max_pool2d(x, 3, 1, 1) + F.max_pool2d(-x, 3, 1, 1)).to(torch.uint8)


def _bytes(x: Tensor) -> Tensor:
    return (x.clamp(0, 1) * 255).round().to(torch.uint8)
