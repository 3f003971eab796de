"""The section on faithfulness, compared with SciPy on the same records."""

import logging
import random
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
from playwright.sync_api import Page
from scipy.stats import spearmanr

from . import report_records
from .chromium_page import OpenReport
from .test_report_command import run, table

Records = List[Dict[str, Any]]
SYSTEMS = {"ensemble": True, "student-seed1": True, "student-seed2": True, "single": False}


def rescored(outputs: Records, seed: int, knowledge: bool) -> Records:
    """Score the same outputs by another system; the score of each token is half the given one."""
    rng = random.Random(seed)
    made = []
    for record in outputs:
        scores = report_records.make_scores(rng, len(record["tokens"]), 1.0, knowledge)
        for name, values in scores["token"].items():
            if values is not None:
                values[:] = [v + w for v, w in zip(values, record["token"][name])]
                scores["sequence"][name] = sum(values) / len(values)
        made.append({**record, **scores})
    return made


@pytest.fixture
def records(tmp_path: Path) -> Path:
    folder = tmp_path / "records"
    scored = report_records.make_records(9, 40)
    for number, (system, knowledge) in enumerate(SYSTEMS.items()):
        is_ensemble = system == "ensemble"
        for name in ("test", "ood_x"):
            made = report_records.make_records(number, 40, knowledge=knowledge, expr=is_ensemble)
            report_records.write(folder / system / f"{name}.jsonl", made)
        ours = scored if is_ensemble else rescored(scored, number, knowledge)
        for name in ("nll", "nll_ood_x"):
            report_records.write(folder / system / f"{name}.jsonl", ours)
    return folder


def values(records: Records, measure: str, level: str) -> np.ndarray:
    return np.hstack([record[level][measure] for record in records])


def opened(open_report: OpenReport, records: Path) -> Page:
    run(records, "--out", records / "report.html")
    return open_report(records / "report.html")


def test_correlations_are_those_of_the_records(open_report: OpenReport, records: Path) -> None:
    page = opened(open_report, records)
    scored = report_records.make_records(9, 40)
    for name in ("References of the test set", "Scored outputs: x"):
        rows = {row[0]: row[1:] for row in table(page, f"Rank correlations: {name}")}
        assert list(rows) == ["single", "student", "ensemble"]
        for first, level in ((0, "token"), (5, "sequence")):
            theirs = values(scored, "rmi", level)
            seeds = [
                spearmanr(values(rescored(scored, seed, True), "rmi", level), theirs).statistic
                for seed in (1, 2)
            ]
            mean = f"{np.mean(seeds):.2f} ± {np.std(seeds, ddof=1):.2f}"
            assert rows["student"][first + 1] == mean
            single = rescored(scored, 3, False)
            for column, measure in ((0, "total"), (3, "rmi")):
                other = values(scored, measure, level)
                expected = spearmanr(values(single, "total", level), other).statistic
                value, interval = rows["single"][first + column].replace("−", "-").split()
                assert value == f"{expected:.2f}"
                assert "–" in interval
            assert rows["single"][first + 1] == "–"
            coupling = spearmanr(theirs, values(scored, "total", level)).statistic
            cells = [cell.replace("−", "-") for cell in rows["ensemble"][first : first + 5]]
            assert cells[:4] == ["–"] * 4
            assert cells[4].split()[0] == f"{coupling:.2f}"
    detection = {row[0]: row[1] for row in table(page, "Out-of-domain detection by RMI without")}
    assert detection["single"] == "–"
    assert 0 < float(detection["ensemble"].split()[0]) < 100
    # scored outputs are not browsed
    assert page.locator("#set option").all_inner_texts() == ["test", "ood_x"]


def test_other_outputs_are_dashes(
    open_report: OpenReport, records: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = records / "single" / "nll.jsonl"
    made = report_records.make_records(9, 40)
    made[5]["tokens"][0] = "▁another"
    report_records.write(path, rescored(made, 3, False))
    with caplog.at_level(logging.WARNING):
        page = opened(open_report, records)
    assert f"{path} and" in caplog.text
    assert "have different outputs" in caplog.text
    rows = {row[0]: row[1:] for row in table(page, "Rank correlations: References")}
    assert set(rows["single"]) == {"–"}
    assert "±" in rows["student"][0]


def test_without_an_ensemble_there_is_a_sentence(open_report: OpenReport, records: Path) -> None:
    run(records, "--out", records / "report.html", "--system", "student-seed1")
    page = open_report(records / "report.html")
    assert "There are no outputs that an ensemble" in page.inner_text("#faithfulness")
