"""The criterions against textbook formulas in float64, position by position, and padding."""

import math
from typing import Any, Dict

import pytest
import torch
from fairseq.logging import metrics
from torch import Tensor

from fairseq_pdd.core import EnsembleStatistics, UncertaintyMeasures, dirichlet_measures
from fairseq_pdd.teacher import EnsembleTeacher

from . import naive
from .inprocess import batch, build, load, task_for

CRITERIONS = ("pd_send2", "send", "send2", "pd_send2_forward")


@pytest.fixture(scope="module")
def task(workspace):
    """Set up a distillation task with a float64 teacher."""
    task = task_for(workspace.data)
    members = [load(workspace.transformer), load(workspace.lstm)]
    task.teacher = EnsembleTeacher(members, torch.float64)
    return task


@pytest.fixture(scope="module")
def student(workspace):
    return load(workspace.pd_send2).double()


def criterion_of(workspace, task, name: str, *args: Any) -> Any:
    _, _, criterion = build(
        workspace.data, "--task", "distill_translation", "--criterion", name,
        "--teacher-paths", workspace.teachers, *args,
    )  # fmt: skip
    criterion.task = task
    return criterion.eval()


@pytest.fixture(scope="module", params=CRITERIONS)
def criterion(request, workspace, task):
    return criterion_of(workspace, task, request.param)


def summed(log: Dict[str, Any]) -> Dict[str, float]:
    return {k: float(v) for k, v in log.items()}


def additive(log: Dict[str, Any]) -> Dict[str, float]:
    """Select the sums that add up over batches; rank correlations do not."""
    return {k: v for k, v in summed(log).items() if "spearman" not in k}


@pytest.mark.parametrize("offset", [1.0, 0.3])
@pytest.mark.parametrize("name", CRITERIONS)
def test_sums_equal_textbook_formulas(workspace, task, student, name, offset):
    args = [] if name == "send" else ["--offset", offset]
    criterion = criterion_of(workspace, task, name, *args)
    sample = batch(task, "valid", range(6))
    loss, sample_size, log = criterion(student, sample)
    expected = naive.logged_sums(name, student, task.teacher.members, sample, offset)
    assert sample_size == log["sample_size"] == sample["ntokens"]
    assert log["nsentences"] == 6
    assert log["measured_tokens"] == sample["ntokens"]
    assert loss.item() == pytest.approx(expected["loss"], rel=2e-5)
    for key, value in expected.items():
        assert float(log[key]) == pytest.approx(value, rel=2e-5, abs=1e-5), key
    assert {k for k in log if k.startswith(("teacher_", "student_"))} <= expected.keys()


def test_losses_without_reduction_are_those_of_tokens(criterion, task, student):
    sample = batch(task, "valid", range(6))
    losses, _, log = criterion(student, sample, reduce=False)
    assert losses.shape == (sample["ntokens"],)
    torch.testing.assert_close(losses.sum(), log["loss"])


def test_a_padded_batch_is_the_sum_of_its_sentences(criterion, task, student):
    indices = range(8)
    sample = batch(task, "valid", indices)
    assert sample["target"].eq(1).any(), "nothing is padded"
    _, _, together = criterion(student, sample)
    alone = [criterion(student, batch(task, "valid", [i]))[2] for i in indices]
    for key, value in additive(together).items():
        assert value == pytest.approx(sum(float(log[key]) for log in alone), rel=1e-5), key


@pytest.mark.parametrize("columns", [1, 5])
def test_more_padding_changes_nothing(criterion, task, student, monkeypatch, columns):
    # fairseq's LSTM fails on a source column that is padding in all sentences
    members = [task.teacher.members[0], student]
    monkeypatch.setattr(task, "teacher", EnsembleTeacher(members, torch.float64))
    sample = batch(task, "valid", range(8))
    _, _, before = criterion(student, sample)

    def pad(tokens: Tensor, left: bool) -> Tensor:
        size = (columns, 0) if left else (0, columns)
        return torch.nn.functional.pad(tokens, size, value=1)

    net_input = sample["net_input"]
    net_input["src_tokens"] = pad(net_input["src_tokens"], left=True)
    net_input["prev_output_tokens"] = pad(net_input["prev_output_tokens"], left=False)
    sample["target"] = pad(sample["target"], left=False)
    _, _, after = criterion(student, sample)
    assert after.keys() == before.keys()
    for key, value in summed(before).items():
        assert float(after[key]) == pytest.approx(value, rel=1e-5), key


