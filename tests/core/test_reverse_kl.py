"""reverse_kl_proxy_dirichlet against 60-digit arithmetic, and its properties for any values.

The value of this loss crosses zero, where no float has a small relative error. So its error is
measured relative to the sum of the absolute terms of the stable form (``reference.reverse_kl``).
The error of the gradient is measured relative to the largest gradient of its row.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fairseq_pdd.core import reverse_kl_proxy_dirichlet

from . import reference
from .inputs import MEANS, student_and_teacher, teacher_mean

TOLERANCE = 2e-5
LAMBDAS = (0.0, 1e-6, 1e-3, 0.3, 1.0)
OFFSETS = (0.1, 0.5, 1.0)


def loss_and_grad(logits, mean, lam, offset=1.0):
    logits = logits.clone().requires_grad_()
    loss = reverse_kl_proxy_dirichlet(logits, mean, torch.as_tensor(lam), offset)
    loss.sum().backward()
    return loss.detach(), logits.grad


def check_row(logits, mean, lam, offset=1.0, tolerance=TOLERANCE):
    loss, grad = loss_and_grad(logits, mean, torch.tensor(lam, dtype=logits.dtype), offset)
    truth = reference.reverse_kl(logits, mean, torch.tensor(lam, dtype=logits.dtype), offset)
    assert reference.relative_error(loss, truth.loss, truth.scale) <= tolerance
    assert reference.max_norm_error(grad, truth.grad) <= tolerance


@pytest.mark.parametrize("kind", MEANS)
@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("k", [2, 50])
def test_exact(k, offset, kind):
    for scale in (1, 8, 60):
        for lam in LAMBDAS:
            check_row((torch.rand(k) * 2 - 1) * scale, teacher_mean(kind, k), lam, offset)


@pytest.mark.parametrize("kind", MEANS)
@pytest.mark.parametrize(("lam", "offset"), [(1e-3, 1.0), (0.0, 0.1), (1.0, 0.5)])
def test_exact_many_classes(lam, offset, kind):
    logits = torch.linspace(-60, 60, 100)[torch.randint(100, (1000,))]
    check_row(logits, teacher_mean(kind, 1000), lam, offset)


@pytest.mark.parametrize("k", [1000, 40_000])
@pytest.mark.parametrize(("spread", "lam"), [(60.0, 0.2), (6.0, 1e-4), (6.0, 1.0)])
def test_exact_vocabulary(k, spread, lam):
    # 64 different classes: the reference evaluates equal ones once
    index = torch.randint(64, (k,))
    logits = (torch.linspace(-1, 1, 64) * spread)[index]
    mean = teacher_mean("sharp", 64)[torch.randperm(64)][index]
    check_row(logits, mean / mean.sum(), lam)


@pytest.mark.parametrize("kind", ["one-hot", "flat"])
@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("k", [1000, 40_000])
def test_exact_vocabulary_with_extreme_teachers(k, offset, kind):
    logits = torch.linspace(-60, 60, 17)[torch.randint(17, (k,))]
    for lam in (0.0, 1e-3, 1.0):
        check_row(logits, teacher_mean(kind, k), lam, offset)


@pytest.mark.parametrize("lam", [0.0, 1e-4, 1.0])
def test_exact_where_the_sum_of_concentrations_exceeds_float32(lam):
    logits = torch.full((40_000,), 85.0)
    check_row(logits, teacher_mean("one-hot", 40_000), lam)


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("k", [2, 50])
def test_exact_in_float64(k, offset):
    for scale in (1, 8, 60):
        for lam in LAMBDAS:
            logits = (torch.rand(k, dtype=torch.float64) * 2 - 1) * scale
            mean = torch.softmax(torch.randn(k, dtype=torch.float64), dim=-1)
            check_row(logits, mean, lam, offset, tolerance=2e-13)


@pytest.mark.parametrize("offset", [0.1, 1.0, 3.0])
def test_exact_across_all_concentrations(offset):
    """Rows have two equal logits, so that no class is negligible."""
    for z in torch.linspace(-20, 20, 81):
        check_row(torch.stack([z, z]), torch.tensor([0.3, 0.7]), 0.1, offset)


@pytest.mark.parametrize("lam", [0.0, 1e-4, 1.0])
@pytest.mark.parametrize("top", [85.0, 200.0, 500.0])
def test_exact_beyond_the_range_of_exp(top, lam):
    mean = torch.tensor([0.5, 0.3, 0.2, 0.0])
    for logits in ([top, 0.0, -top, 1.0], [top, top, top - 2, top], [-1.0, top, 2.0, 3.0]):
        check_row(torch.tensor(logits), mean, lam)


@pytest.mark.parametrize("level", [-5.0, 0.0, 5.0])
def test_exact_for_an_untrained_student(level):
    """All logits are equal, as at the start of training, so all are the largest."""
    mean = teacher_mean("sharp", 64)[torch.randint(64, (40_000,))]
    check_row(torch.full((40_000,), level), mean / mean.sum(), 1e-3, tolerance=2e-6)


def test_limit_of_huge_logits():
    """Logits around 1e4 have the softmax and the gradient of those around 200; the loss grows."""
    mean, lam = torch.tensor([0.5, 0.3, 0.2, 0.0]), torch.tensor(0.1)
    logits = torch.tensor([0.0, 0.0, -2.0, -1.0])
    loss, grad = loss_and_grad(logits + 200, mean, lam)
    huge_loss, huge_grad = loss_and_grad(logits + 1e4, mean, lam)
    assert torch.equal(grad, huge_grad)
    # h grows by 1/2 for α₀ and each α_k, ψ(α₀) by 1
    growth = float(lam) * (0.5 + 3 - 4 * 0.5) * 9800
    assert float(huge_loss - loss) == pytest.approx(growth, rel=1e-6)


@pytest.mark.parametrize("lam", [1e-3, 1.0])
@pytest.mark.parametrize("total", [-8.0, 1.0, 9.0])
def test_exact_where_the_offset_is_nearly_all_of_the_precision(total, lam):
    logits = torch.full((40_000,), -20.0)
    logits[0] = total
    mean = torch.full((40_000,), 0.5 / 39_999)
    mean[0] = 0.5
    check_row(logits, mean, lam, tolerance=2e-6)


def test_exact_where_all_concentrations_vanish():
    mean = torch.tensor([0.5, 0.3, 0.2])
    check_row(torch.tensor([-85.0, -86.0, -50.0]), mean, 0.1)
    loss, grad = loss_and_grad(torch.tensor([-1e4, -200.0, -150.0]), mean, 0.1)
    truth = reference.reverse_kl([-1e4, -200.0, -150.0], mean, torch.tensor(0.1))
    assert reference.relative_error(loss, truth.loss, truth.scale) <= TOLERANCE
    assert torch.equal(grad, torch.zeros(3))


@pytest.mark.parametrize("lam", [0.0, 0.2])
def test_exact_with_masked_classes(lam):
    logits = torch.tensor([1.0, float("-inf"), 3.0, float("-inf")])
    check_row(logits, torch.tensor([0.4, 0.0, 0.5, 0.1]), lam)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_have_no_error_but_their_rounding(dtype):
    logits, mean, lam = student_and_teacher(6, 40)
    rounded = logits.to(dtype)
    loss, grad = loss_and_grad(rounded, mean, lam)
    exact_loss, exact_grad = loss_and_grad(rounded.float(), mean, lam)
    assert loss.dtype == torch.float32
    assert grad.dtype == dtype
    assert torch.equal(loss, exact_loss)
    assert torch.equal(grad, exact_grad.to(dtype))
    for row in range(6):
        truth = reference.reverse_kl(rounded[row], mean[row], lam[row])
        assert reference.max_norm_error(grad[row], truth.grad) <= torch.finfo(dtype).eps


def test_small_gradients_survive_float16_with_a_scaled_loss():
    """A gradient below float16's range is not 0 if the loss is scaled."""
    logits = torch.tensor([12.0, -9.0, 0.0], dtype=torch.float16, requires_grad=True)
    mean = torch.tensor([1.0, 0.0, 0.0])
    loss = reverse_kl_proxy_dirichlet(logits, mean, torch.tensor(0.0))
    (loss * 2**20).backward()
    truth = reference.reverse_kl(logits.detach(), mean, 0.0)
    assert 0 < abs(truth.grad[1]) < 2**-25
    assert float(logits.grad[1]) == pytest.approx(float(truth.grad[1]) * 2**20, rel=1e-3)


