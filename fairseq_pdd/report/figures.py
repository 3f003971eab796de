"""The section of plots; they take the page's colour of text, and its background."""

import html
import re
from typing import Dict, List, Mapping, Sequence, Tuple

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from ..assess import Metric, System, plots
from ..assess.layout import OOD_PREFIX
from .measures import describe
from .runs import ERRORS, Run

# with their captions
_Figures = List[Tuple[Figure, str]]


def plots_of(systems: Sequence[System], runs: Mapping[str, Sequence[Run]], metric: Metric) -> str:
    """Figures of each system's first run; one system is shown, and others can be chosen.

    Args:
        systems: in their order.
        runs: by system.
        metric: of the errors of sentences.
    """
    options, groups = [], []
    for number, system in enumerate(tqdm(systems, "plots", unit="system", leave=False)):
        options.append(f'<option value="{number}">{html.escape(system.name)}</option>')
        run = runs[system.name][0]
        content = "".join(
            _figure_grid(f"plot-{number}-{size}", size, figures)
            for size, figures in (
                ("small", _histograms(run)),
                ("large", [*_roc_curves(run), *_error_figures(run, metric)]),
            )
        )
        if len(system.runs) > 1:
            folder = html.escape(system.runs[0].name)
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
    """The measure of knowledge uncertainty where the system has it, or total uncertainty."""
    measure = "rmi" if "rmi" in run.inside else "total"
    label = describe(measure)["label"]
    return [
        (
            plots.histograms(run.inside[measure], {name: values}, f"{label} (nats a token)"),
            f"{label} of the test set and of {name}",
        )
        for name, values in _outside(run, measure).items()
    ]


def _roc_curves(run: Run) -> _Figures:
    made = []
    for measure in ("rmi", "total"):
        outside = _outside(run, measure)
        if outside:
            curves = {name: (run.inside[measure], values) for name, values in outside.items()}
            caption = f"Detection of out-of-domain input by {describe(measure)['label']}"
            made.append((plots.roc_curves(curves), caption))
    return made


def _outside(run: Run, measure: str) -> Dict[str, np.ndarray]:
    """A measure by out-of-domain set, as far as there is one to compare it with."""
    return {
        name[len(OOD_PREFIX) :]: values[measure]
        for name, values in run.outside.items()
        if measure in values and measure in run.inside
    }


def _error_figures(run: Run, metric: Metric) -> _Figures:
    curves = {describe(name)["label"]: curve for name, curve in run.rejections.items()}
    made = [
        (
            plots.rejection_curves(curves, ERRORS[metric]),
            "Error of the test set while the most uncertain outputs are replaced by perfect ones",
        )
    ]
    if run.diagrams:
        made.append(
            (
                plots.reliability(run.diagrams),
                "Share of words that are right against the probability that the model gave them",
            )
        )
    return made


def _inline(figure: Figure, name: str, caption: str) -> str:
    """A ``<figure>`` with the plot as SVG; ``name`` is unique in the page."""
    svg = plots.to_svg(figure)
    # black and white are the theme's ink and paper; colours of data serve both themes
    svg = svg.replace("#000000", "currentColor").replace("#ffffff", "none")
    # ids are unique in a figure, not among the figures of a page
    svg = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\g<1>{name}-", svg)
    described = html.escape(caption, quote=True)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{described}" ', 1)
    return f"<figure>{svg}<figcaption>{described}</figcaption></figure>"
