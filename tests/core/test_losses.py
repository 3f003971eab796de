"""Properties of all four losses: shapes, dtypes, derivatives, chunks, bad arguments."""

import math

import pytest
import torch

from fairseq_pdd.core import (
    _rowwise,
    dirichlet_nll,
    forward_kl_proxy_dirichlet,
    mean_kl,
    reverse_kl_proxy_dirichlet,
)

from .inputs import members, student_and_teacher


def nll_of_one_member(logits, mean, lam, offset=1.0):
    return dirichlet_nll(logits, mean.clamp(min=1e-30).log(), offset)


def kl_of_mean(logits, mean, lam, offset=1.0):
    return mean_kl(logits, mean)


LOSSES = {
    "reverse_kl": reverse_kl_proxy_dirichlet,
    "forward_kl": forward_kl_proxy_dirichlet,
    "dirichlet_nll": nll_of_one_member,
    "mean_kl": kl_of_mean,
}
all_losses = pytest.mark.parametrize("loss_fn", LOSSES.values(), ids=LOSSES)


def value_and_grad(loss_fn, logits, mean, lam):
    logits = logits.detach().requires_grad_()
    loss = loss_fn(logits, mean, lam)
    (grad,) = torch.autograd.grad(loss.sum(), logits)
    return loss.detach(), grad


@all_losses
@pytest.mark.parametrize("offset", [0.3, 1.0])
def test_gradient_is_the_derivative(loss_fn, offset):
    logits, mean, lam = student_and_teacher(3, 7, dtype=torch.float64)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: loss_fn(z, mean, lam, offset), logits)


@all_losses
def test_gradient_is_scaled_by_the_incoming_gradient(loss_fn):
    logits, mean, lam = student_and_teacher(5, 9)
    weights = torch.tensor([0.0, 1.0, -2.0, 0.5, 1e-3])
    _, grad = value_and_grad(loss_fn, logits, mean, lam)
    _, weighted = value_and_grad(lambda *args: loss_fn(*args) * weights, logits, mean, lam)
    assert torch.allclose(weighted, grad * weights[:, None], rtol=1e-6)


@all_losses
@pytest.mark.parametrize("scales", [(2, 1), (1, 2), (1, 1)])
def test_backward_can_be_repeated_on_a_kept_graph(loss_fn, scales):
    logits, mean, lam = student_and_teacher(5, 9)
    logits.requires_grad_()
    loss = loss_fn(logits, mean, lam)
    first, second = (
        torch.autograd.grad((scale * loss).sum(), logits, retain_graph=True)[0] for scale in scales
    )
    assert torch.allclose(first * scales[1], second * scales[0])


@all_losses
def test_gradient_is_the_same_in_new_memory(loss_fn, monkeypatch):
    """PyTorch versions that do not report retain_graph get new memory."""
    inputs = student_and_teacher(5, 9)
    _, expected = value_and_grad(loss_fn, *inputs)
    monkeypatch.setattr(_rowwise, "_is_graph_kept", lambda: True)
    assert torch.equal(value_and_grad(loss_fn, *inputs)[1], expected)


@all_losses
def test_targets_are_constants(loss_fn):
    logits, mean, lam = student_and_teacher(4, 6)
    mean.requires_grad_()
    lam.requires_grad_()
    loss_fn(logits.requires_grad_(), mean, lam).sum().backward()
    assert logits.grad is not None
    assert mean.grad is None
    assert lam.grad is None
    assert not loss_fn(logits.detach(), mean, lam).requires_grad


@all_losses
@pytest.mark.parametrize("lead", [(), (1,), (6,), (2, 3), (1, 2, 3)])
def test_leading_dimensions_are_free(loss_fn, lead):
    logits, mean, lam = student_and_teacher(6, 9)
    rows = math.prod(lead)
    loss, grad = value_and_grad(loss_fn, logits[:rows], mean[:rows], lam[:rows])
    shaped_loss, shaped_grad = value_and_grad(
        loss_fn,
        logits[:rows].reshape(*lead, 9),
        mean[:rows].reshape(*lead, 9),
        lam[:rows].reshape(lead),
    )
    assert shaped_loss.shape == lead
    assert torch.equal(shaped_loss.reshape(-1), loss)
    assert torch.equal(shaped_grad.reshape(-1, 9), grad)


