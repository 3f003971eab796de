"""Figure 1: gradients against their closed form in 50 digits, and the claims of Section 3."""

import itertools
import sys

import gradient_ratio
import mpmath as mp
import numpy as np
import pytest
import torch
from gradient_ratio import CRITERIA, Offset, Situation

CLASSES = sorted({*map(int, np.geomspace(10, 100_000, 25)), 100, 1000, 10_000})
INITIALISATION, CONVERGENCE, MISCLASSIFICATION = Situation
NONE, CONCENTRATIONS, LOGITS = Offset
WITH_OFFSET = (CONCENTRATIONS, LOGITS)


@pytest.fixture(scope="module")
def ratio():
    """Compute ρ for every number of classes, by criterion, situation and offset."""
    return {
        (c.criterion, c.situation, c.offset): np.array(c.ratios)
        for c in gradient_ratio.curves(CLASSES)
    }


def exact_gradient(criterion, situation, offset, k):
    """Compute the gradient's first, any middle and last entry, from Eq. 14's derivatives by α."""
    epsilon, rest = mp.mpf("1e-4"), mp.mpf("5e-4")
    one, tail = 1 - rest, rest / (k - 1)
    pi = [1 - epsilon, epsilon / (k - 1), epsilon / (k - 1)]
    probs = {CONVERGENCE: [one, tail, tail], MISCLASSIFICATION: [tail, tail, one]}
    e = [90_000 * p for p in probs[situation]] if situation in probs else [mp.mpf(1)] * 3
    added = 0 if offset is NONE else 1
    alpha, beta = [v + added for v in e], [100_000 * p + added for p in pi]
    count = (1, k - 2, 1)
    alpha0, beta0 = (sum(n * v for n, v in zip(count, a)) for a in (alpha, beta))
    by_alpha = {
        "Cat-KL": lambda a, b, p: 1 / alpha0 - p / a,
        "Dir-NLL": lambda a, b, p: mp.digamma(a) - mp.digamma(alpha0) - mp.log(p),
        "Dir-KL": lambda a, b, p: (
            mp.digamma(a) - mp.digamma(alpha0) - mp.digamma(b) + mp.digamma(beta0)
        ),
        "Dir-RKL": lambda a, b, p: mp.psi(1, a) * (a - b) - mp.psi(1, alpha0) * (alpha0 - beta0),
    }[criterion]
    chain = e if offset is LOGITS else alpha
    result = [f * by_alpha(*of_class) for f, *of_class in zip(chain, alpha, beta, pi)]
    if criterion == "Dir-RKL":  # our loss is divided by the precision in its arguments
        result = [g / (100_000 if offset is LOGITS else beta0) for g in result]
    return result


@pytest.mark.parametrize("k", [10, 1000, 100_000])
@pytest.mark.parametrize("offset", Offset)
@pytest.mark.parametrize("situation", Situation)
@pytest.mark.parametrize("criterion", CRITERIA)
def test_gradients_are_those_of_the_closed_form(criterion, situation, offset, k):
    grad = gradient_ratio.gradient(criterion, situation, offset, k)
    with mp.workdps(50):
        first, middle, last = map(float, exact_gradient(criterion, situation, offset, k))
    expected = torch.full((k,), middle, dtype=torch.float64)
    expected[0], expected[-1] = first, last
    torch.testing.assert_close(grad, expected, rtol=1e-8, atol=0)


def test_ratio_weighs_the_first_class_against_the_mean_of_the_others():
    grad = torch.tensor([-6.0, 1.0, -2.0, 0.0])
    assert gradient_ratio.gradient_ratio(grad) == pytest.approx(3 / 4 * 6 / 3)


@pytest.mark.parametrize("offset", [NONE, CONCENTRATIONS])
def test_cross_entropy_plateaus_everywhere(ratio, offset):
    for situation in Situation:
        plateau = 1 - 1 / np.array(CLASSES)
        np.testing.assert_allclose(ratio["Cat-KL", situation, offset], plateau, rtol=1e-7)


@pytest.mark.parametrize("offset", Offset)
@pytest.mark.parametrize("situation", [INITIALISATION, MISCLASSIFICATION])
@pytest.mark.parametrize("criterion", ["Dir-NLL", "Dir-KL"])
def test_likelihood_and_forward_kl_lose_the_class_of_interest(ratio, criterion, situation, offset):
    values = ratio[criterion, situation, offset]
    assert (np.diff(values) < 1e-3 * values[1:]).all()  # falls, or is constant at the end
    assert values[-1] < 0.25 * values[0]
    assert values[0] < 0.05
    assert values[-1] < 2e-4
    reverse = ratio["Dir-RKL", situation, offset]
    assert (values < 0.05 * reverse).all()


