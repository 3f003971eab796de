"""The loss, the teacher and scoring in float32, float16 and bfloat16, on the CPU and on a GPU.

The cases on the CPU show that the tests themselves are right where there is no GPU.
"""

import pytest
import torch
from fairseq.data import Dictionary

from fairseq_pdd.core import (
    TopKProbs,
    _compile,
    dirichlet_measures,
    reverse_kl_proxy_dirichlet,
    sequence_ensemble_measures,
)
from fairseq_pdd.teacher import EnsembleTeacher

from ..core.inputs import members, student_and_teacher
from ..generation.build import EOS, build, make_scorer_of

LOW_PRECISION = {torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    return request.param


@pytest.fixture(scope="module")
def dictionary():
    made = Dictionary()
    for i in range(20):
        made.add_symbol(f"w{i}")
    return made


@pytest.fixture
def sample(device):
    torch.manual_seed(0)
    source = torch.randint(4, 24, (3, 6)).to(device)
    target = torch.randint(4, 24, (3, 5)).to(device)
    previous = torch.cat([torch.full_like(target[:, :1], EOS), target[:, :-1]], dim=1)
    lengths = torch.tensor([6, 6, 6]).to(device)
    net_input = {"src_tokens": source, "src_lengths": lengths, "prev_output_tokens": previous}
    return {"net_input": net_input, "target": target}


def loss_and_grad(logits, mean, lam, compiled):
    logits = logits.detach().requires_grad_()
    loss = reverse_kl_proxy_dirichlet(logits, mean, lam, compiled=compiled)
    (grad,) = torch.autograd.grad(loss.sum(), logits)
    return loss.detach().cpu(), grad.float().cpu()


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("dtype", LOW_PRECISION)
@pytest.mark.parametrize("topk", [None, 8])
def test_loss_is_that_of_the_cpu(monkeypatch, device, dtype, compiled, topk):
    # compilation on the CPU has tests of its own, and takes long
    monkeypatch.setenv(_compile.SWITCH, "1" if device == "cuda" else "0")
    logits, mean, lam = student_and_teacher(40, 1000)
    logits = logits.to(dtype)
    mean = mean if topk is None else TopKProbs.of(mean, topk)
    expected = loss_and_grad(logits, mean, lam, False)
    on_gpu = mean.to(device) if topk is None else TopKProbs(*(t.to(device) for t in mean))
    ours = loss_and_grad(logits.to(device), on_gpu, lam.to(device), compiled)
    assert not _compile._State.failed
    torch.testing.assert_close(ours[0], expected[0], rtol=2e-5, atol=1e-5)
    torch.testing.assert_close(ours[1], expected[1], rtol=LOW_PRECISION[dtype], atol=1e-5)


def test_measures_are_those_of_the_cpu(device):
    logits = torch.randn(40, 1000) * 5
    for ours, expected in zip(dirichlet_measures(logits.to(device)), dirichlet_measures(logits)):
        torch.testing.assert_close(ours.cpu(), expected, rtol=1e-4, atol=1e-5)
    log_probs, weights = members(3, 40, 1000), torch.randn(3, 40)
    on_cpu = sequence_ensemble_measures(list(log_probs), weights)
    on_gpu = sequence_ensemble_measures(list(log_probs.to(device)), weights.to(device))
    for ours, expected in zip(on_gpu, on_cpu):
        for a, b in zip(ours, expected):
            torch.testing.assert_close(a.cpu(), b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("offload", [False, True])
@pytest.mark.parametrize("dtype", LOW_PRECISION)
def test_teacher(dictionary, sample, device, dtype, offload):
    mask = torch.ones_like(sample["target"], dtype=torch.bool)
    names = ["transformer_iwslt_de_en", "lstm"]
    models = build(dictionary)
    teacher = EnsembleTeacher([models[name] for name in names], dtype, offload)
    ours = teacher.statistics(sample, mask)
    assert ours.mean_probs.device.type == device
    models = build(dictionary)
    on_cpu = EnsembleTeacher([models[name] for name in names], torch.float32)
    inputs = {name: value.cpu() for name, value in sample["net_input"].items()}
    expected = on_cpu.statistics({"net_input": inputs}, mask.cpu())
    tolerance = {"rtol": 10 * LOW_PRECISION[dtype], "atol": LOW_PRECISION[dtype]}
    torch.testing.assert_close(ours.mean_probs.cpu(), expected.mean_probs, **tolerance)
    torch.testing.assert_close(ours.total.cpu(), expected.total, **tolerance)


@pytest.mark.parametrize("dtype", LOW_PRECISION)
@pytest.mark.parametrize(
    ("names", "offset"),
    [(["transformer_iwslt_de_en"], 0.0), (["transformer_iwslt_de_en", "lstm"], None)],
)
def test_scores(dictionary, sample, device, names, offset, dtype):
    models = build(dictionary)
    outputs = [[torch.tensor([5, 6, EOS])], [torch.tensor([7, EOS])], [torch.tensor([EOS])]]
    inputs = {name: value.cpu() for name, value in sample["net_input"].items()}
    expected = make_scorer_of(models, names, offset).score({"net_input": inputs}, outputs)
    on_gpu = {name: model.to(device).to(dtype) for name, model in models.items()}
    ours = make_scorer_of(on_gpu, names, offset).score(
        sample, [[tokens.to(device) for tokens in row] for row in outputs]
    )
    tolerance = {"rel": 20 * LOW_PRECISION[dtype], "abs": 10 * LOW_PRECISION[dtype]}
    for (mine,), (theirs,) in zip(ours, expected):
        assert mine["log_prob"] == pytest.approx(theirs["log_prob"], **tolerance)
        for name in ("total", "rmi", "score"):
            assert mine["sequence"][name] == pytest.approx(theirs["sequence"][name], **tolerance)
