"""Figures inline: they take the page's colour of text, and its background."""

import html
import re

from matplotlib.figure import Figure

from ..assess import plots


def inline_figure(figure: Figure, name: str, caption: str, broad: bool = False) -> str:
    """A ``<figure>`` with the plot as SVG.

    Args:
        figure: one of :mod:`~fairseq_pdd.assess.plots`, on white with black text.
        name: unique in the page, letters and digits and ``-``.
        caption: text below, also what a screen reader says of the plot.
        broad: whether it takes a row by itself.
    """
    svg = plots.to_svg(figure)
    # black and white are the theme's ink and paper; colours of data serve both themes
    svg = svg.replace("#000000", "currentColor").replace("#ffffff", "none")
    # ids are unique in a figure, not among the figures of a page
    svg = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\g<1>{name}-", svg)
    described = html.escape(caption, quote=True)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{described}" ', 1)
    kind = ' class="broad"' if broad else ""
    return f"<figure{kind}>{svg}<figcaption>{described}</figcaption></figure>"
