"""The baselines: forward KL to the proxy, Dirichlet likelihood, KL to the mean."""

import pytest
import torch

from fairseq_pdd.core import dirichlet_nll, forward_kl_proxy_dirichlet, mean_kl
from fairseq_pdd.core.forward_kl import DEFAULT_MAX_PRECISION

from . import reference
from .inputs import MEANS, members, student_and_teacher, teacher_mean

OFFSETS = (0.1, 1.0, 2.5)


def value_and_grad(loss_fn, logits, *args, **kwargs):
    logits = logits.detach().requires_grad_()
    loss = loss_fn(logits, *args, **kwargs)
    (grad,) = torch.autograd.grad(loss.sum(), logits)
    return loss.detach(), grad


def assert_same(ours, truth, rtol):
    for a, b in zip(ours, truth):
        assert torch.allclose(a.double(), b.double(), rtol=rtol, atol=rtol * float(b.abs().max()))


@pytest.mark.parametrize("offset", OFFSETS)
def test_forward_kl_is_that_of_torch_distributions(offset):
    inputs = student_and_teacher(5, 40, dtype=torch.float64)
    truth = value_and_grad(reference.forward_kl_float64, *inputs, offset)
    assert_same(value_and_grad(forward_kl_proxy_dirichlet, *inputs, offset), truth, 1e-9)
    single = [t.float() for t in inputs]
    assert_same(value_and_grad(forward_kl_proxy_dirichlet, *single, offset), truth, 2e-6)


@pytest.mark.parametrize("offset", [0.1, 1.0])
@pytest.mark.parametrize("k", [2, 50])
def test_forward_kl_exact(k, offset):
    for scale in (1.0, 8.0):
        for lam in (1e-4, 0.1):
            logits = (torch.rand(k) * 2 - 1) * scale
            mean = teacher_mean("random", k)
            loss, grad = value_and_grad(
                forward_kl_proxy_dirichlet, logits, mean, torch.tensor(lam), offset
            )
            truth = reference.forward_kl(logits, mean, torch.tensor(lam), offset)
            assert reference.relative_error(loss, truth.loss, truth.scale) < 1e-6
            assert reference.max_norm_error(grad, truth.grad) < 1e-6


def test_forward_kl_vanishes_at_the_proxy():
    mean, lam = teacher_mean("random", 3, 20).double(), torch.tensor([1e-3, 0.1, 1.0]).double()
    at_proxy = mean.log() - lam.log().unsqueeze(-1)
    loss, grad = value_and_grad(forward_kl_proxy_dirichlet, at_proxy, mean, lam)
    assert loss.abs().max() < 1e-9
    assert grad.abs().max() < 1e-9
    moved = value_and_grad(forward_kl_proxy_dirichlet, at_proxy + 0.1, mean, lam)[0]
    assert (moved > 1e-4).all()


def test_forward_kl_caps_the_precision_of_members_that_agree():
    logits, mean, _ = student_and_teacher(4, 20)
    capped = forward_kl_proxy_dirichlet(logits, mean, torch.zeros(4), max_precision=1e3)
    equal = forward_kl_proxy_dirichlet(logits, mean, torch.full((4,), 1e-3), max_precision=1e6)
    assert torch.isfinite(capped).all()
    assert torch.allclose(capped, equal)
    default = forward_kl_proxy_dirichlet(logits, mean, torch.zeros(4))
    explicit = forward_kl_proxy_dirichlet(
        logits, mean, torch.zeros(4), max_precision=DEFAULT_MAX_PRECISION
    )
    assert torch.equal(default, explicit)


