"""Controls of the browser of outputs, compared with Python on the same records."""

import re
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
from playwright.sync_api import Page

from . import report_records
from .chromium_page import OpenReport, choose, oklab_lightness, rgb_of

STEPS = 7
LABELS = {
    "total": "Total",
    "data": "Data",
    "mutual_information": "Mutual information",
    "epkl": "EPKL",
    "rmi": "RMI",
    "score": "Score",
    "rmi_score": "RMI score",
}
Records = List[Dict[str, Any]]


class Report:
    """Records of two systems and two sets, and their page."""

    def __init__(self, folder: Path) -> None:
        self.records = {
            "ensemble": {
                "test": report_records.make_records(1, 60, nbest=3, expr=True),
                "ood_noise": report_records.make_records(2, 30, nbest=3, level=2.0, expr=True),
            },
            "single": {
                "test": report_records.make_records(3, 60, knowledge=False),
                "ood_noise": report_records.make_records(4, 30, level=2.0, knowledge=False),
            },
        }
        self.path = report_records.write_report(folder, self.records)

    def best(self, system: str, name: str) -> Records:
        records = (r for r in self.records[system][name] if r["rank"] == 0)
        return sorted(records, key=lambda record: record["id"])

    def top(self, system: str, measure: str) -> float:
        """Compute the end of the ramp: the 95 % quantile of the system's tokens, in 2 digits."""
        values = [
            value
            for records in self.records[system].values()
            for record in records
            for value in scores_of(record, measure)["token"][bare(measure)]
        ]
        return float(f"{np.quantile(values, 0.95):.2g}")


def bare(measure: str) -> str:
    return measure.replace("expr.", "")


def scores_of(record: Dict[str, Any], measure: str) -> Dict[str, Any]:
    return record["expr"] if measure.startswith("expr.") else record


def value_of(record: Dict[str, Any], measure: str) -> float:
    return scores_of(record, measure)["sequence"][bare(measure)]


def number(text: str) -> float:
    return float(text.replace("−", "-"))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return Report(tmp_path_factory.mktemp("report"))


def all_ids(page: Page) -> List[int]:
    """Return the ids of the sentences on all pages, in order."""
    ids: List[int] = []
    while True:
        ids += page.evaluate(
            "[...document.querySelectorAll('.sentence')].map((s) => Number(s.dataset.id))"
        )
        following = page.locator(".next").first
        if following.is_disabled():
            return ids
        following.click()


def shown_tokens(page: Page) -> List[Any]:
    """Return the shade and the written value of the tokens of each sentence on the page."""
    return page.evaluate(
        """[...document.querySelectorAll('.texts .tokens')].map((line) =>
          [...line.querySelectorAll('.token')].map((t) => [t.dataset.shade, t.dataset.value]))"""
    )


def test_the_measure_shades_the_tokens(open_report: OpenReport, report: Report) -> None:
    page = open_report(report.path)
    choose(page, "set", "test")
    for measure in (*report_records.MEASURES, "expr.rmi"):
        page.select_option("#measure", value=measure)
        shown = shown_tokens(page)
        assert len(shown) == 25
        top = report.top("ensemble", measure)
        shades = set()
        for record, tokens in zip(report.best("ensemble", "test"), shown):
            values = scores_of(record, measure)["token"][bare(measure)]
            assert len(tokens) == len(values)
            for value, (shade, written) in zip(values, tokens):
                half = float(np.float16(value))
                assert int(shade) == min(max(int(STEPS * half / top), 0), STEPS - 1)
                assert number(written) == pytest.approx(value, rel=2e-3, abs=1e-3)
                shades.add(shade)
        assert len(shades) == STEPS
        # the legend has the same bounds
        legend = page.locator("#legend-steps li").all_inner_texts()
        bounds = [float(text.strip("≥ ")) for text in legend]
        assert bounds == pytest.approx([top * i / STEPS for i in range(STEPS)], rel=0.06)


def test_shades_go_evenly_from_the_paper(open_report: OpenReport, report: Report) -> None:
    for scheme, sign in (("light", -1), ("dark", 1)):
        page = open_report(report.path, color_scheme=scheme)
        colours = page.evaluate(
            """[...document.querySelectorAll('#legend-steps li')].map(
              (item) => getComputedStyle(item).backgroundColor)"""
        )
        lightness = [oklab_lightness(rgb_of(colour)) for colour in colours]
        steps = sign * np.diff(lightness)
        assert steps.min() > 0.03
        assert steps.max() / steps.min() < 1.5


