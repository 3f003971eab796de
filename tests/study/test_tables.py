"""Tables of the study: paired tests and cells."""

import sys
from pathlib import Path

import pytest
from scipy.stats import ttest_1samp

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "study"))
from study_tables import Value, paired_tests, pivot


def test_seeds_are_paired() -> None:
    ours = [{"BLEU": 20.0, "rmi": 70.0}, {"BLEU": 22.0, "rmi": 71.0}, {"BLEU": 24.0, "rmi": 72.0}]
    theirs = [{"BLEU": 19.1, "rmi": 75.0}, {"BLEU": 20.9, "rmi": 60.0}, {"BLEU": 23.0, "rmi": 80.0}]
    plain = [{"BLEU": 18.0, "rmi": None}] * 3
    text = paired_tests({"Single": ours, "PD-SEnD²": ours, "forward KL": theirs, "SEnD": plain})
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[2:]]
    assert [row[:3] for row in rows] == [
        ["BLEU", "forward KL", "+1.00"], ["rmi", "forward KL", "-0.67"], ["BLEU", "SEnD", "+4.00"],
    ]  # fmt: skip
    assert float(rows[0][3]) == pytest.approx(ttest_1samp([0.9, 1.1, 1.0], 0).pvalue, abs=5e-4)
    assert rows[1][3].endswith(", not significant")


def test_cells_have_mean_and_deviation() -> None:
    values = [Value("a", "x", [1.0, 3.0]), Value("a", "y", [None]), Value("b", "y", [0.5])]
    assert pivot(values, 2).splitlines() == [
        "| | x | y |", "| --- | --- | --- |", "| a | 2.00 ± 1.41 | – |", "| b | – | 0.50 |",
    ]  # fmt: skip
