"""The contents of a student's checkpoint, and the programs that can read it."""

import argparse
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, Dict, Iterator, List

import numpy as np
import pytest
import torch
from fairseq import checkpoint_utils
from fairseq.data import Dictionary
from fairseq.logging import meters

from fairseq_pdd.checkpoints.reading import map_checkpoint, read_checkpoint
from fairseq_pdd.checkpoints.safe_types import SAFE_TYPES, UNSAFE_OPTION
from fairseq_pdd.errors import UsageError
from fairseq_pdd.models.prior_network import prior_network_offset

from . import commands, inprocess
from .inprocess import load, numbers, state, task_for


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
    prior_network = None if offset is None else {"offset": offset}
    assert state(path)["task_state"]["prior_network"] == prior_network
    assert prior_network_offset(load(path)) == offset
    assert prior_network_offset(load(path, task=task_for(workspace.data))) == offset


def test_weights_are_those_of_the_plain_model(workspace):
    student, plain = state(workspace.pd_send2), state(workspace.transformer)
    shapes = {key: value.shape for key, value in plain["model"].items()}
    assert {key: value.shape for key, value in student["model"].items()} == shapes
    assert not student["criterion"]


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
    before = numbers(state(workspace.transformer)["model"])
    after = state(tmp_path / "checkpoint_last.pt")
    assert all(torch.allclose(after["model"][k], v, atol=1e-6) for k, v in before.items())
    assert after["task_state"]["prior_network"] == {"offset": 1.0}


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
    assert second["task_state"] == first["task_state"]
    assert first["task_state"]["prior_network"] == {"offset": 1.0}
    # the same weights as without interruption
    distil(workspace, tmp_path / "whole", updates=5)
    whole = numbers(state(tmp_path / "whole" / "checkpoint_last.pt")["model"])
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


COUNTS = np.array([5, 4, 3, 2])


def older_names(path: Path, names: Dict[str, str]) -> None:
    """Rename modules in a checkpoint's pickle."""
    with zipfile.ZipFile(path) as file:
        contents = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, content in contents.items():
            if name.endswith("/data.pkl"):
                for new, old in names.items():
                    assert f"c{new}\n".encode() in content
                    content = content.replace(f"c{new}\n".encode(), f"c{old}\n".encode())
            file.writestr(name, content)


def with_bleu(path: Path, written: Dict[str, Any]) -> None:
    """Write the metrics of --eval-bleu, with scalars."""
    bleu = meters.AverageMeter()
    bleu.update(COUNTS)
    saved = (10, "_bleu_counts", "AverageMeter", bleu.state_dict())
    extra = {
        **written["extra_state"],
        "metrics": {"valid": [saved]}, "best": np.float64(9.5), "val_loss": np.float32(9.5),
    }  # fmt: skip
    torch.save({**written, "extra_state": extra}, path)


def with_bleu_of_older_numpy(path: Path, written: Dict[str, Any]) -> None:
    with_bleu(path, written)
    module = type(COUNTS).__reduce__(COUNTS)[0].__module__
    older_names(path, {module: "numpy.core.multiarray"} if module.startswith("numpy._") else {})


def with_omegaconf(path: Path, written: Dict[str, Any]) -> None:
    """Write the configuration as fairseq 0.10 did."""
    torch.save(written, path)
    torch.save({**written, "cfg": read_checkpoint(str(path))["cfg"]}, path)


def with_args_and_meters(path: Path, written: Dict[str, Any]) -> None:
    """Write the options and meters as fairseq 0.9 and older did."""
    args = argparse.Namespace(**vars(written["cfg"]["model"]))
    kinds = (meters.AverageMeter, meters.TimeMeter, meters.StopwatchMeter)
    extra = {**written["extra_state"], "train_meters": {kind.__name__: kind() for kind in kinds}}
    older = {**written, "args": args, "extra_state": extra}
    del older["cfg"], older["extra_state"]["metrics"], older["task_state"]
    torch.save(older, path)
    older_names(path, {"fairseq.logging.meters": "fairseq.meters"})


def with_dictionary(path: Path, written: Dict[str, Any]) -> None:
    """Write a dictionary in the task's state, as fairseq's speech tasks do."""
    torch.save({**written, "task_state": {"target_dictionary": Dictionary()}}, path)


def test_checkpoints_of_the_standard_recipe_load_and_resume(workspace, tmp_path):
    recipe = (
        "--eval-bleu", "--eval-bleu-detok", "space", "--eval-bleu-args", '{"max_len_b": 5}',
        "--best-checkpoint-metric", "bleu", "--maximize-best-checkpoint-metric",
    )  # fmt: skip
    last = tmp_path / "checkpoint_last.pt"
    for updates in (2, 3):
        distil(workspace, tmp_path, "pd_send2", *recipe, updates=updates)
        saved = read_checkpoint(str(last))
        assert saved["optimizer_history"][-1]["num_updates"] == updates
        counts = [m for m in saved["extra_state"]["metrics"]["valid"] if m[1] == "_bleu_counts"]
        assert isinstance(counts[0][3]["sum"], np.ndarray)
    assert load(last) is not None
    # such a model is a teacher, too
    distil(workspace, tmp_path / "next", teachers=f"{last}:{workspace.lstm}")