def test_sorting_is_pythons(open_report: OpenReport, report: Report) -> None:
    page = open_report(report.path)
    choose(page, "set", "test")
    records = report.best("ensemble", "test")
    assert all_ids(page) == [r["id"] for r in records]
    for measure in ("rmi", "total", "expr.epkl"):
        page.select_option("#measure", value=measure)
        choose(page, "order", "most uncertain first")
        falling = sorted(records, key=lambda record: -value_of(record, measure))
        assert all_ids(page) == [r["id"] for r in falling]
        choose(page, "order", "least uncertain first")
        rising = sorted(records, key=lambda record: value_of(record, measure))
        assert all_ids(page) == [r["id"] for r in rising]


def test_a_range_filters(open_report: OpenReport, report: Report) -> None:
    page = open_report(report.path)
    choose(page, "set", "ood_noise")
    page.select_option("#measure", value="rmi")
    records = report.best("ensemble", "ood_noise")
    low, high = np.quantile([value_of(r, "rmi") for r in records], [0.3, 0.8]).round(3).tolist()
    page.fill("#from", str(low))
    page.fill("#to", str(high))
    page.press("#to", "Enter")
    inside = [r["id"] for r in records if low <= value_of(r, "rmi") <= high]
    assert 0 < len(inside) < len(records)
    assert all_ids(page) == inside
    assert page.locator(".histogram .out").count() > 0
    # another measure has another range
    page.select_option("#measure", value="total")
    assert all_ids(page) == [r["id"] for r in records]
    page.fill("#from", "1e9")
    page.press("#from", "Enter")
    assert page.locator(".sentence").count() == 0
    assert "Widen the range" in page.inner_text("#count")
    page.click("#reset")
    assert all_ids(page) == [r["id"] for r in records]


def test_search_ignores_case(open_report: OpenReport, report: Report) -> None:
    page = open_report(report.path)
    choose(page, "set", "test")
    records = report.records["ensemble"]["test"]
    # a word of an output that is not the best one
    word = next(
        word
        for r in records
        if r["rank"] == 2
        for word in r["hypothesis"].split()
        if word not in r["reference"] and len(word) > 4
    )
    expected = sorted(
        {
            r["id"]
            for r in records
            if any(word in r[k] for k in ("source", "reference", "hypothesis"))
        }
    )
    page.fill("#search", word.upper())
    page.locator("#count").filter(has_text="found among 60").wait_for()
    assert all_ids(page) == expected


def test_systems_and_sets_are_switched(open_report: OpenReport, report: Report) -> None:
    page = open_report(report.path)
    assert page.locator("#system option").all_inner_texts() == ["ensemble", "single"]
    choose(page, "set", "ood_noise")
    page.select_option("#measure", value="total")
    choose(page, "system", "single")
    # a selection stays where the system has it
    assert page.locator("#set option:checked").inner_text() == "ood_noise"
    assert page.locator("#measure option").all_inner_texts() == ["Total", "Score"]
    best = report.best("single", "ood_noise")
    assert page.locator(".number b").first.inner_text() == f"{value_of(best[0], 'total'):.3f}"
    choose(page, "system", "ensemble")
    assert page.locator("#measure option").count() == 2 * len(report_records.MEASURES)


