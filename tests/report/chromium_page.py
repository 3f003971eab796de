"""Options of Chromium, and helpers that measure a page."""

import re
from typing import Callable

import numpy as np
from playwright.sync_api import Page

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

OpenReport = Callable[..., Page]


def choose(page: Page, control: str, label: str) -> None:
    page.select_option(f"#{control}", label=label)


def rgb_of(colour: str) -> "np.ndarray":
    found = re.findall(r"[\d.]+", colour)
    assert len(found) == 3, f"{colour} is not opaque"
    return np.array(found, dtype=float) / 255


def linear(rgb: "np.ndarray") -> "np.ndarray":
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def oklab_lightness(rgb: "np.ndarray") -> float:
    """Compute L of OKLab (Ottosson, 2020)."""
    cones = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    return float(
        np.array([0.2104542553, 0.7936177850, -0.0040720468]) @ np.cbrt(cones @ linear(rgb))
    )


def contrast(first: str, second: str) -> float:
    """Compute the contrast ratio of WCAG 2, from 1 to 21, of two colours in CSS notation."""
    weights = np.array([0.2126, 0.7152, 0.0722])
    low, high = sorted(float(weights @ linear(rgb_of(colour))) for colour in (first, second))
    return (high + 0.05) / (low + 0.05)