@pytest.mark.parametrize(
    "write",
    [with_bleu, with_bleu_of_older_numpy, with_omegaconf, with_args_and_meters, with_dictionary],
)
def test_what_versions_of_fairseq_write_is_read_and_resumed(workspace, tmp_path, write):
    written, last = state(workspace.transformer.with_name("checkpoint_last.pt")), 300
    path = tmp_path / "checkpoint_last.pt"
    write(path, written)
    weights = map_checkpoint(str(path))["model"]
    assert all(torch.equal(weights[k], v) for k, v in numbers(written["model"]).items())
    assert load(path).state_dict().keys() == written["model"].keys()
    inprocess.train(workspace.data, tmp_path, "--task", "translation", updates=last + 1)
    assert state(path)["optimizer_history"][-1]["num_updates"] == last + 1


@pytest.mark.parametrize(
    "value",
    [
        COUNTS, COUNTS.reshape(2, 2).T, np.zeros((0, 3)), np.array(2.5), np.array([True, False]),
        np.array(["日本", "a"]), np.array([1.5 + 2j]), np.array([7, 8], dtype=">i4"),
        np.float64(1.25), np.float16(2), np.int64(-3), np.bool_(True), np.str_("größe"),
    ],
)  # fmt: skip
def test_numpy_values_are_restored_and_saved_again(value, tmp_path):
    found = value
    for name in ("first.pt", "second.pt"):
        torch.save([found], tmp_path / name)
        (found,) = torch.load(tmp_path / name)
    expected = pickle.loads(pickle.dumps(value))
    assert np.array_equal(found, expected)
    assert np.asarray(found).dtype == np.asarray(expected).dtype
    assert np.shape(found) == np.shape(value)
    # numpy alone reads what is saved again
    (plain,) = torch.load(tmp_path / "second.pt", weights_only=False)
    assert type(plain) is type(value)


class Reduced:
    """An object with any pickled form."""

    def __init__(self, *form: Any) -> None:
        self.form = form

    def __reduce__(self) -> Any:
        return self.form


@pytest.mark.parametrize(
    "value",
    [np.array([{}], dtype=object), np.zeros(2, dtype=[("a", "O")]), np.zeros(2, dtype="V8")],
)
def test_numpy_arrays_of_objects_are_refused(value, tmp_path):
    torch.save({"model": {}, "x": value}, tmp_path / "x.pt")
    with pytest.raises(UsageError, match=r"x\.pt holds more than weights.*numpy type '[OV]8'"):
        read_checkpoint(str(tmp_path / "x.pt"))


def test_forged_flags_of_a_numpy_type_have_no_effect(tmp_path):
    # with these flags, numpy takes the numbers of an array for addresses of objects
    forged = Reduced(np.dtype, ("i8", False, True), (3, "<", None, None, None, -1, -1, 63))
    form = np.arange(2).__reduce__()
    array = Reduced(form[0], form[1], (1, (2,), forged, False, np.arange(2).tobytes()))
    torch.save([array], tmp_path / "forged.pt")
    (found,) = torch.load(tmp_path / "forged.pt")
    assert found.dtype.flags == np.dtype("i8").flags
    assert found.tolist() == [0, 1]


def test_the_allow_list_has_types_and_two_functions_of_ours():
    functions = {value for value in SAFE_TYPES.values() if not isinstance(value, type)}
    ours = {f.__name__ for f in functions if getattr(f, "__module__", "").startswith("fairseq_pdd")}
    assert ours == {"empty_array", "scalar"}
    others = {name for name, f in SAFE_TYPES.items() if f in functions} - {
        f"numpy.{core}.multiarray.{name}"
        for core in ("core", "_core")
        for name in ("_reconstruct", "scalar")
    }
    assert all(name.startswith("typing.") for name in others)


def test_the_unsafe_option_loads_anything_with_a_warning(workspace, tmp_path):
    path, trace = tmp_path / "unsafe.pt", tmp_path / "trace"
    torch.save({**state(workspace.lstm), "x": Reduced(os.mkdir, (str(trace),))}, path)
    script = (
        "import sys; from fairseq_pdd.checkpoints.reading import *; map_checkpoint(sys.argv[1])"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, path],
        capture_output=True,
        text=True,
        cwd=commands.REPOSITORY,
        env={**os.environ, UNSAFE_OPTION: "1"},
    )
    assert result.returncode == 0
    assert f"UNSAFE: {UNSAFE_OPTION} is set" in result.stderr
    assert trace.exists()


BROADCAST = """
import sys
import torch
from fairseq import checkpoint_utils
from fairseq.distributed import utils
import fairseq_pdd.checkpoints.safe_types
path, init, rank = sys.argv[1:]
torch.distributed.init_process_group("gloo", init_method=init, rank=int(rank), world_size=2)
state = checkpoint_utils.load_checkpoint_to_cpu(path) if rank == "0" else None
state = utils.broadcast_object(state, 0, torch.distributed.group.WORLD, torch.device("cpu"))
metrics = dict((m[1], m[3]) for m in state["extra_state"]["metrics"]["valid"])
print(sum(w.double().sum().item() for w in state["model"].values()))
print(state["cfg"].task._name, metrics["_bleu_counts"]["sum"].tolist())
"""


def test_a_resume_in_several_processes_sends_the_checkpoint(workspace, tmp_path):
    # what fairseq-train does with --distributed-world-size 2
    path = tmp_path / "bleu.pt"
    with_bleu(path, state(workspace.transformer))
    processes: List[Any] = [
        commands.start(
            Path(sys.executable).name, "-c", BROADCAST, path, f"file://{tmp_path}/meeting", rank
        )
        for rank in range(2)
    ]
    # gloo prints lines, too, in some versions of PyTorch
    first, second = (commands.finish(process).stdout.splitlines()[-2:] for process in processes)
    assert first == second
    assert first[-1] == f"translation {COUNTS.tolist()}"