def test_all_hypotheses_have_all_measures(open_report: OpenReport, report: Report) -> None:
    page = open_report(report.path)
    choose(page, "set", "test")
    page.locator("summary").first.click()
    ranked = [r for r in report.records["ensemble"]["test"] if r["id"] == 0]
    ranked.sort(key=lambda record: record["rank"])
    details = page.locator("details").first
    lines = details.locator(".hypotheses li").all_inner_texts()
    assert [line.replace("</s>", "").strip() for line in lines] == [r["hypothesis"] for r in ranked]
    rows = [re.split(r"\s+", row) for row in details.locator("tr").all_inner_texts()]
    assert len(rows) == 1 + 2 * len(ranked)  # PrEx and ExPr
    for line, (rank, kind, log_prob, *values) in enumerate(rows[1:]):
        record = ranked[line // 2]
        scores = record if kind == "PrEx" else record["expr"]
        assert int(rank) == record["rank"]
        numbers = [number(text) for text in (log_prob, *values)]
        expected = [scores["log_prob"], *(scores["sequence"][m] for m in report_records.MEASURES)]
        assert numbers == pytest.approx(expected, rel=1e-3, abs=1e-3)
    page.check("#show-all")
    assert page.locator("details[open]").count() == 25


def test_values_of_a_token_by_mouse_and_keyboard(open_report: OpenReport, report: Report) -> None:
    page = open_report(report.path)
    choose(page, "set", "test")
    record = report.best("ensemble", "test")[0]

    def assert_values(position: int) -> None:
        assert page.locator("#values p").inner_text().split()[0] == record["tokens"][position]
        rows = page.locator("#values tr").all_inner_texts()[1:]
        for measure, row in zip(report_records.MEASURES, rows):
            label, prex, expr = row.split("\t")
            assert label == LABELS[measure]
            for text, scores in ((prex, record), (expr, record["expr"])):
                assert number(text) == pytest.approx(
                    scores["token"][measure][position], rel=2e-3, abs=1e-3
                )

    tokens = page.locator(".tokens").first.locator(".token")
    tokens.nth(2).hover()
    assert_values(2)
    page.mouse.move(0, 0)
    assert page.locator("#values").is_hidden()
    tokens.first.focus()
    page.keyboard.press("ArrowRight")
    assert_values(1)
    page.keyboard.press("End")
    assert_values(len(record["tokens"]) - 1)
    page.keyboard.press("Escape")
    assert page.locator("#values").is_hidden()
    # one stop of Tab per line
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"


def test_values_under_the_tokens(open_report: OpenReport, report: Report) -> None:
    page = open_report(report.path)
    content = "getComputedStyle(document.querySelector('#sentences .token'), '::after').content"
    assert page.evaluate(content) == "none"
    page.check("#show-values")
    value = page.locator("#sentences .token").first.get_attribute("data-value")
    assert page.evaluate(content) in ("attr(data-value)", f'"{value}"')


HOSTILE = [
    "<script>alert(1)</script><img src=x onerror=alert(2)>",
    "</script><script>alert(3)</script><!-- <script>",
    "a\u2028b\u2029c\u0000d]]>",
    "\u202eright to left\u202c שלום العربية",
    "\"&quot;&lt;b&gt;'`${alert(4)}",
]


def test_hostile_text_is_shown_as_text(open_report: OpenReport, tmp_path: Path) -> None:
    records = report_records.make_records(1, len(HOSTILE))
    for record in records:
        text = HOSTILE[record["id"]]
        record.update(source=text, reference=text, hypothesis=text)
        record["tokens"] = [text, *record["tokens"][1:]]
    name = "ood_<img src=x onerror=alert(5)>"
    title = "</title><script>alert(6)</script>"
    path = report_records.write_report(
        tmp_path, {name: {"test": records, name: records}}, title=title
    )
    page = open_report(path)
    assert page.title() == title
    assert page.locator("#system option").inner_text() == name
    assert page.locator("#set option").all_inner_texts() == ["test", name]
    assert page.locator("tbody th").first.inner_text() == name
    assert page.locator(f"figcaption:has-text('{name[4:]}')").count() == 1
    for index, text in enumerate(HOSTILE):
        texts = page.locator(".sentence").nth(index).locator(".texts dd")
        assert texts.nth(0).text_content() == text
        assert texts.nth(2).text_content() == text
        assert texts.nth(1).locator(".token").first.text_content() == text
    assert page.locator("img, section script").count() == 0
    page.locator("#sentences .token").first.hover()
    assert HOSTILE[0] in (page.locator("#values p").text_content() or "")


def test_records_of_other_systems_are_shown_too(open_report: OpenReport, tmp_path: Path) -> None:
    """Speech has no source, blind sets have no reference; pieces have other marks or are words."""
    records = report_records.make_records(1, 4, words=3)
    cases: List[Any] = [
        (["ein@@", "mal", "hin", "</s>"], "einmal hin"),
        (["</s>"], ""),
        (["zwei", "wör@@", "ter", "</s>"], "zwei wörter"),
        (["@@", "x@@", "y"], "@@ xy"),
    ]
    for record in records:
        record["tokens"], record["hypothesis"] = cases[record["id"]]
        record["source"] = record["reference"] = None
        for name, values in record["token"].items():
            record["token"][name] = [*values, 0.5, 0.5][: len(record["tokens"])]
        record["token"]["data"] = None  # only its mean is known
    # overflowed
    records[0]["sequence"]["epkl"] = records[0]["token"]["epkl"][0] = 3.4028235e38
    test = report_records.make_records(2, 4, words=3)
    page = open_report(
        report_records.write_report(tmp_path, {"s": {"test": test, "ood_blind": records}})
    )
    choose(page, "set", "ood_blind")
    lines = page.locator(".texts .tokens").all_inner_texts()
    assert [line.replace("</s>", "").strip() for line in lines] == [text for _, text in cases]
    assert set(page.locator(".texts dt").all_inner_texts()) == {"Hypothesis"}
    page.select_option("#measure", value="data")
    tokens = page.locator(".texts .token").all()
    assert {token.get_attribute("data-value") for token in tokens} == {"–"}
    assert {token.get_attribute("data-shade") for token in tokens} == {"unknown"}
    page.select_option("#measure", value="epkl")
    choose(page, "order", "most uncertain first")
    assert page.locator(".sentence h3").first.inner_text() == f"Sentence {records[0]['id']}"
    assert page.locator(".number b").first.inner_text() == "> 65504"
