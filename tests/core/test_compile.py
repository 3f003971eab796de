"""Compilation of the loss: the values of eager mode, few compilations, and the fallbacks."""

import importlib
import logging

import pytest
import torch
from torch._dynamo.utils import counters

from fairseq_pdd.core import TopKProbs, _compile, _rowwise, reverse_kl_proxy_dirichlet

from . import reference
from .inputs import student_and_teacher

# the package's attribute of that name is a function of it
REVERSE_KL = importlib.import_module("fairseq_pdd.core.reverse_kl")


TOTALS, CLASSES = "_totals", "_classes"


def loss_and_grad(logits, mean, lam, **options):
    logits = logits.detach().requires_grad_()
    loss = reverse_kl_proxy_dirichlet(logits, mean, lam, **options)
    weights = torch.linspace(0.5, 2, loss.numel()).view_as(loss)
    (grad,) = torch.autograd.grad((weights * loss).sum(), logits)
    return loss.detach(), grad


def eager(*args):
    return loss_and_grad(*args, compiled=False)


@pytest.fixture
def compiling(monkeypatch):
    """A process that has compiled nothing yet and in which compilation is switched on."""
    torch._dynamo.reset()
    counters.clear()
    for name in ("_totals", "_classes", "_listed"):
        function = getattr(REVERSE_KL, name)
        monkeypatch.setattr(function, "_compiled", _compile.Compiled(function._function))
    monkeypatch.setenv(_compile.SWITCH, "1")
    monkeypatch.setattr(_compile._State, "failed", False)


def messages(caplog, level):
    return [
        r.getMessage()
        for r in caplog.records
        if r.levelname == level and r.name.startswith("fairseq_pdd")
    ]


def test_compiled_equals_eager_for_every_shape_with_one_compilation(compiling, caplog, capfd):
    """This is one long test, since compilation takes most of its time."""
    caplog.set_level(logging.INFO, logger=_compile.__name__)
    # a matrix; with leading dimensions; one class more; other vocabularies; as many rows as
    # classes; no row and a single one
    for shape in ((7, 60), (2, 5, 60), (7, 61), (3, 1000), (10, 1000), (16, 16), (0, 9), (1, 60)):
        inputs = student_and_teacher(*shape)
        compiled, expected = loss_and_grad(*inputs), eager(*inputs)
        assert torch.allclose(compiled[0], expected[0], rtol=2e-6, atol=2e-6)
        assert torch.allclose(compiled[1], expected[1], rtol=1e-5, atol=2e-6)
    assert counters["stats"]["unique_graphs"] == 2  # _totals and _classes

    # neither do strided and large logits need another kernel
    wide, mean, lam = student_and_teacher(6, 90)
    for logits in (wide[:, :60], wide[:, :60] * 20):
        inputs = (logits, mean[:, :60], lam)
        compiled, expected = loss_and_grad(*inputs), eager(*inputs)
        assert torch.allclose(compiled[0], expected[0], rtol=2e-6, atol=2e-6)
        assert torch.allclose(compiled[1], expected[1], rtol=1e-5, atol=2e-6)
    assert counters["stats"]["unique_graphs"] == 2

    # compilation loses no exactness
    logits, mean = torch.linspace(-60, 60, 50), torch.softmax(torch.randn(50), dim=-1)
    rows = [t.expand(2, *t.shape) for t in (logits, mean, torch.tensor(0.1))]
    loss, grad = loss_and_grad(*rows)
    truth = reference.reverse_kl(logits, mean, torch.tensor(0.1))
    assert reference.relative_error(loss[0], truth.loss, truth.scale) <= 2e-6
    assert reference.max_norm_error(grad[0] / 0.5, truth.grad) <= 2e-6

    # the k largest probabilities of a cache
    for shape in ((7, 60), (5, 90)):
        logits, mean, lam = student_and_teacher(*shape)
        inputs = (logits, TopKProbs.of(mean, 8), lam)
        compiled, expected = loss_and_grad(*inputs), eager(*inputs)
        assert torch.allclose(compiled[0], expected[0], rtol=2e-6, atol=2e-6)
        assert torch.allclose(compiled[1], expected[1], rtol=1e-5, atol=2e-6)

    infos = messages(caplog, "INFO")
    assert [text for text in infos if text.startswith("compiling") and _compile.SWITCH in text]
    assert [text for text in infos if text.startswith("compiled") and text.endswith(" s")]
    assert not messages(caplog, "WARNING")
    assert capfd.readouterr().out == ""


class CountingCompiler:
    """A fake of torch.compile that counts calls, and fails from call ``fail_at`` on."""

    def __init__(self, fail_at=None):
        self.calls, self.fail_at = [], fail_at

    def __call__(self, function, **options):
        def run(*args, **constants):
            self.calls.append(function.__name__)
            if self.fail_at is not None and len(self.calls) >= self.fail_at:
                raise RuntimeError("no C++ compiler found\nwith a long explanation")
            return function(*args, **constants)

        return run


@pytest.fixture
def compiler(compiling, monkeypatch):
    fake = CountingCompiler()
    monkeypatch.setattr(torch, "compile", fake)
    return fake


def test_first_training_step_is_compiled(compiler):
    inputs = student_and_teacher(7, 60)
    for ours, expected in zip(loss_and_grad(*inputs), eager(*inputs)):
        assert torch.equal(ours, expected)
    assert compiler.calls == [TOTALS, CLASSES]


@pytest.mark.parametrize(
    "reason",
    ["option", "environment", "no gradient", "inference", "float64", "other device", "failed"],
)
def test_eager_mode(compiler, monkeypatch, reason):
    logits, mean, lam = student_and_teacher(7, 60)
    logits.requires_grad_()
    options = {}
    if reason == "option":
        options["compiled"] = False
    if reason == "environment":
        monkeypatch.setenv(_compile.SWITCH, "0")
    if reason == "no gradient":
        logits = logits.detach()
    if reason == "float64":
        logits, mean, lam = (t.detach().double() for t in (logits, mean, lam))
        logits.requires_grad_()
    if reason == "other device":
        assert not _compile.is_enabled(logits.to("meta"))
        return
    if reason == "failed":
        monkeypatch.setattr(_compile._State, "failed", True)
    with torch.set_grad_enabled(reason != "inference"):
        reverse_kl_proxy_dirichlet(logits, mean, lam, **options)
    assert compiler.calls == []


def test_without_a_compiler_eager_mode_continues_and_one_line_reports_it(
    compiler, caplog, monkeypatch
):
    compiler.fail_at = 1
    monkeypatch.setitem(_rowwise._CHUNK_ELEMENTS, "cpu", 120)  # in several chunks
    inputs = student_and_teacher(7, 60)
    for _ in range(3):
        for ours, expected in zip(loss_and_grad(*inputs), eager(*inputs)):
            assert torch.equal(ours, expected)
    assert compiler.calls == [TOTALS]
    (warning,) = messages(caplog, "WARNING")
    assert warning.endswith("compiling totals failed: no C++ compiler found")


def test_a_compiled_function_that_fails_later_is_given_up(compiler, caplog):
    compiler.fail_at = 4
    inputs = student_and_teacher(7, 60)
    for _ in range(4):
        for ours, expected in zip(loss_and_grad(*inputs), eager(*inputs)):
            assert torch.equal(ours, expected)
    assert compiler.calls == [TOTALS, CLASSES] * 2
    (warning,) = messages(caplog, "WARNING")
    assert "compiling classes failed" in warning
