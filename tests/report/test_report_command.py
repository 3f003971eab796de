"""``fairseq-pdd report``, from its command line to the tables on the page."""

import builtins
import re
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
from playwright.sync_api import Page
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from fairseq_pdd.cli.main import app
from fairseq_pdd.errors import UsageError

from . import report_records
from .chromium_page import OpenReport

SETS = {"test": 1.0, "ood_french": 2.0, "ood_noise": 1.2, "nll": 0.8}
SYSTEMS: Dict[str, bool] = {"ensemble": True, "student-seed1": True, "student-seed2": True}
SYSTEMS["single"] = False


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("records")
    for number, (system, knowledge) in enumerate(SYSTEMS.items()):
        for name, level in SETS.items():
            made = report_records.make_records(number, 40, level=level, knowledge=knowledge)
            report_records.write(folder / system / f"{name}.jsonl", made)
    return folder


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["report", *map(str, arguments)])
    if result.exception is not None:
        raise result.exception.__cause__ or result.exception
    assert result.exit_code == 0, result.output
    return result.output


def table(page: Page, label: str) -> List[List[str]]:
    rows = page.locator(f"[aria-label^='{label}'] tbody tr").all()
    return [row.locator("th, td").all_inner_texts() for row in rows]


def aucs(folder: Path, measure: str) -> List[float]:
    """Compute the AUCs of both out-of-domain sets with scikit-learn, without our reader."""
    pattern = re.compile(rf'"sequence": {{[^}}]*"{measure}": ([^,}}]*)')
    values = {
        name: [float(v) for v in pattern.findall((folder / f"{name}.jsonl").read_text("utf-8"))]
        for name in SETS
    }
    labels = np.repeat([0, 1], 40)
    return [
        100 * float(roc_auc_score(labels, values["test"] + values[name]))
        for name in ("ood_french", "ood_noise")
    ]


def test_tables_hold_the_values_of_the_records(
    open_report: OpenReport, records: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "report.html"
    assert f"wrote {out}" in run(records, "--out", out)
    page = open_report(out)
    quality = table(page, "Quality")
    assert [row[0] for row in quality] == ["ensemble", "single", "student"]
    assert re.fullmatch(r"\d+\.\d ± \d+\.\d", quality[2][1])
    detection = {row[0]: row[1:] for row in table(page, "ROC-AUC of detecting")}
    for column, measure in ((0, "total"), (1, "rmi")):
        for number, expected in enumerate(aucs(records / "ensemble", measure)):
            value, low, high = re.findall(r"[\d.]+", detection["ensemble"][2 * number + column])
            assert float(value) == pytest.approx(expected, abs=0.051)
            assert float(low) < float(value) < float(high)
        both = [aucs(records / f"student-seed{seed}", measure) for seed in (1, 2)]
        for number, pair in enumerate(zip(*both)):
            mean, spread = detection["student"][2 * number + column].split(" ± ")
            assert float(mean) == pytest.approx(np.mean(pair), abs=0.051)
            assert float(spread) == pytest.approx(np.std(pair, ddof=1), abs=0.051)
    assert detection["single"][1] == detection["single"][3] == "–"
    # the highest of a column is bold
    bold = page.locator("[aria-label^='ROC-AUC of detecting'] strong").all_inner_texts()
    highest = max(float(row[0].split()[0].replace("−", "-")) for row in detection.values())
    assert any(float(text.split(" ±")[0]) == highest for text in bold)
    errors = {row[0]: row[1:] for row in table(page, "Errors")}
    assert errors["single"][3] == "–"  # PRR by RMI
    assert len(errors["ensemble"]) == 8


def test_plots_are_of_the_selected_system(
    open_report: OpenReport, records: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report.html"
    run(records, "--out", out, "--system", "A single one=single", "--system", "student-seed2")
    page = open_report(out)
    assert page.locator("#system option").all_inner_texts() == ["A single one", "student-seed2"]
    # histograms, ROC by total, rejection, reliability; no RMI
    assert page.locator("figure:visible").count() == 2 + 3
    page.select_option("#plot-system", label="student-seed2")
    captions = page.locator("figure:visible figcaption").all_inner_texts()
    assert captions[0] == "RMI of the test set and of french"
    assert len(captions) == 2 + 4
    assert page.locator("svg:visible").first.evaluate("(s) => s.getBoundingClientRect().width") > 99


def test_folders_of_single_systems_are_accepted(
    open_report: OpenReport, records: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report.html"
    run(records / "single", records / "ensemble", "--out", out, "--title", "Two of four")
    page = open_report(out)
    assert page.title() == page.inner_text("h1") == "Two of four"
    assert page.locator("#system option").all_inner_texts() == ["single", "ensemble"]
    # scored references are no outputs
    assert page.locator("#set option").all_inner_texts() == ["test", "ood_french", "ood_noise"]


def test_faults_are_reported_in_one_line(records: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    with pytest.raises(UsageError, match="has no records"):
        run(tmp_path, "--out", out)
    with pytest.raises(UsageError, match="two systems are called 'single'"):
        run(records / "single", records / "single", "--out", out)
    with pytest.raises(UsageError, match="give only one"):
        run(records / "single", records, "--out", out, "--system", "ensemble")
    with pytest.raises(UsageError, match=r"cannot write .*: it is a folder"):
        run(records / "single", "--out", tmp_path)
    made = report_records.make_records(1, 3)
    made[1]["token"]["rmi"] = made[1]["token"]["rmi"][1:]
    report_records.write(tmp_path / "odd" / "test.jsonl", made)
    message = r"odd.test\.jsonl, line \d: \d+ tokens but \d+ values of 'rmi'"
    with pytest.raises(UsageError, match=message):
        run(tmp_path / "odd", "--out", out)
    assert not out.exists()


def test_every_file_is_read_once(
    records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: Counter[Path] = Counter()
    builtin_open = builtins.open

    def count(file: Any, *args: Any, **options: Any) -> Any:
        if str(file).endswith(".jsonl"):
            opened[Path(file)] += 1
        return builtin_open(file, *args, **options)

    monkeypatch.setattr(builtins, "open", count)
    run(records, "--out", tmp_path / "report.html")
    assert opened == dict.fromkeys(records.glob("*/*.jsonl"), 1)


def test_an_older_report_survives_a_failure(records: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    out.write_text("older")
    with pytest.raises(UsageError, match="is no folder"):
        run(tmp_path / "none", "--out", out)
    assert out.read_text() == "older"
    run(records / "single", "--out", out)
    assert out.read_text("utf-8").startswith("<!doctype html>")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_half_a_surrogate_pair_reaches_the_page(open_report: OpenReport, tmp_path: Path) -> None:
    """JSON can escape what UTF-8 cannot hold."""
    path = report_records.write(
        tmp_path / "s" / "test.jsonl", report_records.make_records(1, 2, words=3)
    )
    text = path.read_text("utf-8").replace('"source": "', '"source": "half \\ud800 ')
    path.write_text(text, encoding="utf-8")
    run(tmp_path, "--out", tmp_path / "report.html")
    page = open_report(tmp_path / "report.html")
    assert page.evaluate("document.querySelector('.texts dd').textContent[5] === '\\ud800'")