@pytest.mark.parametrize("offset", WITH_OFFSET)
def test_likelihood_has_a_smaller_ratio_than_cross_entropy_near_convergence(ratio, offset):
    relation = ratio["Dir-NLL", CONVERGENCE, offset] / ratio["Cat-KL", CONVERGENCE, offset]
    assert (np.diff(relation) < 0).all()
    assert relation[0] < 0.5
    assert relation[-1] < 0.1


def test_likelihood_without_offset_peaks_where_its_tail_gradient_changes_sign(ratio):
    """The paper's "far smaller near convergence" holds except around 100 classes."""
    values, classes = ratio["Dir-NLL", CONVERGENCE, NONE], np.array(CLASSES)
    assert (values[(classes < 50) | (classes > 250)] < 0.8).all()
    assert (values[classes >= 1000] < 0.05).all()
    assert 80 < classes[values.argmax()] < 150
    assert values.max() > 4
    few, many = (gradient_ratio.gradient("Dir-NLL", CONVERGENCE, NONE, k)[1] for k in (80, 150))
    assert few > 0 > many


def test_reverse_kl_grows_and_stabilises(ratio):
    classes = np.array(CLASSES)
    misclassified = ratio["Dir-RKL", MISCLASSIFICATION, CONCENTRATIONS]
    assert (np.diff(misclassified) > 0).all()
    assert misclassified[-1] / misclassified[classes == 10_000] < 1.01
    converging = ratio["Dir-RKL", CONVERGENCE, CONCENTRATIONS]
    assert (np.diff(converging[classes > 150]) > 0).all()
    assert converging.min() > 0.75
    assert converging[-1] > 0.99


@pytest.mark.parametrize("offset", Offset)
def test_reverse_kl_at_initialisation_stays_until_the_target_is_as_flat(ratio, offset):
    """It grows first and falls to 1 as K approaches β₀, which the paper does not mention."""
    values, classes = ratio["Dir-RKL", INITIALISATION, offset], np.array(CLASSES)
    assert (np.diff(values[classes <= 100]) > 0).all()
    assert (np.diff(values[classes >= 2000]) < 0).all()
    assert values.min() > 0.99
    assert values.max() < 1.7


@pytest.mark.parametrize("offset", WITH_OFFSET)
def test_reverse_kl_with_offset_goes_with_cross_entropy(ratio, offset):
    for situation in Situation:
        relation = ratio["Dir-RKL", situation, offset] / ratio["Cat-KL", situation, offset]
        assert relation.min() > 0.75
        assert relation.max() < 1.7


def test_offset_improves_the_reverse_kl_near_convergence(ratio):
    without = ratio["Dir-RKL", CONVERGENCE, NONE]
    # contrary to the paper's "in all situations": without the offset it falls like the others
    assert (np.diff(without) < 0).all()
    assert without[-1] < 1e-3
    for offset in WITH_OFFSET:
        assert (ratio["Dir-RKL", CONVERGENCE, offset] > without).all()
        assert ratio["Dir-RKL", CONVERGENCE, offset][-1] > 1000 * without[-1]


def test_forward_kl_with_offset_grows_near_convergence_only(ratio):
    """The paper's "continues to decrease" holds in all other panels."""
    assert (np.diff(ratio["Dir-KL", CONVERGENCE, NONE]) < 0).all()
    for offset in WITH_OFFSET:
        values = ratio["Dir-KL", CONVERGENCE, offset]
        assert (np.diff(values) > 0).all()
        assert values[-1] / ratio["Dir-RKL", CONVERGENCE, offset][-1] > 0.9


def test_all_criteria_lose_a_class_with_exp_z_far_below_the_offset(ratio):
    """The logit of such a class has hardly any effect on α = exp(z) + 1."""
    for criterion in CRITERIA:
        values = ratio[criterion, MISCLASSIFICATION, LOGITS]
        assert (np.diff(values) < 0).all()
        assert values[-1] < 1e-3


def test_command_writes_table_and_figure(tmp_path, monkeypatch, capsys):
    options = ["--out", str(tmp_path / "new"), "--most", "100", "--points", "3"]
    monkeypatch.setattr(sys, "argv", ["gradient_ratio.py", *options])
    gradient_ratio.main()
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [
        "gradient_ratio.png",
        "ratios.md",
    ]
    text = (tmp_path / "new" / "ratios.md").read_text(encoding="utf-8")
    assert text in capsys.readouterr().out
    header, _, *rows = text.splitlines()
    assert header.split("|")[4:-1] == [" K = 10   ", " K = 100   "]
    names = itertools.product(Offset, Situation, CRITERIA)
    for row, (offset, situation, criterion) in zip(rows, names):
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[:3] == [situation.value, offset.value, criterion]
        assert all(float(cell) > 0 for cell in cells[3:])
    assert len(rows) == 36


def test_command_refuses_too_few_classes(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gradient_ratio.py", "--most", "9"])
    with pytest.raises(SystemExit):
        gradient_ratio.main()
    assert "--most must be at least 10" in capsys.readouterr().err
