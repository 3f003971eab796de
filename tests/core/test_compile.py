"""Compiled kernels: the values of eager mode, one compilation for all shapes, and the fallback."""

import logging

import pytest
import reference
import torch
from inputs import members, student_and_teacher

from fairseq_pdd.core import (
    EnsembleStatistics,
    _compile,
    _rowwise,
    dirichlet_measures,
    ensemble,
    measures,
    reverse_kl,
    reverse_kl_proxy_dirichlet,
    sequence_ensemble_measures,
)


def loss_and_grad(logits, mean, lam):
    logits = logits.detach().requires_grad_()
    loss = reverse_kl_proxy_dirichlet(logits, mean, lam)
    weights = torch.linspace(0.5, 2, loss.numel()).view_as(loss)
    (grad,) = torch.autograd.grad((weights * loss).sum(), logits)
    return loss.detach(), grad


@pytest.fixture
def compiling(monkeypatch):
    """A process in which every call is worth compiling and nothing was compiled.

    Other tests of the same process may have compiled the same functions for their shapes.
    """
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    for module in (ensemble, reverse_kl, measures):
        for function in vars(module).values():
            if isinstance(function, _rowwise.RowFunction) and function._compiled is not None:
                monkeypatch.setattr(function, "_compiled", _compile.Compiled(function._eager))
    monkeypatch.setenv(_compile.SWITCH, "1")
    monkeypatch.setattr(_compile, "MIN_ELEMENTS", 0)
    monkeypatch.setattr(_compile._State, "elements_seen", 0)
    for name in ("announced", "failed"):
        monkeypatch.setattr(_compile._State, name, False)


@pytest.fixture
def eager(monkeypatch):
    """Calls a function in eager mode."""

    def call(function, *args):
        with monkeypatch.context() as patch:
            patch.setenv(_compile.SWITCH, "0")
            return function(*args)

    return call


def messages(caplog):
    return [(r.levelname, r.getMessage()) for r in caplog.records if r.name == _compile.__name__]


def test_compiled_equals_eager_for_every_shape_with_one_compilation(
    compiling, eager, caplog, capfd, monkeypatch
):
    """One long test, since compiling is what takes the time."""
    from torch._dynamo.utils import counters

    caplog.set_level(logging.INFO, logger=_compile.__name__)
    monkeypatch.setattr(_rowwise, "_COMPILED_CHUNK_ELEMENTS", 3000)
    graphs = None
    # a matrix; with leading dimensions; one class over; other vocabularies; in several chunks,
    # of which the last has one row; as many rows as classes; no row and a single one
    for shape in ((7, 60), (2, 5, 60), (7, 61), (3, 1000), (10, 1000), (16, 16), (0, 9), (1, 60)):
        inputs = student_and_teacher(*shape)
        compiled, expected = loss_and_grad(*inputs), eager(loss_and_grad, *inputs)
        assert torch.allclose(compiled[0], expected[0], rtol=2e-6, atol=2e-6)
        assert torch.allclose(compiled[1], expected[1], rtol=1e-5, atol=2e-6)
        graphs = graphs or counters["stats"]["unique_graphs"]
    assert counters["stats"]["unique_graphs"] == graphs == 2, "recompiled for another shape"

    # strided, half precision and large logits need no other kernel either
    wide, mean, lam = student_and_teacher(6, 90)
    for logits in (wide[:, :60], wide[:, :60].bfloat16(), wide[:, :60] * 20):
        inputs = (logits, mean[:, :60], lam)
        compiled, expected = loss_and_grad(*inputs), eager(loss_and_grad, *inputs)
        assert compiled[1].dtype == logits.dtype
        assert torch.allclose(compiled[0], expected[0], rtol=2e-6, atol=2e-6)
        assert torch.allclose(compiled[1].float(), expected[1].float(), rtol=1e-2, atol=2e-6)
    assert counters["stats"]["unique_graphs"] == 2

    # nor is exactness lost
    logits, mean = torch.linspace(-60, 60, 50), torch.softmax(torch.randn(50), dim=-1)
    rows = [t.expand(2, *t.shape) for t in (logits, mean, torch.tensor(0.1))]
    loss, grad = loss_and_grad(*rows)
    truth = reference.reverse_kl(logits, mean, torch.tensor(0.1))
    assert reference.relative_error(loss[0], truth.loss, truth.scale) <= 2e-6
    assert reference.max_norm_error(grad[0] / 0.5, truth.grad) <= 2e-6

    assert [level for level, _ in messages(caplog)] == ["INFO"] * 3
    assert "FAIRSEQ_PDD_COMPILE=0" in messages(caplog)[0][1]
    assert all(" s" in text for _, text in messages(caplog)[1:])
    assert capfd.readouterr().out == ""


