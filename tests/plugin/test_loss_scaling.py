"""Losses and gradients that overflow with ``--fp16``, which fairseq's loss scaler skips."""

import math
from types import SimpleNamespace

import pytest
import torch
from fairseq import criterions
from fairseq.optim.dynamic_loss_scaler import DynamicLossScaler
from fairseq.optim.fp16_optimizer import FP16Optimizer
from omegaconf import OmegaConf

from fairseq_pdd.errors import UsageError

from . import inprocess
from .inprocess import batch, build, state, training_config

FP16 = (
    *("--task", "distill_translation", "--criterion", "send", "--fp16"),
    *("--teacher-dtype", "float32", "--fp16-no-flatten-grads", "--min-loss-scale", 16),
)


@pytest.fixture
def step(workspace):
    """Build a half-precision training whose logits overflow."""
    args = (*FP16, "--teacher-paths", workspace.teachers)
    task, model, criterion = build(workspace.data, *args)
    model.decoder.output_projection.weight.data.sign_().mul_(6e4)
    model.half().train()
    cfg = training_config(workspace.data, "unused", *args)
    optimizer = FP16Optimizer.build_optimizer(cfg, list(model.parameters()))
    return task, model, criterion, optimizer, batch(task, "valid", range(4))


def update(task, model, criterion, optimizer, sample):
    """Do what fairseq's trainer does in an update, on one device."""
    optimizer.zero_grad()
    task.train_step(sample, model, criterion, optimizer, 0)
    optimizer.multiply_grads(1 / sample["ntokens"])
    optimizer.clip_grad_norm(0.0)


def scales_until_given_up(*args):
    """Return the loss scales after each skipped update."""
    scales = []
    for _ in range(9):
        try:
            update(*args)
        except OverflowError:
            scales.append(args[3].scaler.loss_scale)
        except FloatingPointError:
            return scales
    raise AssertionError(f"the scaler does not give up: {scales}")


def test_overflows_are_skipped_as_with_a_criterion_of_fairseq(step):
    task, model, _, optimizer, sample = step
    before = [p.clone() for p in model.parameters()]
    ours = scales_until_given_up(*step)
    assert ours == [64, 32]
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters()))
    optimizer.scaler = DynamicLossScaler(init_scale=128, min_loss_scale=16)
    stock = criterions.build_criterion(
        OmegaConf.create({"_name": "cross_entropy", "sentence_avg": False}), task
    )
    assert scales_until_given_up(task, model, stock, optimizer, sample) == ours


def test_a_loss_that_overflows_has_no_finite_gradient(step):
    _, model, criterion, _, sample = step
    criterion.skips_overflow = True
    loss, _, log = criterion(model, sample)
    loss.backward()
    assert not math.isfinite(log["loss"])
    assert not any(p.grad.isfinite().any() for p in model.decoder.output_projection.parameters())


def test_the_message_is_ours_when_the_scaler_gives_up(step):
    task, model, criterion, optimizer, sample = step
    assert scales_until_given_up(*step)
    try:
        raise FloatingPointError  # by the optimizer
    except FloatingPointError:
        # what fairseq's trainer does then
        with pytest.raises(UsageError, match="student's logits are not"):
            task.train_step(sample, model, criterion, optimizer, 0)


def test_predictions_of_a_teacher_that_overflow_are_an_error_at_once(step):
    task, *_ = step
    task.teacher.members[0].decoder.output_projection.weight.data *= 1e38
    with pytest.raises(UsageError, match="teacher's predictions are not finite"):
        update(*step)


@pytest.mark.parametrize("optimizer", ["fp32", "bf16"])
def test_without_a_scaler_an_overflow_is_an_error_at_once(step, optimizer):
    task, model, criterion, with_scaler, sample = step
    with_scaler.scaler = None
    stub = SimpleNamespace(backward=lambda loss: loss.backward())
    with pytest.raises(UsageError, match="student's logits are not finite"):
        task.train_step(sample, model, criterion, stub if optimizer == "fp32" else with_scaler, 0)


@pytest.mark.parametrize(
    ("factor", "scale", "message"),
    [(1e4, 32, "student's logits are not finite"), (1.0, 2**40, "gradients of a finite loss")],
)
def test_a_training_whose_scaler_gives_up_ends_with_our_message(
    workspace, tmp_path, factor, scale, message
):
    saved = state(workspace.send)
    saved["model"]["decoder.output_projection.weight"] *= factor
    torch.save(saved, tmp_path / "start.pt")
    args = (*FP16, "--teacher-paths", workspace.teachers, "--fp16-init-scale", scale)
    with pytest.raises(UsageError, match=message):
        inprocess.train(
            workspace.data, tmp_path / "save", *args, "--min-loss-scale", scale,
            "--finetune-from-model", tmp_path / "start.pt",
        )  # fmt: skip
