"""A training that is killed and started again equals an uninterrupted one, bit for bit."""

import time

import pytest
import torch
from fairseq import tasks

from fairseq_pdd.transfer.cache_builder import build_cache
from fairseq_pdd.transfer.cache_inputs import CacheSettings

from ..bad_inputs import processes
from . import commands
from .inprocess import numbers, state, training_config

UPDATES, INTERVAL = 24, 10


def command(workspace, save_dir, *args):
    options = commands.train_args(
        workspace.data, save_dir, "--user-dir", commands.USER_DIR, "--task", "distill_translation",
        "--criterion", "pd_send2", "--save-interval-updates", INTERVAL, *args, updates=UPDATES,
    )  # fmt: skip
    return ["fairseq-train", *options]


def train(command, folder):
    ended = processes.run(command, folder)
    assert ended.status == 0, ended.stderr[-3000:]


def train_until_killed(command, folder, save_dir):
    """Send SIGKILL once there is a checkpoint in the middle of the second or a later epoch."""
    process = processes.start(command, folder)
    interval, last = "checkpoint_*_*.pt", save_dir / "checkpoint_last.pt"
    while process.is_alive() and not (list(save_dir.glob(interval)) and last.exists()):
        time.sleep(0.005)
    process.kill()
    process.join()
    assert process.exitcode == -9
    (path,) = save_dir.glob(interval)
    assert not path.name.startswith("checkpoint_1_")
    assert state(path)["extra_state"]["train_iterator"]["iterations_in_epoch"] > 0
    # the copy may be incomplete, as it is written after this file
    last.write_bytes(path.read_bytes())


def parts(path):
    """Return the tensors of model and optimiser by name, and fairseq's best loss."""
    saved = state(path)
    moments = saved["last_optimizer_state"]["state"]
    tensors = {f"{key} {name}": m[name] for key, m in moments.items() for name in m}
    return {**numbers(saved["model"]), **tensors, "best": saved["extra_state"]["best"]}


@pytest.fixture(scope="module")
def cache(workspace, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache") / "cache"
    build_cache(
        CacheSettings(
            data=workspace.data, checkpoints=tuple(workspace.teachers.split(":")),
            destdir=folder, subsets=("train", "valid"), topk=8, dtype="float32",
            teacher_dtype="float32", max_tokens=600, workers=1, cpu=True,
        )
    )  # fmt: skip
    return folder


@pytest.mark.parametrize("source", ["online", "cached"])
def test_a_killed_training_continues_as_if_it_had_not_been(source, request, workspace, tmp_path):
    args = {
        "online": lambda: ("--teacher-paths", workspace.teachers, "--num-workers", 1),
        "cached": lambda: (
            "--teacher-cache", request.getfixturevalue("cache"), "--arch", "lstm",
            "--update-freq", 2, "--data-buffer-size", 2, "--max-tokens", 200,
        ),
    }[source]()  # fmt: skip
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train(command(workspace, whole, *args), tmp_path)
    train_until_killed(command(workspace, killed, *args), tmp_path, killed)
    train(command(workspace, killed, *args), tmp_path)
    expected, got = (parts(folder / "checkpoint_last.pt") for folder in (whole, killed))
    assert got.keys() == expected.keys()
    assert expected["best"] == got.pop("best")
    for key, value in got.items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(expected[key])), key


def batches(workspace, name, epoch, **options):
    """Return the batches of the first process of a training, which starts in an epoch."""
    task = tasks.setup_task(training_config(workspace.data, "unused", "--task", name).task)
    task.load_dataset("train")
    dataset = task.dataset("train")
    iterator = task.get_batch_iterator(dataset, max_tokens=600, epoch=epoch, **options)
    return [batch.tolist() for batch in iterator.frozen_batches]


def test_batches_do_not_depend_on_the_epoch_in_which_training_starts(workspace):
    first = batches(workspace, "distill_translation", 1)
    assert batches(workspace, "distill_translation", 5) == first
    # fairseq's own task: the same in an uninterrupted training; in most versions, others after a
    # resume
    assert batches(workspace, "translation", 1) == first


@pytest.mark.parametrize("epoch", [1, 5])
def test_batches_that_fairseq_composes_in_each_epoch_are_fairseqs(epoch, workspace):
    ours, fairseqs = (
        batches(workspace, name, epoch, update_epoch_batch_itr=True)
        for name in ("distill_translation", "translation")
    )
    assert ours == fairseqs