def test_autocast_changes_nothing():
    logits, mean, lam = student_and_teacher(3, 20)
    plain = loss_and_grad(logits, mean, lam)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = loss_and_grad(logits, mean, lam)
    for a, b in zip(plain, under_autocast):
        assert a.dtype == b.dtype == torch.float32
        assert torch.equal(a, b)


@pytest.mark.parametrize("offset", [0.1, 1.0, 2.5])
def test_gradient_vanishes_at_the_proxy(offset):
    """It vanishes at exp(z) = mean / lambda, where the student's prediction is the mean."""
    for lam in (1e-8, 1e-3, 1.0, 30.0):
        mean = torch.softmax(torch.randn(50).double() * 10, dim=-1)
        logits = mean.log() - torch.tensor(lam).double().log()
        _, grad = loss_and_grad(logits, mean, torch.tensor(lam).double(), offset)
        assert grad.abs().max() <= 1e-13
        _, grad = loss_and_grad(logits.float(), mean.float(), torch.tensor(lam), offset)
        assert grad.abs().max() <= 1e-5
        assert torch.allclose(torch.softmax(logits, -1), mean)


@pytest.mark.parametrize("offset", [0.1, 1.0, 2.5])
def test_is_the_kl_divergence_up_to_a_constant(offset):
    """The difference of two students is that of lambda * KL(Dir(alpha) || Dir(beta + offset))."""
    logits, mean, lam = student_and_teacher(4, 30, dtype=torch.float64)
    others = torch.randn_like(logits)
    difference = reverse_kl_proxy_dirichlet(logits, mean, lam, offset) - reverse_kl_proxy_dirichlet(
        others, mean, lam, offset
    )
    truth = reference.reverse_kl_float64(logits, mean, lam, offset) - reference.reverse_kl_float64(
        others, mean, lam, offset
    )
    assert torch.allclose(difference, truth, rtol=1e-10, atol=1e-10)