@all_losses
def test_no_rows(loss_fn):
    loss, grad = value_and_grad(loss_fn, *student_and_teacher(2, 0, 5))
    assert loss.shape == (2, 0)
    assert grad.shape == (2, 0, 5)


@all_losses
def test_memory_layout_does_not_matter(loss_fn):
    logits, mean, lam = student_and_teacher(4, 6, 9)
    loss, grad = value_and_grad(loss_fn, logits, mean, lam)
    transposed = [t.transpose(0, 1).contiguous().transpose(0, 1) for t in (logits, mean, lam)]
    wide = [torch.stack([t, t], dim=-1)[..., 0] for t in (logits, mean, lam)]
    for other in (transposed, wide):
        assert not other[0].is_contiguous()
        other_loss, other_grad = value_and_grad(loss_fn, *other)
        assert torch.allclose(loss, other_loss, rtol=1e-6)
        assert torch.allclose(grad, other_grad, rtol=1e-6, atol=1e-7)


@all_losses
@pytest.mark.parametrize("chunk_elements", [1, 27, 10**9])
def test_chunks_do_not_matter(loss_fn, chunk_elements, monkeypatch):
    logits, mean, lam = student_and_teacher(7, 9)
    loss, grad = value_and_grad(loss_fn, logits, mean, lam)
    monkeypatch.setattr(_rowwise, "_CHUNK_ELEMENTS", {"cpu": chunk_elements})
    chunked_loss, chunked_grad = value_and_grad(loss_fn, logits, mean, lam)
    assert torch.allclose(loss, chunked_loss, rtol=1e-6)
    assert torch.allclose(grad, chunked_grad, rtol=1e-6, atol=1e-7)


@all_losses
def test_value_is_the_same_without_a_gradient(loss_fn):
    logits, mean, lam = student_and_teacher(3, 9)
    with_grad, _ = value_and_grad(loss_fn, logits, mean, lam)
    assert torch.equal(loss_fn(logits, mean, lam), with_grad)
    with torch.inference_mode():
        assert torch.equal(loss_fn(logits, mean, lam), with_grad)


@all_losses
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes(loss_fn, dtype):
    logits, mean, lam = student_and_teacher(3, 9)
    loss, grad = value_and_grad(loss_fn, logits.to(dtype), mean, lam)
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert grad.dtype == dtype


def test_errors_name_bad_logits():
    _, mean, lam = student_and_teacher(3, 5)
    for loss_fn in LOSSES.values():
        with pytest.raises(ValueError, match=r"logits must be floating point, not torch\.int64"):
            loss_fn(torch.ones(3, 5, dtype=torch.long), mean, lam)
        with pytest.raises(ValueError, match=r"logits need at least two classes.*\(3, 1\)"):
            loss_fn(torch.ones(3, 1), torch.ones(3, 1), lam)
        with pytest.raises(ValueError, match="logits need at least two classes"):
            loss_fn(torch.tensor(1.0), torch.tensor(1.0), lam)


def test_errors_name_bad_targets():
    logits, mean, lam = student_and_teacher(3, 5)
    for loss_fn in (reverse_kl_proxy_dirichlet, forward_kl_proxy_dirichlet):
        with pytest.raises(ValueError, match=r"mean_probs .* \(3, 5\), not \(3, 4\)"):
            loss_fn(logits, mean[:, :4], lam)
        with pytest.raises(ValueError, match=r"inverse_precision .* \(3,\), not \(3, 1\)"):
            loss_fn(logits, mean, lam[:, None])
    with pytest.raises(ValueError, match="mean_probs"):
        mean_kl(logits, mean[:2])
    with pytest.raises(ValueError, match="mean_log_probs"):
        dirichlet_nll(logits, members(2, 5))


@pytest.mark.parametrize("offset", [0.0, -1.0, math.inf, math.nan])
def test_the_error_names_a_bad_offset(offset):
    logits, mean, lam = student_and_teacher(3, 5)
    for name in ("reverse_kl", "forward_kl", "dirichlet_nll"):
        with pytest.raises(ValueError, match="offset must be positive and finite"):
            LOSSES[name](logits, mean, lam, offset)


@pytest.mark.parametrize("max_precision", [0.0, -1.0, math.nan])
def test_the_error_names_a_bad_max_precision(max_precision):
    with pytest.raises(ValueError, match="max_precision must be positive"):
        forward_kl_proxy_dirichlet(*student_and_teacher(3, 5), max_precision=max_precision)
