"""Figures, in the colours of Okabe and Ito, which colour-blind readers distinguish."""

import io
from itertools import cycle
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from ..records.files import replace_file, write_text
from .calibration import Reliability
from .ood import detect
from .rejection import Rejection

BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#d55e00",
    "#cc79a7",
    "#56b4e9",
    "#777777",
)
_COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY)
_DASHES = ("-", "--", "-.", ":")
_BINS = 30
_METADATA = ("Creator", "Date", "Format", "Type")


def roc_curves(pairs: Mapping[str, Tuple[np.ndarray, np.ndarray]], title: str = "") -> Figure:
    """Draw ROC curves of out-of-domain detection, with their areas in the legend.

    Args:
        pairs: for each curve's name the uncertainty of in-domain and of out-of-domain
            sentences, higher being more uncertain; may be infinite.
        title: title of the figure.
    """
    figure = Figure(figsize=(4.4, 4.4), layout="constrained")
    axes = _axes(figure, "false positives (in-domain)", "true positives (out-of-domain)", title)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8)
    handles: Dict[str, Artist] = {}
    for (name, (inside, outside)), (colour, dashes) in zip(pairs.items(), _styles()):
        labels = np.repeat([0, 1], [len(inside), len(outside)])
        # ranks have the order of the values, and are finite
        _, ranks = np.unique(np.concatenate([inside, outside]), return_inverse=True)
        found = detect(inside, outside, resamples=0)
        area = "not defined" if found is None else f"{100 * found.roc_auc.value:.1f} %"
        rates = roc_curve(labels, ranks)[:2]
        handles[f"{name} ({area})"] = axes.plot(*rates, dashes, color=colour)[0]
    axes.set_aspect("equal")
    _legend(axes, handles, loc="lower right")
    return figure


def rejection_curves(
    curves: Mapping[str, Rejection], ylabel: str = "error", title: str = ""
) -> Figure:
    """Draw the error of a set against the share of rejected outputs, with PRR in the legend.

    Args:
        curves: for each name its curve, all over the same outputs, so that they share the
            oracle and random ones.
        ylabel: name of the error.
        title: title of the figure.
    """
    figure = Figure(figsize=(5, 3.8), layout="constrained")
    axes = _axes(figure, "share of outputs rejected", ylabel, title)
    first = next(iter(curves.values()))
    handles: Dict[str, Artist] = {}
    for name, values, colour in (("random", first.random, GREY), ("oracle", first.oracle, "black")):
        handles[name] = axes.plot(first.fractions, values, color=colour, linewidth=0.8)[0]
    for (name, curve), (colour, dashes) in zip(curves.items(), _styles()):
        prr = "" if curve.prr is None else f" (PRR {curve.prr:.2f})"
        (handles[name + prr],) = axes.plot(curve.fractions, curve.errors, dashes, color=colour)
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
    _legend(axes, handles)
    return figure


def histograms(
    inside: np.ndarray,
    outside: Mapping[str, np.ndarray],
    xlabel: str = "uncertainty (nats per token)",
    titles: Optional[Mapping[str, str]] = None,
) -> Figure:
    """Draw the uncertainty of in-domain input against each out-of-domain set, a panel per set.

    The axis ends where the outermost 0.2 % of values on either side begin.

    Args:
        inside: uncertainty of the in-domain sentences.
        outside: for each out-of-domain set's name the uncertainty of its sentences.
        xlabel: label of every panel.
        titles: titles of the panels by set name.
    """
    figure = Figure(figsize=(3 * len(outside), 2.5), layout="constrained")
    panels = figure.subplots(1, len(outside), squeeze=False)[0]
    for axes, (name, values) in zip(panels, outside.items()):
        histogram(axes, inside, values, name)
        axes.set_title((titles or {}).get(name, ""), fontsize=10, parse_math=False)
        axes.set_xlabel(xlabel, fontsize=9, parse_math=False)
    return figure


