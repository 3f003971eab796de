"""Images of characters in matplotlib's font DejaVu Sans: thousands of classes.

Characters with equal images are one class: Latin, Greek and Cyrillic A look alike. The images of a
class are its four styles (upright, bold, oblique, bold oblique), turned, sheared, scaled, moved and
noisy; they are drawn anew for every batch.
"""

import math
from functools import cache
from pathlib import Path
from typing import List, NamedTuple, Tuple

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw, ImageFont
from torch import Generator, Tensor

from fairseq_pdd.errors import UsageError

SIZE = 24
"""Pixels per side."""
FONTS = ["DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"]
NOVEL = 500
"""Number of characters that no model learns."""

_POINTS = 18
_TURN, _SHEAR, _LOG_SCALE, _SHIFT, _NOISE = math.radians(8), 0.1, 0.1, 0.08, 0.25


class Glyphs(NamedTuple):
    """Glyphs of the classes to learn, and of other characters."""

    known: Tensor
    """Classes to learn, ``[K, styles, SIZE, SIZE]``, values of 0 to 1."""
    novel: Tensor
    """Characters that no model learns, ``[NOVEL, styles, SIZE, SIZE]``."""


def glyphs(num_classes: int) -> Glyphs:
    """Select ``num_classes`` characters, in a random order that is always the same.

    Raises:
        UsageError: there are fewer characters.
    """
    rendered = torch.from_numpy(render())
    order = torch.randperm(len(rendered), generator=Generator().manual_seed(0))
    most = len(rendered) - NOVEL
    if not 2 <= num_classes <= most:
        raise UsageError(f"there are 2 to {most} classes of glyphs to learn, not {num_classes}")
    rendered = rendered[order].float() / 255
    # the novel characters do not depend on K
    return Glyphs(rendered[:num_classes], rendered[most:])


@cache
def render() -> "np.ndarray":
    """Render all classes, ``[N, styles, SIZE, SIZE]`` of bytes, in the order of Unicode."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    paths = [str(folder / f"{name}.ttf") for name in FONTS]
    characters = sorted(set.intersection(*(set(TTFont(path).getBestCmap()) for path in paths)))
    fonts = [
        ImageFont.truetype(path, _POINTS, layout_engine=ImageFont.Layout.BASIC) for path in paths
    ]
    seen = set()
    classes: List[np.ndarray] = []
    for character in map(chr, characters):
        images = np.stack([_draw(character, font) for font in fonts])
        key = images[0].tobytes()
        if images.any(axis=(1, 2)).all() and key not in seen:
            seen.add(key)
            classes.append(images)
    return np.stack(classes)


def _draw(character: str, font: ImageFont.FreeTypeFont) -> "np.ndarray":
    left, _, right, _ = font.getbbox(character)
    image = Image.new("L", (SIZE, SIZE))
    # centred, on a common baseline
    corner = ((SIZE - right + left) / 2 - left, 1)
    ImageDraw.Draw(image).text(corner, character, font=font, fill=255)
    return np.asarray(image)


def sample(shapes: Tensor, count: int, generator: Generator) -> Tuple[Tensor, Tensor]:
    """Draw random images.

    Args:
        shapes: glyphs ``[K, styles, SIZE, SIZE]``.
        count: number of images, N.
        generator: random generator.

    Returns:
        Images ``[N, SIZE · SIZE]`` and their classes ``[N]``.
    """
    classes = torch.randint(len(shapes), (count,), generator=generator)
    styles = torch.randint(shapes.shape[1], (count,), generator=generator)

    def uniform(bound: float) -> Tensor:
        return (torch.rand(count, generator=generator) * 2 - 1) * bound

    turn, shear = uniform(_TURN), uniform(_SHEAR)
    width, height = uniform(_LOG_SCALE).exp(), uniform(_LOG_SCALE).exp()
    cos, sin = turn.cos(), turn.sin()
    rows = [
        torch.stack([cos * width, -sin * height + shear, uniform(_SHIFT)], dim=1),
        torch.stack([sin * width, cos * height, uniform(_SHIFT)], dim=1),
    ]
    grid = F.affine_grid(torch.stack(rows, dim=1), [count, 1, SIZE, SIZE], align_corners=False)
    images = F.grid_sample(shapes[classes, styles].unsqueeze(1), grid, align_corners=False)
    noise = torch.randn(images.shape, generator=generator) * _NOISE
    return (images + noise).flatten(1), classes
