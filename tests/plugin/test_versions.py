"""Differences between fairseq's versions, as they reach this one."""

from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from fairseq_pdd._compat import call, fused_weights
from fairseq_pdd.cli.main import app

from . import inprocess

PARTS = {"in_proj": None, "out_proj": "self_attn.out_proj", "fc1": "fc1", "fc2": "fc2"}


@pytest.fixture(scope="module")
def official(workspace: Any, tmp_path_factory: Any) -> Any:
    """A student's checkpoint in the form of official fairseq 0.12.2.

    That holds copies of weights of each encoder layer; in a checkpoint of fairseq-train they are
    zeros, as the copies are made when it is loaded.
    """
    state = torch.load(workspace.pd_send2)
    weights, layer = state["model"], "encoder.layers.0"
    for kind in ("weight", "bias"):
        for part, other in PARTS.items():
            if other is None:
                shape = [3 * weights[f"{layer}.self_attn.q_proj.{kind}"].shape[0]]
                shape += weights[f"{layer}.self_attn.q_proj.{kind}"].shape[1:]
            else:
                shape = weights[f"{layer}.{other}.{kind}"].shape
            weights[f"{layer}.{part}_{kind}"] = torch.zeros(*shape)
    path = tmp_path_factory.mktemp("official") / "student.pt"
    torch.save(state, path)
    return path


def test_a_file_of_official_fairseq_is_loaded(workspace, official):
    ours = inprocess.generate(workspace.data, workspace.pd_send2)
    assert inprocess.generate(workspace.data, official) == ours
    assert any(line.startswith("U-") for line in ours)


def test_a_teacher_of_official_fairseq_is_loaded(workspace, official, tmp_path):
    args = ("--task", "distill_translation", "--criterion", "pd_send2", "--seed", 3)
    losses = [
        inprocess.train(
            workspace.data, tmp_path / name, *args, "--teacher-paths", f"{path}:{workspace.lstm}"
        ).valid[-1]["valid_loss"]
        for name, path in (("ours", workspace.pd_send2), ("official", official))
    ]
    assert losses[0] == losses[1]


def test_unknown_weights_are_refused_as_before(workspace, official, tmp_path):
    state = torch.load(official)
    state["model"]["encoder.layers.0.fc3_weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(RuntimeError, match=r"fc3_weight"):
        inprocess.generate(workspace.data, tmp_path / "other.pt")


def test_a_plain_checkpoint_has_no_copies(official, tmp_path):
    plain = tmp_path / "plain.pt"
    result = CliRunner().invoke(app, ["plain-checkpoint", str(official), str(plain)])
    assert result.exit_code == 0, result.output
    assert len(fused_weights(torch.load(official)["model"])) == 2 * len(PARTS)
    assert fused_weights(torch.load(plain)["model"]) == []


def test_attention_of_old_fairseq_is_no_copy():
    # before 0.9, the projections of self-attention were one weight, inside of the attention
    layer = "encoder.layers.0"
    names = [f"{layer}.self_attn.in_proj_weight", f"{layer}.self_attn.out_proj.weight"]
    assert fused_weights([*names, f"{layer}.fc1.weight"]) == []


def test_optional_arguments_are_given_where_they_are_known():
    def new(cfg, from_checkpoint=False):
        return cfg, from_checkpoint

    def old(cfg):
        return cfg

    assert call(new, 1, from_checkpoint=True) == (1, True)
    assert call(old, 1, from_checkpoint=True) == 1
