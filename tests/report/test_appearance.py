"""The page is readable: in both themes, on a phone, without a mouse, and with 10,000 hypotheses."""

import time
from pathlib import Path
from typing import Any

import pytest

from . import report_records
from .chromium_page import OpenReport, contrast

# colour of each text that is visible, on the nearest background that is not transparent
TEXT_COLOURS = """() => {
  const seen = {};
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.textContent.trim() || !element.checkVisibility()) continue;
    if (element.closest('script, style, noscript, option, .unseen, :disabled')) continue;
    let behind = element;
    while (getComputedStyle(behind).backgroundColor === 'rgba(0, 0, 0, 0)') {
      behind = behind.parentElement;
    }
    const svg = element.closest('svg');
    const style = getComputedStyle(element);
    const pair = [svg ? style.fill : style.color, getComputedStyle(behind).backgroundColor];
    seen[pair.join(' on ')] = [...pair, node.textContent.trim()];
  }
  return Object.values(seen);
}"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    sets = {
        name: report_records.make_records(1, 30, nbest=2, level=level, expr=True, words=30)
        for name, level in (("test", 1.0), ("ood_noise", 2.0))
    }
    title = "A report of considerable length " * 3
    return report_records.write_report(folder, {"ensemble": sets, "other": sets}, title)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_on_every_background(
    open_report: OpenReport, report: Path, scheme: str
) -> None:
    page = open_report(report, color_scheme=scheme)
    page.check("#show-values")
    page.check("#show-all")
    page.locator("#sentences .token").first.focus()
    colours = page.evaluate(TEXT_COLOURS)
    assert len(colours) > 9  # seven shades and the rest
    for ink, paper, text in colours:
        assert contrast(ink, paper) >= 4.5, f"'{text}': {ink} on {paper}"


def test_the_switch_overrules_the_system(open_report: OpenReport, report: Path) -> None:
    page = open_report(report, color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    page.get_by_text("Light", exact=True).click()
    light = page.evaluate(background)
    assert contrast(light, "rgb(0, 0, 0)") > 15 > 2 > contrast(dark, "rgb(0, 0, 0)")
    page.get_by_text("Dark", exact=True).click()
    assert page.evaluate(background) == dark
    page.emulate_media(color_scheme="light")
    assert page.evaluate(background) == dark
    page.get_by_text("Auto", exact=True).click()
    assert page.evaluate(background) == light


@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_needs_no_sideways_scroll(
    open_report: OpenReport, report: Path, width: int
) -> None:
    page = open_report(
        report, viewport={"width": width, "height": 700}, has_touch=True, is_mobile=True
    )
    for control in (None, "#show-values", "#show-all"):
        if control:
            page.check(control)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator("#sentences .token").nth(1).tap()
    box = page.locator("#values").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    assert box["y"] + box["height"] <= 700
    page.locator(".sentence h3").first.tap()
    assert page.locator("#values").is_hidden()


def test_everything_has_a_name(open_report: OpenReport, report: Path) -> None:
    page = open_report(report)
    headings = page.locator("h1, h2, h3").evaluate_all("all => all.map((h) => h.tagName)")
    assert headings[0] == "H1"
    assert headings.count("H1") == 1
    assert all(int(b[1]) <= int(a[1]) + 1 for a, b in zip(headings, headings[1:]))
    for control in page.locator("select, input, button, svg, table").all():
        name = control.evaluate(
            """(c) => c.getAttribute('aria-label') || [...(c.labels ?? [])].map(
              (l) => l.textContent).join() || c.textContent || c.querySelector('caption')"""
        )
        assert name, control.evaluate("(c) => c.outerHTML")
    ids = page.locator("[id]").evaluate_all("all => all.map((e) => e.id)")
    assert len(ids) == len(set(ids))


def test_ten_thousand_hypotheses_take_seconds(open_report: OpenReport, tmp_path: Path) -> None:
    records = report_records.make_records(1, 2000, nbest=5, words=14)
    report = report_records.write_report(tmp_path, {"s": {"test": records}})
    # a third of the records
    assert report.stat().st_size < 0.4 * (tmp_path / "s" / "test.jsonl").stat().st_size
    start = time.monotonic()
    page = open_report(report)
    page.select_option("#order", value="descending")
    best: Any = max(
        (r for r in records if r["rank"] == 0), key=lambda record: record["sequence"]["rmi"]
    )
    assert page.locator(".sentence h3").first.inner_text() == f"Sentence {best['id']}"
    assert time.monotonic() - start < 15  # about 1 on a free machine
    assert page.inner_text("#count") == "1–25 of 2000 sentences"


def test_a_part_of_a_large_set_is_marked(open_report: OpenReport, tmp_path: Path) -> None:
    records = report_records.make_records(1, 30, nbest=3)
    report = report_records.write_report(tmp_path, {"s": {"test": records}}, nbest=2, sentences=10)
    page = open_report(report)
    assert page.inner_text("#count") == "1–10 of 10 sentences, the first of 30 in the file"
    assert page.locator("summary").first.inner_text() == "2 hypotheses"
