"""The losses of a top-k of the mean equal those of the dense mean that the top-k represents."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fairseq_pdd.core import (
    TopKProbs,
    _rowwise,
    forward_kl_proxy_dirichlet,
    mean_kl,
    reverse_kl_proxy_dirichlet,
)

from .inputs import student_and_teacher

LOSSES = {
    "reverse": reverse_kl_proxy_dirichlet,
    "forward": forward_kl_proxy_dirichlet,
    "mean": lambda logits, mean, lam, *args: mean_kl(logits, mean),
}


def loss_and_grad(name, logits, mean, lam, *args):
    logits = logits.detach().requires_grad_()
    loss = LOSSES[name](logits, mean, lam, *args)
    weights = torch.linspace(0.5, 2, loss.numel()).view_as(loss)
    (grad,) = torch.autograd.grad((weights * loss).sum(), logits)
    return loss.detach(), grad


def spread(mean, k):
    """Compute by loops the dense mean that a top-k represents."""
    result = torch.empty_like(mean).reshape(-1, mean.shape[-1])
    for row, source in zip(result, mean.reshape(-1, mean.shape[-1])):
        order = source.argsort(descending=True).tolist()
        others = order[k:]
        row[order[:k]] = source[order[:k]]
        if others:
            row[others] = sum(source[i].item() for i in others) / len(others)
    return result.view_as(mean)


@pytest.mark.parametrize("k", [1, 3, 39, 40])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_those_of_the_mean_with_the_rest_spread(name, k):
    logits, mean, lam = student_and_teacher(2, 5, 40)
    listed = TopKProbs.of(mean, k)
    dense = listed.dense(40)
    torch.testing.assert_close(dense, spread(mean, k), rtol=1e-5, atol=1e-8)
    for args in ((), (0.3,)):
        ours, expected = (loss_and_grad(name, logits, m, lam, *args) for m in (listed, dense))
        for a, b in zip(ours, expected):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_all_classes_listed_is_the_dense_loss(name):
    logits, mean, lam = student_and_teacher(6, 30)
    ours = loss_and_grad(name, logits, TopKProbs.of(mean, 1000), lam)
    for a, b in zip(ours, loss_and_grad(name, logits, mean, lam)):
        torch.testing.assert_close(a, b, rtol=2e-6, atol=1e-6)


@given(st.integers(1, 60), st.floats(0.2, 40), st.integers(0, 1000))
def test_listed_and_remaining_mass_sum_to_one(k, sharpness, seed):
    torch.manual_seed(seed)
    mean = torch.softmax(torch.randn(4, 50) * sharpness, dim=-1)
    listed = TopKProbs.of(mean, k)
    assert listed.probs.shape == listed.classes.shape == (4, min(k, 50))
    torch.testing.assert_close(listed.dense(50).sum(-1), torch.ones(4))
    assert (listed.rest >= 0).all()
    # the rest is a sum and no difference, so that it is exact even if small
    truth = mean.double().sort(descending=True).values[:, k:].sum(-1)
    torch.testing.assert_close(listed.rest.double(), truth, rtol=1e-5, atol=0)


def test_zero_gradient_where_the_student_is_the_proxy():
    _, mean, lam = student_and_teacher(3, 200)
    listed = TopKProbs.of(mean, 8)
    logits = (listed.dense(200) / lam.unsqueeze(-1)).log()
    _, grad = loss_and_grad("reverse", logits, listed, lam)
    assert grad.abs().max() < 1e-6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_logits(name, dtype):
    logits, mean, lam = student_and_teacher(5, 40)
    listed, logits = TopKProbs.of(mean, 7), logits.to(dtype)
    loss, grad = loss_and_grad(name, logits, listed, lam)
    exact_loss, exact_grad = loss_and_grad(name, logits.float(), listed, lam)
    assert grad.dtype == dtype
    assert torch.equal(loss, exact_loss)
    # the forward KL's gradient may exceed float16's range; fairseq's loss scaling handles this
    torch.testing.assert_close(grad, exact_grad.to(dtype), rtol=1e-2, atol=1e-6)


def test_large_logits_and_one_hot_means_give_the_dense_loss():
    logits = torch.tensor([[85.0, -85.0, 0.0, 3.0], [-60.0, 60.0, 1.0, 0.0]])
    mean = torch.tensor([[1.0, 0, 0, 0], [0, 0, 1.0, 0]])
    listed, lam = TopKProbs.of(mean, 1), torch.zeros(2)
    for name in LOSSES:
        loss, grad = loss_and_grad(name, logits, listed, lam)
        assert torch.isfinite(loss).all()
        assert torch.isfinite(grad).all()
        dense_loss, dense_grad = loss_and_grad(name, logits.double(), mean.double(), lam.double())
        torch.testing.assert_close(loss.double(), dense_loss, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(grad.double(), dense_grad, rtol=1e-5, atol=1e-5)


def test_chunks_do_not_matter(monkeypatch):
    inputs = student_and_teacher(7, 90)
    inputs = (inputs[0], TopKProbs.of(inputs[1], 5), inputs[2])
    whole = [loss_and_grad(name, *inputs) for name in LOSSES]
    monkeypatch.setitem(_rowwise._CHUNK_ELEMENTS, "cpu", 200)
    for name, expected in zip(LOSSES, whole):
        for a, b in zip(loss_and_grad(name, *inputs), expected):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", LOSSES)
def test_wrong_shapes_are_refused(name):
    logits, mean, lam = student_and_teacher(4, 20)
    good = TopKProbs.of(mean, 3)
    for bad, message in (
        (good._replace(classes=good.classes[:, :2]), "both must be"),
        (good._replace(classes=good.classes.float()), "must be integers"),
        (good._replace(rest=good.rest[:2]), "remaining mass"),
        (TopKProbs(*(t[:2] for t in good)), "top-k probabilities"),
        (TopKProbs.of(torch.softmax(torch.randn(4, 30), -1), 25), "k of 1 to 20"),
    ):
        with pytest.raises(ValueError, match=message):
            LOSSES[name](logits, bad, lam)
    with pytest.raises(ValueError, match="at least 1"):
        TopKProbs.of(mean, 0)