@pytest.mark.parametrize("offset", OFFSETS)
def test_dirichlet_nll_is_the_mean_over_members(offset):
    logits, _, _ = student_and_teacher(5, 40, dtype=torch.float64)
    log_probs = members(6, 5, 40, dtype=torch.float64)
    truth = value_and_grad(reference.dirichlet_nll_float64, logits, log_probs.exp(), offset)
    mean_log = log_probs.mean(0)
    assert_same(value_and_grad(dirichlet_nll, logits, mean_log, offset), truth, 1e-10)
    ours = value_and_grad(dirichlet_nll, logits.float(), mean_log.float(), offset)
    assert_same(ours, truth, 2e-6)


@pytest.mark.parametrize("offset", [0.1, 1.0])
@pytest.mark.parametrize("k", [2, 50])
def test_dirichlet_nll_exact(k, offset):
    for scale in (1.0, 8.0, 20.0):
        logits, mean_log = (torch.rand(k) * 2 - 1) * scale, members(3, k).mean(0)
        loss, grad = value_and_grad(dirichlet_nll, logits, mean_log, offset)
        truth = reference.dirichlet_nll(logits, mean_log, offset)
        assert reference.relative_error(loss, truth.loss, truth.scale) < 1e-6
        assert reference.max_norm_error(grad, truth.grad) < 1e-6


def test_dirichlet_nll_ignores_a_class_that_student_and_members_mask():
    """Such a class has exponent 0 in the density (offset 1)."""
    inf = float("inf")
    logits, mean_log = torch.tensor([1.0, -inf, 0.5]), torch.tensor([-0.5, -inf, -1.0])
    loss, grad = value_and_grad(dirichlet_nll, logits, mean_log)
    finite = reference.dirichlet_nll(logits, torch.tensor([-0.5, 0.0, -1.0]))
    assert float(loss) == pytest.approx(float(finite.loss), rel=1e-6)
    assert grad[1] == 0
    assert reference.max_norm_error(grad, finite.grad) < 1e-6


@pytest.mark.parametrize("kind", MEANS)
def test_mean_kl_is_that_of_autograd(kind):
    logits = torch.randn(5, 40) * 8
    mean = teacher_mean(kind, 5, 40)
    truth = value_and_grad(reference.mean_kl_float64, logits.double(), mean.double())
    assert_same(value_and_grad(mean_kl, logits, mean), truth, 2e-6)
    double = value_and_grad(mean_kl, logits.double(), mean.double())
    assert_same(double, truth, 1e-12)


def test_mean_kl_of_a_one_hot_mean_is_the_cross_entropy():
    logits, index = torch.randn(5, 40) * 8, torch.arange(5)
    mean = torch.nn.functional.one_hot(index, 40).float()
    assert torch.allclose(
        mean_kl(logits, mean), torch.nn.functional.cross_entropy(logits, index, reduction="none")
    )


def test_mean_kl_vanishes_for_the_mean_and_allows_masked_classes():
    mean = teacher_mean("random", 3, 20)
    assert mean_kl(mean.log(), mean).abs().max() < 1e-6
    masked = torch.tensor([0.5, 0.5, 0.0])
    loss, grad = value_and_grad(mean_kl, torch.tensor([1.0, 1.0, float("-inf")]), masked)
    assert abs(float(loss)) < 1e-6
    assert torch.allclose(grad, torch.zeros(3), atol=1e-7)


@pytest.mark.parametrize("name", ["forward_kl", "dirichlet_nll"])
def test_large_logits_exact(name):
    logits = torch.tensor([85.0, 0.0, -85.0, 84.0])
    if name == "forward_kl":
        mean, lam = torch.tensor([1.0, 0.0, 0.0, 0.0]), torch.tensor(1e-6)
        loss, grad = value_and_grad(forward_kl_proxy_dirichlet, logits, mean, lam)
        truth = reference.forward_kl(logits, mean, lam)
    else:
        mean_log = members(4)
        loss, grad = value_and_grad(dirichlet_nll, logits, mean_log)
        truth = reference.dirichlet_nll(logits, mean_log)
    assert reference.relative_error(loss, truth.loss, truth.scale) < 1e-6
    assert reference.max_norm_error(grad, truth.grad) < 1e-6