def test_a_compiled_kernel_that_fails_later_is_left_as_well(compiling, monkeypatch, caplog):
    calls = []

    def compile_for_two_calls(function, **_):
        def compiled(*args, **constants):
            calls.append(args)
            if len(calls) > 2:
                raise RuntimeError("recompile_limit reached")
            return function(*args, **constants)

        return compiled

    monkeypatch.setattr(torch, "compile", compile_for_two_calls)
    double = _compile.Compiled(lambda x: 2 * x)
    x = torch.ones(2, 3)
    assert all(torch.equal(double(x), 2 * x) for _ in range(5))
    assert len(calls) == 3
    (warning,) = [text for level, text in messages(caplog) if level == "WARNING"]
    assert "recompile_limit reached" in warning


def broken_compile(function, **kwargs):
    def compiled(*args, **kwargs):
        raise RuntimeError("no C++ compiler found\nwith a long explanation")

    return compiled


def test_without_a_compiler_eager_mode_goes_on_and_one_line_says_so(
    compiling, eager, caplog, monkeypatch
):
    monkeypatch.setattr(torch, "compile", broken_compile)
    for name in ("_totals", "_classes"):
        function = getattr(reverse_kl_module(), name)
        monkeypatch.setattr(function, "_compiled", _compile.Compiled(function.__wrapped__))
    inputs = student_and_teacher(7, 60)
    for _ in range(3):
        for ours, expected in zip(loss_and_grad(*inputs), eager(loss_and_grad, *inputs)):
            assert torch.equal(ours, expected)
    (warning,) = [text for level, text in messages(caplog) if level == "WARNING"]
    assert warning.endswith("compiling it failed: no C++ compiler found")


def reverse_kl_module():
    import importlib

    return importlib.import_module("fairseq_pdd.core.reverse_kl")


def test_little_work_is_not_worth_compiling(compiling, monkeypatch):
    monkeypatch.setattr(_compile, "MIN_ELEMENTS", 1000)
    monkeypatch.setattr(_compile._State, "elements_seen", 0)
    logits = torch.zeros(4, 100)
    assert [_compile.is_worthwhile(logits) for _ in range(4)] == [False, False, True, True]
    assert [_compile.is_worthwhile(logits, 2) for _ in range(2)] == [True, True]
    monkeypatch.setattr(_compile._State, "elements_seen", 800)
    assert [_compile.is_worthwhile(logits, 2) for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize("reason", ["switched off", "float64", "other device", "failed before"])
def test_what_is_never_compiled(compiling, monkeypatch, reason):
    logits = torch.zeros(4, 100)
    assert _compile.is_worthwhile(logits)
    if reason == "switched off":
        monkeypatch.setenv(_compile.SWITCH, "0")
    if reason == "failed before":
        monkeypatch.setattr(_compile._State, "failed", True)
    if reason == "float64":
        logits = logits.double()
    if reason == "other device":
        logits = logits.to("meta")
    assert not _compile.is_worthwhile(logits)


def test_measures_compile_too(compiling, eager):
    logits = torch.randn(6, 70) * 5
    for ours, expected in zip(dirichlet_measures(logits), eager(dirichlet_measures, logits)):
        assert torch.allclose(ours, expected, rtol=1e-5, atol=2e-6)


def test_statistics_compile_once_for_any_number_of_members(compiling, eager):
    from torch._dynamo.utils import counters

    def measures(log_probs):
        statistics = EnsembleStatistics()
        for member in log_probs:
            statistics.update(member)
        return statistics.measures()

    graphs = None
    for shape in ((3, 6, 70), (4, 6, 70), (10, 5, 90)):
        log_probs = some_impossible(members(*shape))
        for a, b in zip(measures(log_probs), eager(measures, log_probs)):
            assert torch.allclose(a, b, rtol=1e-5, atol=2e-6)
        graphs = graphs or counters["stats"]["unique_graphs"]
    assert counters["stats"]["unique_graphs"] == graphs == 2


def test_measures_of_a_sequence_ensemble_compile_too(compiling, eager):
    from torch._dynamo.utils import counters

    for shape in ((3, 6, 70), (3, 5, 90)):
        log_probs, log_weights = some_impossible(members(*shape)), torch.randn(shape[:2]) * 5
        args = log_probs.unbind(0), log_weights
        ours, expected = (
            sequence_ensemble_measures(*args),
            eager(sequence_ensemble_measures, *args),
        )
        for a, b in zip(sum(ours, ()), sum(expected, ())):
            assert torch.allclose(a, b, rtol=1e-5, atol=2e-6)
    assert counters["stats"]["unique_graphs"] == 1


def some_impossible(log_probs):
    log_probs[:, :, 3] = float("-inf")  # a class that no member allows
    log_probs[1, 0, 4] = float("-inf")  # and one that only some do
    return log_probs
