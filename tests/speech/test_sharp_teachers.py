"""The paper's stress test: teachers so confident that λ is close to 0, or 0."""

import math

import pytest
import torch

from ..plugin import inprocess
from .recipes import DISTIL_S2T

SHARPNESS = 100


@pytest.fixture(scope="module")
def sharp(workspace, tmp_path_factory):
    """The members with logits a hundred times as large."""
    folder = tmp_path_factory.mktemp("sharp")
    paths = []
    for i, path in enumerate(workspace.members):
        saved = inprocess.state(path)
        for name in ("weight", "bias"):
            key = f"decoder.output_projection.{name}"
            if key in saved["model"]:
                saved["model"][key] = saved["model"][key] * SHARPNESS
        paths.append(folder / f"{i}.pt")
        torch.save(saved, paths[-1])
    return paths


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("agree", [False, True])
@pytest.mark.parametrize("criterion", ["pd_send2", "send"])
def test_students_train(workspace, sharp, tmp_path, criterion, agree, bf16):
    paths = [sharp[0], sharp[0]] if agree else sharp
    logs = inprocess.train(
        workspace.tables, tmp_path, *DISTIL_S2T, "--criterion", criterion, "--teacher-paths",
        ":".join(map(str, paths)), "--fp16-no-flatten-grads", updates=6, bf16=bf16,
    )  # fmt: skip
    for epoch in (*logs.train, *logs.valid):
        assert all(math.isfinite(value) for value in epoch.values())
    first, last = (epoch["valid_loss"] for epoch in (logs.valid[0], logs.valid[-1]))
    assert last < first
    if agree:
        assert logs.valid[-1]["valid_teacher_rmi"] == pytest.approx(0, abs=1e-6)
    weights = inprocess.state(tmp_path / "checkpoint_last.pt")["model"].values()
    assert all(torch.isfinite(w).all() for w in weights)
