"""The synthetic example: its parts against plain PyTorch, and a small run of all of it."""

import json
import math
import sys

import pytest
import spirals
import torch
from torch.distributions import Dirichlet

SMALL = {
    "members": 4,
    "students": 2,
    "hidden": 32,
    "training-points": 200,
    "member-steps": 150,
    "student-steps": 400,
    "grid": 24,
}


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def run(monkeypatch, out, **options):
    argv = [f"--{name}={value}" for name, value in {"out": out, **options}.items()]
    monkeypatch.setattr(sys, "argv", ["spirals.py", *argv])
    spirals.main()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Run the example; return the folder of results and the table's values."""
    out = tmp_path_factory.mktemp("synthetic") / "results"
    with pytest.MonkeyPatch.context() as monkeypatch:
        run(monkeypatch, out, **SMALL)
    return out, json.loads((out / "table.json").read_text(encoding="utf-8"))


def test_networks_are_independent_perceptrons(generator):
    networks = spirals.Networks(3, 8, generator)
    inputs = torch.randn(3, 5, 2, generator=generator)
    for i, logits in enumerate(networks(inputs)):
        hidden = inputs[i]
        for layer, (weight, bias) in enumerate(zip(networks.weights, networks.biases)):
            hidden = hidden @ weight[i] + bias[i]
            if layer < 2:
                hidden = hidden.tanh()
        torch.testing.assert_close(logits, hidden)
    shared = networks(inputs[1])
    torch.testing.assert_close(shared[1], networks(inputs)[1])
    assert len(shared) == 3
    shared[1].square().sum().backward()
    assert networks.weights[0].grad[[0, 2]].abs().max() == 0
    assert networks.weights[0].grad[1].abs().max() > 0


def test_rows_are_drawn_evenly_from_every_set(generator):
    rows = spirals.draw_rows([10, 1000], 3, generator)
    assert rows.shape == (3, spirals.BATCH)
    assert ((rows < 10).sum(1) == spirals.BATCH // 2).all()
    assert rows.min() == 0
    assert 900 < rows.max() < 1010


def test_spirals_have_the_classes_and_the_symmetry_of_three_arms(generator):
    points, classes = spirals.spirals(30_000, generator)
    turn = torch.tensor(2 * math.pi / 3)
    rotation = torch.stack(
        [torch.stack([turn.cos(), turn.sin()]), torch.stack([-turn.sin(), turn.cos()])]
    )
    means = torch.stack([points[classes == c].mean(0) for c in range(3)])
    assert means.norm(dim=1).min() > 0.4
    torch.testing.assert_close(means @ rotation, means.roll(-1, 0), atol=0.05, rtol=0)


def test_plane_has_the_row_order_of_a_picture():
    grid = spirals.plane(3).view(3, 3, 2)
    assert grid[0, 2].tolist() == [spirals.EXTENT, -spirals.EXTENT]
    assert grid[2, 0].tolist() == [-spirals.EXTENT, spirals.EXTENT]


def test_losses_are_consistent_with_predictions(generator):
    """EnD is 0 and PD-EnD² is flat where the prediction is the teacher's; EnD² is the NLL."""
    log_probs = (torch.randn(6, 4, 3, generator=generator) * 0.5).double().log_softmax(-1)
    teacher = spirals.EnsembleStatistics()
    for member in log_probs:
        teacher.update(member)
    rows = torch.arange(4)[None]

    z = teacher.mean_probs.log()
    assert spirals.METHODS["EnD"].loss(z[None], teacher, rows).abs().max() < 1e-12
    torch.testing.assert_close(spirals.METHODS["EnD"].predict(z).probs, teacher.mean_probs)

    beta = teacher.mean_probs / teacher.inverse_precision.unsqueeze(-1)
    z = beta.log().requires_grad_()
    spirals.METHODS["PD-EnD²"].loss(z[None], teacher, rows).sum().backward()
    assert z.grad.abs().max() < 1e-9
    prediction = spirals.METHODS["PD-EnD²"].predict(z.detach())
    torch.testing.assert_close(prediction.probs, teacher.mean_probs)
    torch.testing.assert_close(prediction.measures["data"], mean_entropy(beta))

    z = torch.randn(4, 3, generator=generator).double()
    student = Dirichlet(z.exp())
    loss = spirals.METHODS["EnD²"].loss(z[None], teacher, rows)[0]
    torch.testing.assert_close(loss, -student.log_prob(log_probs.exp()).mean(0), rtol=1e-4, atol=0)
    prediction = spirals.METHODS["EnD²"].predict(z)
    torch.testing.assert_close(prediction.probs, student.mean, rtol=1e-4, atol=0)


def mean_entropy(concentrations):
    """Compute E[H(π)] under Dir(α): E[π_k ln π_k] is E[π_k] times E[ln π_k] for α_k + 1."""
    result = torch.zeros(len(concentrations), dtype=torch.float64)
    for k in range(3):
        raised = concentrations.clone()
        raised[:, k] += 1
        expected_log = torch.digamma(raised[:, k]) - torch.digamma(raised.sum(-1))
        result -= Dirichlet(concentrations).mean[:, k] * expected_log
    return result


def test_every_system_has_its_measures(finished):
    out, measured = finished
    assert sorted(path.name for path in out.iterdir()) == [
        "table.json",
        "table.md",
        "uncertainty.png",
    ]
    assert (out / "uncertainty.png").read_bytes().startswith(b"\x89PNG")
    students = [
        name + suffix for suffix in ("", ", training inputs only") for name in spirals.METHODS
    ]
    assert list(measured) == ["Ensemble", "Proxy", *students]
    for system, rows in measured.items():
        assert len(rows) == (2 if system in students else 1)
        for row in rows:
            assert row["total error"] >= 0
            # a student of the ensemble's mean has no knowledge uncertainty
            assert (row["data error"] is None) == (system.split(",")[0] == "EnD")
    for name in spirals.MEASURES:
        assert measured["Ensemble"][0][f"{name} rank"] == pytest.approx(1)
        assert measured["Ensemble"][0][f"{name} error"] == 0


def test_students_follow_the_ensemble(finished):
    _, measured = finished
    accuracy = measured["Ensemble"][0]["accuracy"]
    assert accuracy > 85
    for name in spirals.METHODS:
        for row in measured[name]:
            assert row["accuracy"] > accuracy - 2
            assert row["total rank"] > 0.8
            assert row["total rank, uncertain"] > 0.8
    for name in ("EnD²", "PD-EnD²"):
        for row in measured[name]:
            assert row["data rank"] > 0.8
            assert row["mutual_information rank"] > 0.7


def test_command_names_a_size_that_is_too_small(monkeypatch, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, tmp_path, members=1)
    assert "--members must be at least 2, not 1" in capsys.readouterr().err