def test_prior_is_weighted_by_lambda_not_by_the_shifted_precision():
    """A weight of 1/(beta0 + K) would move the optimum; loss and gradient differ from it."""
    k, lam = 50, 0.02
    shifted = lam / (1 + lam * k)
    mean = teacher_mean("random", k).double()
    logits = mean.log() - torch.tensor(lam).double().log() + 0.5
    loss, grad = loss_and_grad(logits, mean, torch.tensor(lam).double())
    truth = reference.reverse_kl(logits, mean, torch.tensor(lam).double())
    variant = reference.reverse_kl(logits, mean, torch.tensor(shifted).double())
    assert reference.relative_error(loss, truth.loss, truth.scale) < 1e-12
    assert reference.relative_error(loss, variant.loss, variant.scale) > 0.1
    assert reference.max_norm_error(grad, truth.grad) < 1e-12
    assert reference.max_norm_error(grad, variant.grad) > 0.1


def test_lambda_zero_is_the_reconstruction_term_alone():
    """No multiple of ln Gamma(K) or other constant is added."""
    logits, mean, _ = student_and_teacher(5, 30, dtype=torch.float64)
    alpha = logits.exp() + 1
    expected = torch.digamma(alpha.sum(-1)) - (mean * torch.digamma(alpha)).sum(-1)
    loss = reverse_kl_proxy_dirichlet(logits, mean, torch.zeros(5))
    assert torch.allclose(loss, expected, rtol=1e-12, atol=0)


def test_tied_largest_logits():
    for ties in (2, 3):
        logits = torch.tensor([4.0] * ties + [1.0, -2.0])
        check_row(logits, teacher_mean("random", ties + 2), 0.1)
        check_row(logits + 40, teacher_mean("one-hot", ties + 2), 0.0)


@settings(max_examples=50)
@given(seed=st.integers(0, 2**16), k=st.integers(2, 40), scale=st.floats(0.1, 60))
def test_order_of_classes_does_not_matter(seed, k, scale):
    generator = torch.Generator().manual_seed(seed)
    logits = (torch.rand(k, generator=generator) * 2 - 1) * scale
    mean = torch.softmax(torch.randn(k, generator=generator) * 4, dim=-1)
    lam = torch.rand((), generator=generator)
    order = torch.randperm(k, generator=generator)
    loss, grad = loss_and_grad(logits, mean, lam)
    other_loss, other_grad = loss_and_grad(logits[order], mean[order], lam)
    spread = (loss.abs() + lam * k * (scale + 1)) * 1e-5
    assert (loss - other_loss).abs() <= spread
    assert (grad[order] - other_grad).abs().max() <= 1e-5 * grad.abs().max() + 1e-30


@settings(max_examples=50)
@given(
    logits=st.lists(st.floats(-1e4, 85, width=32), min_size=2, max_size=20),
    lam=st.floats(0, 1, width=32),
    offset=st.floats(0.1, 1),
    hot=st.integers(0, 1),
)
def test_exact_for_any_values(logits, lam, offset, hot):
    mean = torch.nn.functional.one_hot(torch.tensor(hot), len(logits)).float()
    logits, lam = torch.tensor(logits), torch.tensor(lam)
    loss, grad = loss_and_grad(logits, mean, lam, offset)
    truth = reference.reverse_kl(logits, mean, lam, offset)
    assert reference.relative_error(loss, truth.loss, truth.scale) <= TOLERANCE
    # at the optimum, terms of size 1 cancel to a gradient of 0
    bound = TOLERANCE * float(max(map(abs, truth.grad))) + 1e-6
    expected = torch.tensor([float(g) for g in truth.grad], dtype=torch.float64)
    assert (grad.double() - expected).abs().max() <= bound
