"""The benchmarks run and report consistent tables; the textbook equals our formulas."""

import os
import re
import subprocess
import sys
from pathlib import Path

import measuring
import pytest
import textbook
import torch

from fairseq_pdd.core import EnsembleStatistics, reverse_kl_proxy_dirichlet

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Run ``make bench`` at tiny sizes; return the folder of its files."""
    folder = tmp_path_factory.mktemp("report")
    subprocess.run(
        [sys.executable, REPOSITORY / "benchmarks" / "run.py", "--quick", "--out", folder],
        check=True,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "FAIRSEQ_PDD_COMPILE": "1",
        },
    )
    return folder


def tables(folder):
    """Parse the report's tables by section, as rows of cells."""
    sections = re.split(r"^## ", (folder / "RESULTS.md").read_text("utf-8"), flags=re.MULTILINE)
    result = {}
    for section in sections[1:]:
        title, _, body = section.partition("\n")
        blocks = re.findall(r"(?:^\|.*\n)+", body, flags=re.MULTILINE)
        result[title] = [
            [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
            for block in blocks
        ]
    return result


def number(cell):
    """Parse the first number of a cell."""
    return float(re.match(r"[\d,.]+", cell)[0].replace(",", ""))


def test_report(report):
    assert sorted(path.name for path in report.iterdir()) == ["RESULTS.md", "cost.png"]
    assert (report / "cost.png").read_bytes().startswith(b"\x89PNG")
    sections = tables(report)
    assert list(sections) == [
        "Imports",
        "The loss",
        "The online teacher",
        "A training step",
        "fairseq-generate with and without uncertainty",
        "Assessment",
    ]
    for section in sections.values():
        for header, _, *rows in section:
            assert rows
            assert all(len(row) == len(header) for row in rows)


def test_loss(report):
    time, memory, growth = tables(report)["The loss"]
    assert [number(row[0]) for row in time[2:]] == [100, 500, 1000]
    assert all(number(cell) > 0 for row in time[2:] for cell in row)
    assert time[0][3:] == memory[0][3:]
    assert "textbook, 10 members" in time[0]
    for row in memory[2:]:
        for case, cell in zip(memory[0][2:], row[2:]):
            # the gradient is one float32 tensor [T, K], the textbook's members are ten of float64
            least = 20 if case.startswith("textbook") else 1
            assert number(cell) >= (0 if case.startswith("measures") else least), case
    assert [row[0] for row in growth[2:]] == ["T", "K"]
    assert all(float(cell) > 0 for row in growth[2:] for cell in row[-1:])


def test_teacher(report):
    (table,) = tables(report)["The online teacher"]
    rows = table[2:]
    assert [row[0] for row in rows] == ["2", "3"]
    assert number(rows[1][1]) == pytest.approx(1.5 * number(rows[0][1]), rel=0.01)
    # our memory is constant, the textbook's grows with the members
    assert rows[0][2] == rows[1][2]
    assert number(rows[1][5]) > 1.2 * number(rows[0][5])


def test_step(report):
    (table,) = tables(report)["A training step"]
    names, ratios = zip(*((row[0], number(row[2])) for row in table[2:]))
    assert names[0] == "label_smoothed_cross_entropy"
    assert ratios[0] == 1
    assert "pd_send2, online teacher of 2" in names
    assert min(ratios) > 0


def test_assessment(report):
    (table,) = tables(report)["Assessment"]
    assert [row[0] for row in table[2:5]] == [
        "parsing a file as JSON",
        "reading the in-domain file",
        "reading the out-of-domain file",
    ]
    assert number(table[2][2]) == 1, "other times are relative to that of parsing"
    assert all(re.fullmatch(r"\d+\.\d\d", row[2]) for row in table[2:])


def test_generate(report):
    (table,) = tables(report)["fairseq-generate with and without uncertainty"]
    rows = table[2:]
    assert [row[:2] for row in rows] == [["Prior Network", "2"], ["ensemble of 2", "2"]]
    assert all(number(cell) > 0 for row in rows for cell in row[2:])


def test_imports(report):
    (table,) = tables(report)["Imports"]
    seconds = {row[0]: number(row[1]) for row in table[2:]}
    assert seconds["`python -c pass`"] < seconds["`import torch`"]
    assert seconds["`fairseq-pdd --help`"] < seconds["`import fairseq_pdd.tasks`"]


def test_textbook_equals_our_formulas():
    generator = torch.Generator().manual_seed(0)
    members = torch.randn(7, 4, 30, generator=generator, dtype=torch.float64)
    logits = torch.randn(7, 30, generator=generator, dtype=torch.float64).requires_grad_()
    mean, precision = textbook.statistics(members)
    teacher = EnsembleStatistics()
    for member in members.log_softmax(-1).unbind(1):
        teacher.update(member)
    torch.testing.assert_close(teacher.mean_probs, mean)
    torch.testing.assert_close(teacher.inverse_precision, 1 / precision)

    (theirs,) = torch.autograd.grad(textbook.loss(logits, mean, precision).sum(), logits)
    ours = reverse_kl_proxy_dirichlet(logits, teacher.mean_probs, teacher.inverse_precision)
    torch.testing.assert_close(torch.autograd.grad(ours.sum(), logits)[0], theirs)
    # the values are equal up to a constant that does not depend on the student
    others = reverse_kl_proxy_dirichlet(logits + 1, mean, 1 / precision)
    theirs = textbook.loss(logits + 1, mean, precision) - textbook.loss(logits, mean, precision)
    torch.testing.assert_close(others - ours, theirs)


def test_peak_of_memory():
    def case():
        first = torch.zeros(1000)
        second = first + 1
        del first
        return second * 2

    # PyTorch wraps the numbers 1 and 2 in a few bytes
    assert 8000 <= measuring.peak_bytes(case) < 8100
    assert measuring.peak_bytes(lambda: None) == 0


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_growth(power):
    sizes = [10, 20, 80]
    assert measuring.growth(sizes, [3 * n**power for n in sizes]) == (
        f"{power:.2f}",
        f"{2**power:.2f}",
    )
