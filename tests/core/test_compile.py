"""Compiled kernels: the values of eager mode, one compilation for all shapes, and the fallbacks."""

import functools
import importlib
import logging
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from . import reference
import torch
from .inputs import members, student_and_teacher

from fairseq_pdd.core import (
    EnsembleStatistics,
    _compile,
    _kernels,
    _rowwise,
    dirichlet_measures,
    ensemble,
    measures,
    reverse_kl_proxy_dirichlet,
    sequence_ensemble_measures,
)


def loss_and_grad(logits, mean, lam):
    logits = logits.detach().requires_grad_()
    loss = reverse_kl_proxy_dirichlet(logits, mean, lam)
    weights = torch.linspace(0.5, 2, loss.numel()).view_as(loss)
    (grad,) = torch.autograd.grad((weights * loss).sum(), logits)
    return loss.detach(), grad


# the package's attribute of that name is a function of it
REVERSE_KL = importlib.import_module("fairseq_pdd.core.reverse_kl")


@pytest.fixture
def compiling(monkeypatch, tmp_path):
    """A process in which every call is worth compiling, on a machine where nothing was compiled;
    the folder of its kernels.
    """
    torch._dynamo.reset()
    # other tests of the same process may have compiled the same functions
    for module in (ensemble, REVERSE_KL, measures):
        for function in vars(module).values():
            if isinstance(function, _rowwise.RowFunction) and function._compiled is not None:
                before = function._compiled
                compiled = _compile.Compiled(function._eager, before._patience, before._at_once)
                monkeypatch.setattr(function, "_compiled", compiled)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv(_compile.SWITCH, "1")
    monkeypatch.setattr(_compile, "MIN_ELEMENTS", 0)
    monkeypatch.setattr(_compile._State, "elements_seen", 0)
    for name in ("announced", "failed"):
        monkeypatch.setattr(_compile._State, name, False)
    return tmp_path / "fairseq_pdd" / "kernels"


@pytest.fixture
def eager(monkeypatch):
    """Calls a function in eager mode."""

    def call(function, *args):
        with monkeypatch.context() as patch:
            patch.setenv(_compile.SWITCH, "0")
            return function(*args)

    return call


def messages(caplog, level):
    return [
        r.getMessage()
        for r in caplog.records
        if r.levelname == level and r.name.startswith("fairseq_pdd")
    ]


def kernels(folder):
    """Names of what is kept."""
    return sorted(path.name.rpartition("-")[0] for path in folder.iterdir())


def never(*args, **kwargs):
    raise AssertionError("this is not to be called")


def test_compiled_equals_eager_for_every_shape_with_one_compilation(
    compiling, eager, caplog, capfd, monkeypatch
):
    """One long test, since compiling is what takes the time."""
    caplog.set_level(logging.INFO, logger=_compile.__name__)
    monkeypatch.setattr(_rowwise, "_COMPILED_CHUNK_ELEMENTS", 3000)
    # a matrix; with leading dimensions; one class over; other vocabularies; in several chunks,
    # of which the last has one row; as many rows as classes; no row and a single one
    for shape in ((7, 60), (2, 5, 60), (7, 61), (3, 1000), (10, 1000), (16, 16), (0, 9), (1, 60)):
        inputs = student_and_teacher(*shape)
        compiled, expected = loss_and_grad(*inputs), eager(loss_and_grad, *inputs)
        assert torch.allclose(compiled[0], expected[0], rtol=2e-6, atol=2e-6)
        assert torch.allclose(compiled[1], expected[1], rtol=1e-5, atol=2e-6)
    assert kernels(compiling) == ["classes", "totals"]

    # strided, half precision and large logits need no other kernel either
    monkeypatch.setattr(_kernels, "build", never)
    wide, mean, lam = student_and_teacher(6, 90)
    for logits in (wide[:, :60], wide[:, :60].bfloat16(), wide[:, :60] * 20):
        inputs = (logits, mean[:, :60], lam)
        compiled, expected = loss_and_grad(*inputs), eager(loss_and_grad, *inputs)
        assert compiled[1].dtype == logits.dtype
        assert torch.allclose(compiled[0], expected[0], rtol=2e-6, atol=2e-6)
        assert torch.allclose(compiled[1].float(), expected[1].float(), rtol=1e-2, atol=2e-6)

    # nor is exactness lost
    logits, mean = torch.linspace(-60, 60, 50), torch.softmax(torch.randn(50), dim=-1)
    rows = [t.expand(2, *t.shape) for t in (logits, mean, torch.tensor(0.1))]
    loss, grad = loss_and_grad(*rows)
    truth = reference.reverse_kl(logits, mean, torch.tensor(0.1))
    assert reference.relative_error(loss[0], truth.loss, truth.scale) <= 2e-6
    assert reference.max_norm_error(grad[0] / 0.5, truth.grad) <= 2e-6

    start, *compiled = messages(caplog, "INFO")
    assert "FAIRSEQ_PDD_COMPILE=0" in start
    assert str(compiling) in start
    assert len(compiled) == 2
    assert all(" s" in text for text in compiled)
    assert not messages(caplog, "WARNING")
    assert capfd.readouterr().out == ""


