"""The section of plots, which take the page's colours of text and background."""

import html
import re
from typing import Dict, List, Mapping, Sequence, Tuple

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from ..assess import Metric, label_of, plots, set_name
from ..assess.quality import ERROR_LABELS
from .descriptions import describe
from .run_errors import Run

# figures with their captions
_Figures = List[Tuple[Figure, str]]


def plots_of(runs: Mapping[str, Sequence[Run]], metric: Metric) -> str:
    """Draw the figures of each system's first run; the page shows one system at a time.

    Args:
        runs: runs by system.
        metric: metric of the errors of sentences.
    """
    options, groups = [], []
    systems = tqdm(runs.items(), "plots", unit="system", leave=False, disable=None)
    for number, (name, of) in enumerate(systems):
        options.append(f'<option value="{number}">{html.escape(name)}</option>')
        run = of[0]
        content = "".join(
            _figure_grid(f"plot-{number}-{size}", size, figures)
            for size, figures in (
                ("small", _histograms(run)),
                ("large", [*_roc_curves(run), *_error_figures(run, metric)]),
            )
        )
        if len(of) > 1:
            folder = html.escape(label_of(run.summary.folder.name))
            content = f'<p class="quiet">Of the run {folder}.</p>' + content
        hidden = " hidden" if number else ""
        groups.append(f'<div data-plots="{number}"{hidden}>{content}</div>')
    chooser = (
        '<label class="choice">System '
        f'<select id="plot-system" autocomplete="off">{"".join(options)}</select></label>'
    )
    return chooser + "".join(groups)


def _figure_grid(prefix: str, size: str, figures: _Figures) -> str:
    inline = [
        _inline(figure, f"{prefix}-{number}", caption)
        for number, (figure, caption) in enumerate(figures)
    ]
    return f'<div class="plots {size}">{"".join(inline)}</div>' if inline else ""


def _histograms(run: Run) -> _Figures:
    """Draw RMI, or total uncertainty where the system has no RMI, by out-of-domain set."""
    inside = run.summary.inside
    measure = "rmi" if "rmi" in inside else "total"
    label = describe(measure)["label"]
    return [
        (
            plots.histograms(inside[measure], {name: values}, f"{label} (nats per token)"),
            f"{label} of the test set and of {name}",
        )
        for name, values in _outside(run, measure).items()
    ]


def _roc_curves(run: Run) -> _Figures:
    made = []
    for measure in ("rmi", "total"):
        outside = _outside(run, measure)
        if outside:
            inside = run.summary.inside[measure]
            curves = {name: (inside, values) for name, values in outside.items()}
            caption = f"Detection of out-of-domain input by {describe(measure)['label']}"
            made.append((plots.roc_curves(curves), caption))
    return made


def _outside(run: Run, measure: str) -> Dict[str, np.ndarray]:
    """Return a measure by out-of-domain set, where both it and the test set have it."""
    return {
        set_name(name): values[measure]
        for name, values in run.summary.outside.items()
        if measure in values and measure in run.summary.inside
    }


def _error_figures(run: Run, metric: Metric) -> _Figures:
    curves = {describe(name)["label"]: curve for name, curve in run.errors.rejections.items()}
    made: _Figures = []
    if curves:
        made.append(
            (
                plots.rejection_curves(curves, ERROR_LABELS[metric]),
                "Error of the test set while the most uncertain outputs are replaced by perfect "
                "ones",
            )
        )
    if run.errors.diagrams:
        made.append(
            (
                plots.reliability(run.errors.diagrams),
                "Share of words that are right against the probability that the model gave them",
            )
        )
    return made


def _inline(figure: Figure, name: str, caption: str) -> str:
    """Render a ``<figure>`` with the plot as SVG; ``name`` is unique in the page."""
    svg = plots.to_svg(figure)
    # black and white are the theme's ink and paper; colours of data serve both themes
    svg = svg.replace("#000000", "currentColor").replace("#ffffff", "none")
    # make ids unique in the page
    svg = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\g<1>{name}-", svg)
    described = html.escape(caption, quote=True)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{described}" ', 1)
    return f"<figure>{svg}<figcaption>{described}</figcaption></figure>"
