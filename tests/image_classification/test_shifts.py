from itertools import pairwise

import numpy as np
import pytest
import shifts
import torch
from scipy import ndimage
from torch import Tensor

from fairseq_pdd.errors import UsageError


@pytest.fixture
def images() -> Tensor:
    """Make images of smooth blobs, which blur, contrast and pixelation change."""
    noise = np.random.default_rng(1).random((6, 28, 28))
    smooth = np.stack([ndimage.gaussian_filter(image, 1.5) for image in noise])
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return torch.from_numpy((smooth * 255).astype(np.uint8)).unsqueeze(1)


@pytest.mark.parametrize("name", shifts.CORRUPTIONS)
def test_every_severity_departs_further_from_the_image(name: str, images: Tensor) -> None:
    distances = []
    for severity in range(1, shifts.SEVERITIES + 1):
        corrupted = shifts.corrupt(images, name, severity)
        assert corrupted.dtype == torch.uint8
        assert corrupted.shape == images.shape
        distances.append((corrupted.float() - images.float()).square().mean())
    assert distances[0] > 0
    # a factor of 0.6 divides 28 pixels unevenly, which changes them more than a factor of 0.5
    tolerance = 1.6 if name == "pixelate" else 1.0
    assert all(low <= tolerance * high for low, high in pairwise(distances))
    assert distances[-1] > 1.5 * distances[0]


@pytest.mark.parametrize("name", shifts.CORRUPTIONS)
def test_corruptions_do_not_depend_on_the_random_state(name: str, images: Tensor) -> None:
    torch.manual_seed(0)
    first = shifts.corrupt(images, name, 3)
    drawn = torch.rand(1)
    torch.manual_seed(0)
    assert torch.rand(1) == drawn, "the caller's random state was changed"
    torch.manual_seed(5)
    torch.testing.assert_close(shifts.corrupt(images, name, 3), first, rtol=0, atol=0)


def test_noise_has_the_stated_strength() -> None:
    grey = torch.full((20, 1, 28, 28), 128, dtype=torch.uint8)
    gaussian = shifts.corrupt(grey, "gaussian noise", 1).float() / 255
    assert gaussian.std().item() == pytest.approx(0.08, rel=0.05)
    # variance of Poisson counts: mean / photons
    shot = shifts.corrupt(grey, "shot noise", 1).float() / 255
    assert shot.var().item() == pytest.approx(0.5 / 60, rel=0.05)
    impulses = shifts.corrupt(grey, "impulse noise", 5)
    assert (impulses != 128).float().mean().item() == pytest.approx(0.27, rel=0.05)


def test_outlines_are_the_morphological_gradient(images: Tensor) -> None:
    image = images[0, 0].numpy()
    around = np.ones((3, 3), dtype=bool)
    # ±infinity beyond the border has no effect on minimum and maximum
    dilated = ndimage.grey_dilation(
        image.astype(float), footprint=around, cval=-np.inf, mode="constant"
    )
    eroded = ndimage.grey_erosion(
        image.astype(float), footprint=around, cval=np.inf, mode="constant"
    )
    assert np.array_equal(shifts.outlines(images)[0, 0].numpy(), dilated - eroded)


@pytest.mark.parametrize(("name", "severity"), [("fog", 1), ("contrast", 0), ("contrast", 6)])
def test_the_error_names_an_unknown_corruption(name: str, severity: int, images: Tensor) -> None:
    with pytest.raises(UsageError, match=f"'{name}' of severity {severity}"):
        shifts.corrupt(images, name, severity)