NEW_PROCESS = """
import sys
import torch
from fairseq_pdd.core import dirichlet_measures
torch.save(dirichlet_measures(torch.load(sys.argv[1])), sys.argv[2])
assert "torch._inductor" not in sys.modules, "the compiler was imported"
"""


def test_later_processes_have_measures_compiled_at_once(compiling, eager, tmp_path):
    logits = torch.randn(6, 70) * 5
    first = dirichlet_measures(logits)
    for ours, expected in zip(first, eager(dirichlet_measures, logits)):
        assert torch.allclose(ours, expected, rtol=1e-5, atol=2e-6)
    assert kernels(compiling) == ["class_sums"]
    torch.save(logits, tmp_path / "logits.pt")
    command = [sys.executable, "-c", NEW_PROCESS, tmp_path / "logits.pt", tmp_path / "later.pt"]
    subprocess.run(command, check=True)
    later = torch.load(tmp_path / "later.pt", weights_only=False)
    assert all(torch.equal(a, b) for a, b in zip(first, later))
    assert not all(torch.equal(a, b) for a, b in zip(eager(dirichlet_measures, logits), later))


def test_statistics_compile_once_for_any_number_of_members(compiling, eager):
    def measures(log_probs):
        statistics = EnsembleStatistics()
        for member in log_probs:
            statistics.update(member)
        return statistics.measures()

    for shape in ((3, 6, 70), (4, 6, 70), (10, 5, 90)):
        log_probs = some_impossible(members(*shape))
        for a, b in zip(measures(log_probs), eager(measures, log_probs)):
            assert torch.allclose(a, b, rtol=1e-5, atol=2e-6)
    assert kernels(compiling) == ["add_member", "entropy_and_rmi"]
    assert not _compile._State.failed


def test_measures_of_a_sequence_ensemble_compile_too(compiling, eager):
    # of as many members as classes, too
    for shape in ((3, 6, 70), (3, 5, 90), (3, 4, 3)):
        log_probs, log_weights = members(*shape), torch.randn(shape[:2]) * 5
        if shape[2] > 3:
            some_impossible(log_probs)
        args = log_probs.unbind(0), log_weights
        ours, expected = (
            sequence_ensemble_measures(*args),
            eager(sequence_ensemble_measures, *args),
        )
        for a, b in zip(sum(ours, ()), sum(expected, ())):
            assert torch.allclose(a, b, rtol=1e-5, atol=2e-6)
    assert kernels(compiling) == ["of_members"]
    assert not _compile._State.failed


def some_impossible(log_probs):
    log_probs[:, :, 3] = float("-inf")  # a class that no member allows
    log_probs[1, 0, 4] = float("-inf")  # and one that only some do
    return log_probs


def double(x, grad, factor):
    """A function for kernels that are compiled soon."""
    grad.copy_(x)
    return factor * x.sum(-1)


def compiled_double(at_once=True):
    return _compile.Compiled(double, patience=1, at_once=at_once)


