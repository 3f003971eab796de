"""Figures show their data."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Dict

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from fairseq_pdd.assess import plots, rejection, reliability_diagram
from fairseq_pdd.errors import UsageError

RNG = np.random.default_rng(0)
INSIDE, OUTSIDE = RNG.gamma(2, 0.3, 80), RNG.gamma(4, 0.3, 60)
ERRORS = np.clip(INSIDE + RNG.normal(0, 0.2, 80), 0, 1)


def figures() -> Dict[str, Figure]:
    confident = reliability_diagram(ERRORS, ERRORS < 0.5)
    return {
        "roc": plots.roc_curves({"french": (INSIDE, OUTSIDE), "none": (INSIDE, INSIDE)}, "rmi"),
        "rejection": plots.rejection_curves({"rmi": rejection(ERRORS, INSIDE)}, "WER"),
        "histograms": plots.histograms(INSIDE, {"french": OUTSIDE, "german": INSIDE}),
        "reliability": plots.reliability({"ensemble": confident}),
    }


def legend(figure: Figure) -> "list[str]":
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def test_legends_show_the_areas() -> None:
    made = figures()
    assert legend(made["roc"])[1] == "none (50.0 %)"
    prr = rejection(ERRORS, INSIDE).prr
    assert legend(made["rejection"]) == ["random", "oracle", f"rmi (PRR {prr:.2f})"]
    assert legend(made["histograms"]) == ["in-domain", "french"]
    assert legend(made["reliability"])[0].startswith("ensemble (ECE ")


def test_a_roc_curve_ends_in_the_corners_with_infinite_values_too() -> None:
    outside = np.append(OUTSIDE, np.inf)
    figure = plots.roc_curves({"french": (INSIDE, outside)})
    curve = figure.axes[0].lines[1].get_xydata()
    assert curve[0].tolist() == [0, 0]
    assert curve[-1].tolist() == [1, 1]
    plots.histograms(np.append(INSIDE, np.inf), {"french": outside})


def test_a_value_that_never_varies_has_a_histogram() -> None:
    axes = plots.histograms(np.ones(5), {"french": np.ones(3)}).axes[0]
    assert sum(patch.get_height() > 0 for patch in axes.patches) == 2


@pytest.mark.parametrize("name", ["roc", "rejection", "histograms", "reliability"])
def test_files_are_pictures_and_repeatable(name: str, tmp_path: Path) -> None:
    png, svg = plots.save(figures()[name], tmp_path / "new" / "folder", name)
    assert Image.open(png).width > 400
    text = svg.read_text(encoding="utf-8")
    assert ElementTree.fromstring(text).tag.endswith("svg")
    assert plots.save(figures()[name], tmp_path, name)[1].read_text(encoding="utf-8") == text
    assert "http" not in text.replace("http://www.w3.org/", "")


def test_curves_differ_without_colour() -> None:
    pairs = {str(i): (INSIDE, OUTSIDE) for i in range(12)}
    lines = plots.roc_curves(pairs).axes[0].lines[1:]
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 12
    assert len({line.get_linestyle() for line in lines[:4]}) == 4


NAMES = ["$x$", "_hidden", "a_b^c", "lr=0.1,[2]", r"caf\xe9", "$"]


def test_labels_are_shown_as_they_are(tmp_path: Path) -> None:
    made = figures()
    made["roc"] = plots.roc_curves(dict.fromkeys(NAMES, (INSIDE, OUTSIDE)), "$title")
    made["rejection"] = plots.rejection_curves({n: rejection(ERRORS, INSIDE) for n in NAMES})
    bins = reliability_diagram(ERRORS, ERRORS < 0.5)
    made["reliability"] = plots.reliability(dict.fromkeys(NAMES, bins), "_title")
    for name in ("roc", "rejection", "reliability"):
        text = plots.save(made[name], tmp_path, name)[1].read_text("utf-8")
        labels = legend(made[name])[-len(NAMES) :]
        assert [label.partition(" (")[0] for label in labels] == NAMES
        found = ["".join(node.itertext()) for node in ElementTree.fromstring(text).iter()]
        for label in labels:
            assert any(label in drawn for drawn in found)
    panel = plots.histograms(INSIDE, {"_hidden": OUTSIDE, "in-domain": OUTSIDE})
    plots.save(panel, tmp_path, "panel")
    assert legend(panel) == ["in-domain", "_hidden"]
    entries = panel.axes[1].get_legend().get_texts()
    assert [text.get_text() for text in entries] == ["in-domain", "in-domain (out-of-domain)"]


def test_what_is_not_defined_is_drawn_as_such() -> None:
    flat, one = np.ones(5), np.ones(1)
    assert legend(plots.roc_curves({"a": (flat, flat), "b": (flat, one)})) == [
        "a (not defined)",
        "b (not defined)",
    ]
    infinite = np.full(3, np.inf)
    assert plots.histograms(infinite, {"a": infinite}).axes


def test_a_full_disk_leaves_the_older_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plots.save(figures()["roc"], tmp_path, "roc")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UsageError, match=r"cannot write .*roc\.png: .*No space left"):
        plots.save(figures()["rejection"], tmp_path, "roc")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