def histogram(axes: Axes, inside: np.ndarray, outside: np.ndarray, name: str) -> None:
    """Draw one panel of :func:`histograms`."""
    both = np.concatenate([inside, outside])
    finite = both[np.isfinite(both)]
    low, high = np.quantile(finite, [0.002, 0.998]) if len(finite) else (0.0, 1.0)
    handles: Dict[str, Artist] = {}
    for values, colour, label in ((inside, BLUE, "in-domain"), (outside, ORANGE, name)):
        shown = values[np.isfinite(values)]
        axes.hist(shown, _BINS, range=(low, high), density=len(shown) > 0, alpha=0.65, color=colour)
        handles[label if label not in handles else f"{label} (out-of-domain)"] = axes.patches[-1]
    axes.set_yticks([])
    axes.spines[["top", "left", "right"]].set_visible(False)
    _legend(axes, handles)


def reliability(diagrams: Mapping[str, Reliability], title: str = "") -> Figure:
    """Draw accuracy against confidence, with the expected calibration error in the legend.

    The panel below shows the share of predictions in each bin.

    Args:
        diagrams: for each name (system, set) its bins.
        title: title of the figure.
    """
    figure = Figure(figsize=(4.4, 5.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    upper.plot([0, 1], [0, 1], color=GREY, linewidth=0.8)
    handles: Dict[str, Artist] = {}
    for (name, bins), (colour, dashes) in zip(diagrams.items(), _styles()):
        used = bins.counts > 0
        (handles[f"{name} (ECE {100 * bins.ece:.1f} %)"],) = upper.plot(
            bins.confidence[used],
            bins.accuracy[used],
            dashes,
            marker="o",
            markersize=4,
            color=colour,
        )
        lower.stairs(bins.counts / bins.counts.sum(), bins.edges, color=colour, linestyle=dashes)
    for axes in (upper, lower):
        _plain(axes)
    upper.set_title(title, fontsize=10, parse_math=False)
    upper.set_ylabel("share that is right", fontsize=9)
    upper.set_ylim(0, 1)
    _legend(upper, handles)
    lower.set_ylabel("share of all", fontsize=9)
    lower.set_xlabel("confidence", fontsize=9)
    lower.set_xlim(0, 1)
    return figure


def to_svg(figure: Figure) -> str:
    """Render an ``<svg>`` element without metadata; equal figures give equal text."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "fairseq_pdd", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(_METADATA))
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def save(figure: Figure, folder: Path, name: str) -> List[Path]:
    """Write ``name.png`` and ``name.svg``; returns their paths.

    Raises:
        UsageError: a file cannot be written.
    """
    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    with replace_file(png) as stream:
        figure.savefig(stream, format="png", dpi=150)
    write_text(svg, to_svg(figure))
    return [png, svg]


def _styles() -> "cycle[Tuple[str, str]]":
    """Return pairs of colour and dashes, of which twelve are distinct."""
    colours = len(_COLOURS)
    return cycle([(_COLOURS[i % colours], _DASHES[i % 4]) for i in range(12)])


def _axes(figure: Figure, xlabel: str, ylabel: str, title: str) -> Axes:
    axes = figure.subplots()
    axes.set_xlabel(xlabel, fontsize=9)
    axes.set_ylabel(ylabel, fontsize=9)
    axes.set_title(title, fontsize=10, parse_math=False)
    _plain(axes)
    return axes


def _legend(axes: Axes, handles: Mapping[str, Artist], **options: Any) -> None:
    """Draw a legend with labels as they are: ``$`` begins no formula, ``_`` hides none."""
    numbers = [str(number) for number in range(len(handles))]
    legend = axes.legend(list(handles.values()), numbers, frameon=False, fontsize=8, **options)
    for text, label in zip(legend.get_texts(), handles):
        text.set_parse_math(False)
        text.set_text(label)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