class Fixed(torch.nn.Module):
    """A model whose logits are given."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self._logits = logits

    def forward(self, **_: Any) -> Any:
        return (self._logits,)

    def get_normalized_probs(self, net_output: Any, log_probs: bool) -> Tensor:
        return net_output[0].log_softmax(-1)


def test_gradient_of_padding_is_zero(criterion, task, student):
    sample = batch(task, "valid", range(8))
    logits = student(**sample["net_input"])[0].detach().requires_grad_()

    criterion(Fixed(logits), sample)[0].backward()
    padding = sample["target"].eq(1)
    assert logits.grad[padding].abs().max() == 0
    assert logits.grad[~padding].abs().amax(-1).min() > 0


def test_logs_of_workers_add_up(criterion, task, student):
    assert criterion.logging_outputs_can_be_summed()

    def reduced(*parts: Any) -> Dict[str, float]:
        logs = [criterion(student, batch(task, "valid", part))[2] for part in parts]
        with metrics.aggregate(new_root=True) as meters:
            task.reduce_metrics(logs, criterion)
        return meters.get_smoothed_values()

    together, apart = reduced(range(9)), reduced(range(2), range(2, 9))
    assert together.keys() == apart.keys()
    for key, value in additive(together).items():
        assert apart[key] == pytest.approx(value, rel=1e-3, abs=2e-4), key


def ranks(values: Tensor) -> Tensor:
    """Compute the ranks of distinct values."""
    return values.argsort().argsort().double()


def test_rank_correlations_of_student_and_teacher(criterion, task, student):
    """Those of a batch equal the textbook's; those of several are averaged by tokens."""
    logs, expected, tokens = [], {}, []
    for indices in (range(6), range(6, 20)):
        sample = batch(task, "valid", indices)
        logs.append(criterion(student, sample)[2])
        tokens.append(sample["ntokens"])
        mask = sample["target"].ne(naive.PAD)
        teacher = task.teacher.statistics(sample, mask)
        with torch.no_grad():
            logits = student(**sample["net_input"])[0][mask]
        theirs = {**teacher.measures()._asdict(), "log_precision": -teacher.inverse_precision.log()}
        ours = {**dirichlet_measures(logits)._asdict(), "log_precision": logits.logsumexp(-1)}
        for name in ours if criterion.offset is not None else ["total"]:
            pair = torch.stack([ranks(theirs[name]), ranks(ours[name])])
            expected.setdefault(name, []).append(torch.corrcoef(pair)[0, 1].item())
    with metrics.aggregate(new_root=True) as meters:
        task.reduce_metrics(logs, criterion)
    values = {k: v for k, v in meters.get_smoothed_values().items() if "spearman" in k}
    assert values.keys() == {f"spearman_{name}" for name in expected}
    for name, (first, second) in expected.items():
        assert -1 <= values[f"spearman_{name}"] <= 1
        mean = (first * tokens[0] + second * tokens[1]) / sum(tokens)
        assert values[f"spearman_{name}"] == pytest.approx(mean, abs=2e-4)


def test_no_correlation_is_logged_for_constant_measures(workspace, task, student, monkeypatch):
    member = task.teacher.members[0]
    monkeypatch.setattr(task, "teacher", EnsembleTeacher([member], torch.float64))
    criterion = criterion_of(workspace, task, "pd_send2")
    monkeypatch.setattr(
        EnsembleStatistics,
        "measures",
        lambda self: UncertaintyMeasures(*[torch.zeros(self.total.shape)] * 5),
    )
    log = criterion(student, batch(task, "valid", range(6)))[2]
    with metrics.aggregate(new_root=True) as meters:
        task.reduce_metrics([log], criterion)
    values = meters.get_smoothed_values()
    assert "student_rmi" in values
    assert "spearman_rmi" not in values


def test_means_are_in_nats_and_perplexity_is_that_of_the_target(criterion, task, student):
    sample = batch(task, "valid", range(9))
    log = criterion(student, sample)[2]
    with metrics.aggregate(new_root=True) as meters:
        task.reduce_metrics([log], criterion)
    values = meters.get_smoothed_values()
    tokens = sample["ntokens"]
    assert values["loss"] == pytest.approx(float(log["loss"]) / tokens, abs=1e-4)
    assert values["teacher_rmi"] == pytest.approx(float(log["teacher_rmi"]) / tokens, abs=1e-4)
    nll = float(log["nll_loss"]) / tokens
    assert values["nll_loss"] == pytest.approx(nll / math.log(2), abs=1e-3)
    assert values["ppl"] == pytest.approx(math.exp(nll), rel=2e-3)


def test_training_steps_log_measures_only_if_the_task_requests_them(workspace, task):
    criterion, student = criterion_of(workspace, task, "pd_send2"), load(workspace.pd_send2)
    criterion.log_measures = False
    sample = batch(task, "valid", range(3))
    student.train()
    assert not any("teacher" in key for key in criterion(student, sample)[2])
    criterion.log_measures = True
    # training steps log means, but no correlations
    assert not any("spearman" in key for key in criterion(student, sample)[2])
    criterion.log_measures = False
    student.eval()
    assert any("teacher" in key for key in criterion(student, sample)[2])


def test_sentence_average(workspace, task, student):
    criterion = criterion_of(workspace, task, "pd_send2", "--sentence-avg")
    _, sample_size, log = criterion(student, batch(task, "valid", range(6)))
    assert sample_size == log["sample_size"] == 6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_students_have_a_float32_loss(criterion, workspace, task, dtype):
    sample = batch(task, "valid", range(6))
    model = load(workspace.pd_send2)

    def loss_and_gradient():
        model.zero_grad()
        loss, _, log = criterion(model, sample)
        loss.backward()
        assert loss.dtype == log["nll_loss"].dtype == torch.float32
        parts = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        return loss.item(), torch.cat(parts)

    expected_loss, expected = loss_and_gradient()
    model.to(dtype)
    loss, gradient = loss_and_gradient()
    assert loss == pytest.approx(expected_loss, rel=0.02)
    assert gradient.dtype == dtype
    # bfloat16 rounds weights, activations and gradients by up to 1/256 each
    assert (gradient.float() - expected).norm() < 0.07 * expected.norm()


def test_autocast_does_not_change_the_criterion(criterion, workspace, task):
    sample = batch(task, "valid", range(6))
    logits = load(workspace.pd_send2)(**sample["net_input"])[0].detach()

    plain = criterion(Fixed(logits), sample)[2]
    with torch.autocast("cpu", torch.bfloat16):
        narrow = criterion(Fixed(logits), sample)[2]
    for key, value in summed(plain).items():
        assert float(narrow[key]) == pytest.approx(value, rel=1e-6), key
