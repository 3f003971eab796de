"""Wrong input ends in one line that names the cause and the fix, before training starts."""

import math
import os
import pickle
import re
import shutil
from pathlib import Path

import pytest
import torch
from fairseq.data import indexed_dataset

from fairseq_pdd.errors import UsageError
from fairseq_pdd.teacher import EnsembleTeacher

from . import commands, inprocess
from .inprocess import DROPS_A_LAST_BATCH, batch, build, load, state

DISTIL = ("--task", "distill_translation", "--criterion", "pd_send2")


def rejected(call, *expected):
    """Check that a call fails with a message of the ``expected`` parts; return the message."""
    with pytest.raises(UsageError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for part in expected:
        assert str(part) in message
    return message


def train(data, save_dir, *args):
    return lambda: inprocess.train(data, save_dir, *DISTIL, *args)


@pytest.fixture
def data(workspace, tmp_path) -> Path:
    """Copy the binarised data, so that a test can damage them."""
    return Path(shutil.copytree(workspace.data, tmp_path / "data"))


@pytest.fixture
def teacher(workspace, tmp_path) -> Path:
    """Copy a teacher, so that a test can damage it."""
    return Path(shutil.copy(workspace.lstm, tmp_path / "teacher.pt"))


def edit(path, change):
    saved = state(path)
    change(saved)
    torch.save(saved, path)


# teachers


def test_no_teacher(workspace, tmp_path):
    rejected(train(workspace.data, tmp_path), "pd_send2", "--teacher-paths a.pt:b.pt")


def test_missing_teacher(workspace, tmp_path):
    paths = f"{workspace.lstm}:{tmp_path}/no.pt:{tmp_path}/nor.pt"
    message = rejected(
        train(workspace.data, tmp_path, "--teacher-paths", paths),
        f"{tmp_path}/no.pt", f"{tmp_path}/nor.pt", "joined with ':'",
    )  # fmt: skip
    assert str(workspace.lstm) not in message


@pytest.mark.parametrize(("language", "side"), [("xx", "source"), ("yy", "target")])
def test_dictionary_of_another_size(workspace, tmp_path, data, language, side):
    with open(data / f"dict.{language}.txt", "a") as stream:
        stream.write("onemore 1\n")
    rejected(
        train(data, tmp_path, "--teacher-paths", workspace.teachers),
        workspace.transformer, f"{side} dictionary of 56 types", "57", "--tgtdict",
    )  # fmt: skip


def test_dictionary_of_other_symbols(workspace, tmp_path, data):
    path = data / "dict.yy.txt"
    lines = path.read_text("utf-8").splitlines()
    lines[3], lines[4] = lines[4], lines[3]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    rejected(
        train(data, tmp_path, "--teacher-paths", workspace.teachers),
        workspace.transformer, "another target dictionary", "number 7", lines[3].split()[0],
        "--srcdict/--tgtdict",
    )  # fmt: skip


def test_a_dictionary_file_that_was_replaced_after_training_is_not_compared(
    workspace, tmp_path, data, teacher
):
    def move(saved):
        saved["cfg"]["task"]["data"] = str(data)

    edit(teacher, move)
    with open(data / "dict.yy.txt", "a") as stream:
        stream.write("onemore 1\n")
    build(workspace.data, *DISTIL, "--teacher-paths", teacher)


def garbage(path):
    path.write_bytes(b"not a checkpoint")


def truncated(path):
    path.write_bytes(path.read_bytes()[:1000])


def empty(path):
    path.write_bytes(b"")


def no_model(path):
    torch.save({"weights": torch.zeros(3)}, path)


def no_dictionary(path):
    torch.save([1, 2, 3], path)


def no_configuration(path):
    edit(path, lambda saved: saved.update(cfg=None))


def other_shapes(path):
    edit(path, lambda saved: saved["model"].pop("decoder.fc_out.bias", None))
    edit(path, lambda saved: saved["model"].popitem())


def unknown_architecture(path):
    edit(path, lambda saved: setattr(saved["cfg"]["model"], "_name", "nosucharch"))


@pytest.mark.parametrize(
    "damage",
    [garbage, truncated, empty, no_model, no_dictionary, no_configuration, other_shapes,
     unknown_architecture],
)  # fmt: skip
def test_damaged_teacher(workspace, tmp_path, teacher, damage):
    damage(teacher)
    paths = f"{workspace.transformer}:{teacher}"
    rejected(train(workspace.data, tmp_path, "--teacher-paths", paths), teacher)


def test_teacher_file_that_would_run_code(workspace, tmp_path, teacher):
    proof = tmp_path / "executed"

    class Harm:
        def __reduce__(self):
            return os.system, (f"touch {proof}",)

    for save in (
        lambda: torch.save({"model": {}, "cfg": Harm()}, teacher),
        lambda: teacher.write_bytes(pickle.dumps({"model": {}, "cfg": Harm()}, protocol=2)),
    ):
        save()
        rejected(
            train(workspace.data, tmp_path, "--teacher-paths", teacher),
            teacher, "holds more than weights",
        )  # fmt: skip
        assert not proof.exists()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_teacher_with_weights_that_are_not_finite(workspace, tmp_path, teacher, value):
    def change(saved):
        saved["model"]["decoder.embed_tokens.weight"][5, 5] = value

    edit(teacher, change)
    paths = f"{workspace.transformer}:{teacher}"
    rejected(
        train(workspace.data, tmp_path, "--teacher-paths", paths),
        teacher, "decoder.embed_tokens.weight", "not finite", "train it again",
    )  # fmt: skip


# options


@pytest.mark.parametrize("criterion", ["pd_send2", "send2", "pd_send2_forward"])
@pytest.mark.parametrize("offset", ["0", "-1", "nan", "inf"])
def test_offset(workspace, tmp_path, criterion, offset):
    args = ("--teacher-paths", workspace.teachers, "--criterion", criterion, "--offset", offset)
    rejected(train(workspace.data, tmp_path, *args), "--offset must be positive", "uses 1")


def test_max_target_precision(workspace, tmp_path):
    args = ("--teacher-paths", workspace.teachers, "--criterion", "pd_send2_forward")
    rejected(
        train(workspace.data, tmp_path, *args, "--max-target-precision", 0),
        "--max-target-precision must be positive",
    )


@pytest.mark.parametrize("criterion", ["pd_send2", "send", "send2", "pd_send2_forward"])
def test_criterion_without_a_distillation_task(workspace, tmp_path, criterion):
    def call():
        inprocess.train(workspace.data, tmp_path, "--task", "translation", "--criterion", criterion)

    rejected(call, "TranslationTask", "--task distill_translation", "--teacher-paths")


def test_uncertainty_path_that_is_a_folder(workspace, tmp_path):
    def call():
        inprocess.generate(workspace.data, workspace.pd_send2, "--uncertainty-path", tmp_path)

    rejected(call, tmp_path, "folder")


# data


def test_data_folder_that_does_not_exist(workspace, tmp_path):
    args = ("--teacher-paths", workspace.teachers)
    rejected(train(tmp_path / "no", tmp_path, *args), tmp_path / "no", "fairseq-preprocess")


@pytest.mark.parametrize("languages", [(), ("-s", "xx", "-t", "yy")])
def test_data_folder_without_data(workspace, tmp_path, languages):
    (tmp_path / "bare").mkdir()
    args = ("--teacher-paths", workspace.teachers, *languages)
    rejected(train(tmp_path / "bare", tmp_path, *args), tmp_path / "bare", "binarised")


@pytest.mark.parametrize("language", ["xx", "yy"])
def test_missing_dictionary(workspace, tmp_path, data, language):
    (data / f"dict.{language}.txt").unlink()
    args = ("--teacher-paths", workspace.teachers)
    rejected(train(data, tmp_path, *args), data / f"dict.{language}.txt")


@pytest.mark.parametrize("option", ["--train-subset", "--valid-subset"])
def test_missing_subset(workspace, tmp_path, option):
    args = ("--teacher-paths", workspace.teachers, option, "nosuch")
    rejected(train(workspace.data, tmp_path, *args), "'nosuch'", workspace.data)


def test_missing_subset_for_generation(workspace):
    def call():
        inprocess.generate(workspace.data, workspace.pd_send2, "--gen-subset", "test7")

    rejected(call, "'test7'", workspace.data)


def make_empty(data, split):
    for language in ("xx", "yy"):
        prefix = str(data / f"{split}.xx-yy.{language}")
        builder = indexed_dataset.make_builder(f"{prefix}.bin", impl="mmap", vocab_size=56)
        builder.finalize(f"{prefix}.idx")


@pytest.mark.parametrize("split", ["train", "valid"])
def test_empty_subset(workspace, tmp_path, data, split):
    make_empty(data, split)
    args = ("--teacher-paths", workspace.teachers)
    rejected(train(data, tmp_path, *args), f"'{split}'", "is empty", data)


def test_empty_subset_for_generation(workspace, data):
    make_empty(data, "test")
    rejected(lambda: inprocess.generate(data, workspace.pd_send2), "'test'", "is empty", data)


@pytest.mark.skipif(not DROPS_A_LAST_BATCH, reason="this version of fairseq skips no sentence")
def test_subset_that_fairseq_skips_entirely(workspace):
    def call():
        inprocess.generate(
            workspace.data, workspace.pd_send2, "--required-batch-size-multiple", 44,
            "--batch-size", 44,
        )  # fmt: skip

    rejected(call, "43 of the 43", "--required-batch-size-multiple 1")


# losses that are not finite


@pytest.fixture
def step(workspace):
    """Build task, model and criterion; return them with a batch."""
    task, model, criterion = build(workspace.data, *DISTIL, "--teacher-paths", workspace.teachers)
    return task, model, criterion, batch(task, "valid", range(7))


def test_teacher_that_overflows(workspace, step):
    task, model, criterion, sample = step
    member = load(workspace.transformer)
    member.decoder.output_projection.weight.data *= 1e38
    task.teacher = EnsembleTeacher([member, load(workspace.lstm)], torch.float32)
    rejected(
        lambda: criterion(model, sample),
        "the teacher's predictions are not finite", "[2, 3, 4, 5, 6]…", "--teacher-dtype",
    )  # fmt: skip


@pytest.mark.parametrize("criterion", ["pd_send2", "send", "send2", "pd_send2_forward"])
def test_student_that_diverged(workspace, criterion):
    task, model, loss = build(
        workspace.data, *DISTIL, "--teacher-paths", workspace.teachers, "--criterion", criterion
    )
    model.decoder.output_projection.weight.data[7, 7] = math.nan
    sample = batch(task, "valid", range(2))
    message = rejected(
        lambda: loss(model, sample), "the student's logits are not finite", "[0, 1]", "--lr"
    )
    assert "…" not in message


def test_infinite_loss_of_finite_logits(workspace):
    task, model, criterion = build(
        workspace.data, *DISTIL, "--teacher-paths", workspace.teachers, "--criterion", "send2"
    )
    model.decoder.output_projection.weight.data *= 1e5
    sample = batch(task, "valid", range(2))
    rejected(lambda: criterion(model, sample), "the loss is not finite", "reach", "pd_send2")


# the same through the commands


@pytest.fixture(scope="module")
def failures(workspace, tmp_path_factory):
    root = tmp_path_factory.mktemp("failures")
    diverged = root / "diverged.pt"
    shutil.copy(workspace.transformer, diverged)
    edit(diverged, lambda saved: saved["model"]["encoder.embed_tokens.weight"].fill_(math.nan))
    data = Path(shutil.copytree(workspace.data, root / "data"))
    make_empty(data, "test")
    distil = [*DISTIL, "--teacher-paths", workspace.teachers]
    user_dir = ["--user-dir", commands.USER_DIR]

    def start_training(name, *args):
        argv = commands.train_args(workspace.data, root / name, *user_dir, *args, updates=3)
        return commands.start("fairseq-train", *argv)

    runs = {
        "missing teacher": lambda: start_training("a", *DISTIL, "--teacher-paths", "no.pt"),
        "wrong task": lambda: start_training("b", "--task", "translation", "--criterion", "send"),
        "diverged": lambda: start_training("c", *distil, "--finetune-from-model", diverged),
        "empty subset": lambda: commands.start(
            "fairseq-generate", *commands.generate_args(data, workspace.pd_send2, *user_dir)
        ),
    }
    results, names = {}, list(runs)
    for pair in (names[:2], names[2:]):
        processes = {name: runs[name]() for name in pair}
        results.update({name: commands.finish(p, check=False) for name, p in processes.items()})
    return results


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("missing teacher", ["no.pt", "--teacher-paths"]),
        ("wrong task", ["TranslationTask", "--task distill_translation"]),
        ("diverged", ["diverged.pt", "encoder.embed_tokens.weight"]),
        ("empty subset", ["'test'", "is empty"]),
    ],
)
def test_commands_end_with_one_line(failures, name, parts):
    result = failures[name]
    assert result.returncode == 1
    assert "Traceback" not in result.stdout + result.stderr
    last = result.stderr.rstrip("\n").splitlines()[-1]
    assert last.startswith("fairseq_pdd: error: ")
    assert (result.stdout + result.stderr).count("fairseq_pdd: error") == 1
    for part in parts:
        assert part in last
    assert not re.search('"(train|valid)_loss|"loss"|^H-', result.stdout, re.MULTILINE)
