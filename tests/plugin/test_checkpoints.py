"""The contents of a student's checkpoint, and the programs that can read it."""

import argparse
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any, Iterator

import pytest
import torch
from fairseq import checkpoint_utils

from fairseq_pdd.errors import UsageError
from fairseq_pdd.models.prior_network import prior_network_offset

from . import commands, inprocess
from .inprocess import load, state, task_for


def strings(value: Any) -> Iterator[str]:
    """Yield all strings in nested containers and namespaces."""
    if isinstance(value, argparse.Namespace):
        value = vars(value)
    if isinstance(value, dict):
        for key, item in value.items():
            yield from strings(key)
            yield from strings(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from strings(item)
    elif isinstance(value, str):
        yield value


def distil(workspace, save_dir, criterion="pd_send2", *args, updates=1, teachers=None):
    return inprocess.train(
        workspace.data, save_dir, "--task", "distill_translation", "--criterion", criterion,
        "--teacher-paths", teachers or workspace.teachers, *args, updates=updates,
    )  # fmt: skip


def lines(output, kinds="STHDP"):
    return [line for line in output if re.match(f"[{kinds}]-\\d", line)]


@pytest.mark.parametrize("name", ["pd_send2", "send"])
def test_checkpoints_contain_no_paths_of_teachers(workspace, name):
    for path in (workspace.root / name).glob("*.pt"):
        for teacher in ("transformer/", "lstm/"):
            assert not [s for s in strings(state(path)) if teacher in s]
            assert teacher.encode() not in path.read_bytes()


@pytest.mark.parametrize(("name", "offset"), [("pd_send2", 1.0), ("send", None)])
def test_a_checkpoint_stores_the_students_offset(workspace, name, offset):
    path = getattr(workspace, name)
    task_state = {"prior_network": None if offset is None else {"offset": offset}}
    assert state(path)["task_state"] == task_state
    assert prior_network_offset(load(path)) == offset
    assert prior_network_offset(load(path, task=task_for(workspace.data))) == offset


def test_weights_are_those_of_the_plain_model(workspace):
    student, plain = state(workspace.pd_send2), state(workspace.transformer)
    shapes = {key: value.shape for key, value in plain["model"].items()}
    assert {key: value.shape for key, value in student["model"].items()} == shapes
    assert not student["criterion"]


def test_plain_fairseq_translates_the_same(workspace):
    script = (
        "import argparse, torch; torch.serialization.add_safe_globals([argparse.Namespace]); "
        "from fairseq_cli.generate import cli_main; cli_main(); "
        "import sys; assert not any(name.startswith('fairseq_pdd') for name in sys.modules)"
    )
    args = (
        workspace.data, "--cpu", "--path", workspace.pd_send2, "--beam", 3, "--nbest", 2,
        "--required-batch-size-multiple", 1,
    )  # fmt: skip
    plain = commands.finish(
        commands.start(Path(sys.executable).name, "-c", script, *args, "--task", "translation")
    )
    plugin = commands.run(
        "fairseq-generate", *args, "--user-dir", commands.USER_DIR,
        "--task", "distill_translation",
    )  # fmt: skip
    assert len(lines(plain.stdout.splitlines(), "H")) == 2 * 43
    assert lines(plugin.stdout.splitlines()) == lines(plain.stdout.splitlines())
    assert sum(line.startswith("U-") for line in plugin.stdout.splitlines()) == 2 * 43
    assert [ln for ln in plugin.stdout.splitlines() if ln.startswith("Generate")] == [
        ln for ln in plain.stdout.splitlines() if ln.startswith("Generate")
    ]


def test_a_student_translates_without_its_teachers(workspace, tmp_path):
    teachers = [tmp_path / "one.pt", tmp_path / "two.pt"]
    shutil.copy(workspace.transformer, teachers[0])
    shutil.copy(workspace.lstm, teachers[1])
    distil(workspace, tmp_path, teachers=":".join(map(str, teachers)))
    for teacher in teachers:
        teacher.unlink()
    student = tmp_path / "checkpoint_last.pt"
    assert not [s for s in strings(state(student)) if "one.pt" in s]
    output = inprocess.generate(workspace.data, student, "--max-len-b", 9)
    assert any(line.startswith("U-") for line in output)


def test_generation_loads_no_teacher(workspace, monkeypatch):
    def refuse(*_: Any) -> None:
        raise AssertionError("a teacher was loaded")

    monkeypatch.setattr("fairseq_pdd.teacher.EnsembleTeacher.load", refuse)
    _, _, task = checkpoint_utils.load_model_ensemble_and_task([str(workspace.pd_send2)])
    assert task.teacher is None


def test_an_ordinary_checkpoint_initialises_a_student(workspace, tmp_path):
    distil(
        workspace, tmp_path, "pd_send2", "--finetune-from-model", workspace.transformer,
        "--lr", 1e-9,
    )  # fmt: skip
    before = state(workspace.transformer)["model"]
    after = state(tmp_path / "checkpoint_last.pt")
    assert all(torch.allclose(after["model"][k], v, atol=1e-6) for k, v in before.items())
    assert after["task_state"] == {"prior_network": {"offset": 1.0}}


@pytest.mark.parametrize(
    ("start", "criterion", "offset"), [("pd_send2", "send", None), ("send", "send2", 1.0)]
)
def test_fine_tuning_stores_the_offset_of_the_new_criterion(
    workspace, tmp_path, start, criterion, offset
):
    distil(workspace, tmp_path, criterion, "--finetune-from-model", getattr(workspace, start))
    assert prior_network_offset(load(tmp_path / "checkpoint_last.pt")) == offset


def test_training_resumes(workspace, tmp_path):
    distil(workspace, tmp_path, updates=3)
    first = state(tmp_path / "checkpoint_last.pt")
    logs = distil(workspace, tmp_path, updates=5)
    second = state(tmp_path / "checkpoint_last.pt")
    assert first["optimizer_history"][-1]["num_updates"] == 3
    assert second["optimizer_history"][-1]["num_updates"] == 5
    assert [log["valid_num_updates"] for log in logs.valid] == [5]
    assert second["task_state"] == first["task_state"] == {"prior_network": {"offset": 1.0}}
    # the same weights as without interruption
    distil(workspace, tmp_path / "whole", updates=5)
    whole = state(tmp_path / "whole" / "checkpoint_last.pt")["model"]
    assert all(torch.allclose(second["model"][k], v, atol=1e-5) for k, v in whole.items())


def test_resuming_requires_the_teachers_again(workspace, tmp_path):
    distil(workspace, tmp_path)
    with pytest.raises(UsageError, match="--teacher-paths"):
        inprocess.train(
            workspace.data, tmp_path, "--task", "distill_translation", "--criterion", "pd_send2"
        )


def test_fairseq_validate(workspace):
    result = commands.run(
        "fairseq-validate", workspace.data, "--user-dir", commands.USER_DIR, "--cpu",
        "--task", "distill_translation", "--teacher-paths", workspace.teachers,
        "--path", workspace.root / "pd_send2" / "checkpoint_last.pt", "--max-tokens", 600,
        "--log-format", "json",
    )  # fmt: skip
    values = json.loads(result.stdout[result.stdout.rindex("{") :])
    logged = json.loads(workspace.log("pd_send2").split("| valid | ")[-1].splitlines()[0])
    for key in ("loss", "ppl", "teacher_rmi", "student_rmi", "spearman_rmi"):
        assert float(values[f"valid_{key}"]) == pytest.approx(float(logged[f"valid_{key}"]), 1e-3)
    assert 0 < float(values["valid_spearman_rmi"]) <= 1


def test_the_error_of_fairseq_validate_without_teacher_names_the_fix(workspace):
    result = commands.run(
        "fairseq-validate", workspace.data, "--user-dir", commands.USER_DIR, "--cpu",
        "--task", "distill_translation", "--path", workspace.pd_send2, "--max-tokens", 600,
        check=False,
    )  # fmt: skip
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    (error,) = [line for line in result.stderr.splitlines() if "error:" in line]
    assert "needs an ensemble: give its checkpoints with --teacher-paths" in error