def call_double(compiled, x):
    """Whether its kernel was used, after its result was checked."""
    kernel, grad = compiled.kernel(x, torch.zeros_like(x), factor=2.0), torch.zeros_like(x)
    result = (kernel or functools.partial(double, factor=2.0))(x, grad)
    assert torch.allclose(result, 2 * x.sum(-1))
    assert torch.equal(grad, x)
    return kernel is not None and not _compile._State.failed


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A cache with the kernel of ``double``."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.setattr(_compile, "MIN_ELEMENTS", 0)
        patch.setenv(_compile.SWITCH, "1")
        assert call_double(compiled_double(), torch.rand(3, 4))
    return folder


@pytest.fixture
def another_run(kept, compiling, monkeypatch, tmp_path):
    """A short run after the one of ``kept``, with a copy of its cache; the kernel's path."""
    shutil.copytree(kept, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(torch, "compile", never)
    monkeypatch.setattr(_compile, "MIN_ELEMENTS", 1 << 40)
    (path,) = compiling.iterdir()
    return path


def test_a_short_run_has_what_was_kept_and_does_not_compile(another_run, monkeypatch):
    compiled = compiled_double()
    assert call_double(compiled, torch.rand(5, 6))
    assert not call_double(compiled, torch.rand(5, 6).double())
    monkeypatch.setattr(_kernels, "_environment", lambda: "another machine")
    assert not call_double(compiled_double(), torch.rand(5, 6))


def test_a_training_changes_to_kernels_after_the_same_work_whether_they_are_kept_or_not(
    another_run, kept, monkeypatch
):
    monkeypatch.setattr(_compile, "MIN_ELEMENTS", 100)
    monkeypatch.setattr(_kernels, "_compile", copy_of(kept))

    def changes():
        monkeypatch.setattr(_compile._State, "elements_seen", 0)
        compiled = compiled_double(at_once=False)
        return [call_double(compiled, torch.rand(5, 6)) for _ in range(5)]

    later = changes()
    another_run.unlink()
    assert later == changes() == [False, False, False, True, True]


def test_what_another_process_compiled_meanwhile_is_not_compiled_again(
    another_run, monkeypatch, tmp_path
):
    elsewhere = another_run.rename(tmp_path / another_run.name)
    monkeypatch.setattr(_kernels, "build", never)
    compiled = compiled_double()
    assert not call_double(compiled, torch.rand(5, 6))
    elsewhere.rename(another_run)
    monkeypatch.setattr(_compile, "MIN_ELEMENTS", 0)
    assert call_double(compiled, torch.rand(5, 6))


def test_a_kernel_is_for_this_code_this_pytorch_and_this_processor(monkeypatch, tmp_path):
    environment = _kernels._environment.__wrapped__
    ours = environment()
    assert torch.__version__ in ours
    assert platform.machine() in ours
    if Path("/proc/cpuinfo").exists():  # of all that is said there, the flags are the longest
        assert max(Path("/proc/cpuinfo").read_text().splitlines(), key=len) in ours
    core = Path(_kernels.__file__).parent
    shutil.copytree(core, tmp_path / "core")
    monkeypatch.setattr(_kernels, "__file__", str(tmp_path / "core" / "_kernels.py"))
    assert environment() == ours
    with open(tmp_path / "core" / "special.py", "a") as file:
        file.write("# changed")
    assert environment() != ours


def copy_of(cache):
    """What compiles by copying from there."""
    (path,) = cache.glob("fairseq_pdd/kernels/*")
    return lambda *_, options: shutil.copy(path, options["aot_inductor.output_path"])


def test_a_broken_kernel_is_named_and_replaced_by_a_long_run(
    another_run, kept, monkeypatch, caplog
):
    another_run.write_bytes(b"no library")
    assert not call_double(compiled_double(), torch.rand(5, 6))
    (warning,) = messages(caplog, "WARNING")
    assert str(another_run) in warning
    monkeypatch.setattr(_compile, "MIN_ELEMENTS", 0)
    monkeypatch.setattr(_kernels, "_compile", copy_of(kept))
    assert call_double(compiled_double(), torch.rand(5, 6))
    assert another_run.read_bytes() != b"no library"
    assert [path.name for path in another_run.parent.iterdir()] == [another_run.name]


def test_nothing_is_run_from_a_folder_that_others_can_write(another_run, caplog):
    another_run.parent.chmod(0o770)
    assert not call_double(compiled_double(), torch.rand(5, 6))
    (warning,) = messages(caplog, "WARNING")
    assert str(another_run.parent) in warning


def test_a_run_that_can_not_keep_its_kernels_has_them_itself(compiling, kept, monkeypatch, caplog):
    monkeypatch.setattr(_kernels, "_compile", copy_of(kept))
    monkeypatch.setattr(torch, "compile", never)
    compiling.parent.write_text("where the folder should be")
    assert call_double(compiled_double(), torch.rand(5, 6))
    assert [str(compiling) in text for text in messages(caplog, "WARNING")] == [True]


def broken(*args, **kwargs):
    raise RuntimeError("no C++ compiler found\nwith a long explanation")


def test_what_can_not_be_kept_is_compiled_for_the_run(compiling, eager, monkeypatch, caplog):
    """As on a GPU, or with a PyTorch that has no AOTInductor."""
    from torch._dynamo.utils import counters

    counters.clear()
    caplog.set_level(logging.INFO, logger=_compile.__name__)
    monkeypatch.setattr(_kernels, "build", broken)
    for shape in ((6, 70), (3, 90), (1, 90), (5, 5)):
        logits = torch.randn(shape) * 5
        for ours, expected in zip(dirichlet_measures(logits), eager(dirichlet_measures, logits)):
            assert torch.allclose(ours, expected, rtol=1e-5, atol=2e-6)
    assert counters["stats"]["unique_graphs"] == 1
    assert "no C++ compiler found" in messages(caplog, "INFO")[1]
    assert not messages(caplog, "WARNING")


def test_without_a_compiler_eager_mode_goes_on_and_one_line_says_so(
    compiling, eager, caplog, monkeypatch
):
    monkeypatch.setattr(_kernels, "build", broken)
    monkeypatch.setattr(torch, "compile", lambda *args, **kwargs: broken)
    monkeypatch.setattr(_rowwise, "_COMPILED_CHUNK_ELEMENTS", 120)  # in several chunks
    inputs = student_and_teacher(7, 60)
    for _ in range(3):
        for ours, expected in zip(loss_and_grad(*inputs), eager(loss_and_grad, *inputs)):
            assert torch.equal(ours, expected)
    (warning,) = messages(caplog, "WARNING")
    assert warning.endswith("compiling failed: no C++ compiler found")


def test_a_compiled_kernel_that_fails_later_is_left_as_well(compiling, monkeypatch, caplog):
    calls = []

    def fail_at_the_third_call(x, grad):
        calls.append(x)
        if len(calls) > 2:
            raise RuntimeError("recompile_limit reached")
        return double(x, grad, factor=2.0)

    monkeypatch.setattr(_kernels, "build", lambda *args: fail_at_the_third_call)
    compiled = compiled_double()
    assert [call_double(compiled, torch.ones(2, 3)) for _ in range(5)] == 2 * [True] + 3 * [False]
    assert len(calls) == 3
    (warning,) = messages(caplog, "WARNING")
    assert "recompile_limit reached" in warning


def test_little_work_is_not_worth_compiling(compiling, monkeypatch):
    monkeypatch.setattr(_compile, "MIN_ELEMENTS", 1000)
    logits = torch.zeros(4, 100)
    assert [_compile.is_worthwhile(logits) for _ in range(4)] == [False, False, True, True]
    assert [_compile.is_worthwhile(logits, 2) for _ in range(2)] == [True, True]
    monkeypatch.setattr(_compile._State, "elements_seen", 800)
    assert [_compile.is_worthwhile(logits, 2) for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize("reason", ["switched off", "float64", "other device", "failed before"])
def test_what_is_never_compiled(compiling, monkeypatch, reason):
    logits = torch.zeros(4, 100)
    compiled = compiled_double()
    assert compiled.kernel(logits, logits, factor=2.0)
    if reason == "switched off":
        monkeypatch.setenv(_compile.SWITCH, "0")
    if reason == "failed before":
        monkeypatch.setattr(_compile._State, "failed", True)
    if reason == "float64":
        logits = logits.double()
    if reason == "other device":
        logits = logits.to("meta")
    assert compiled.kernel(logits, logits, factor=2.0) is None
