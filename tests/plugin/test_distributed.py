"""Two processes train as one does on their joined batches: weights, and all logged values."""

import json
from pathlib import Path
from typing import Any, Dict, List

import pytest
import torch

from fairseq_pdd.transfer.cache_builder import build_cache
from fairseq_pdd.transfer.cache_inputs import CacheSettings

from ..bad_inputs import processes
from . import commands
from .inprocess import numbers, state

CASES = [(criterion, "online") for criterion in ("pd_send2", "pd_send2_forward", "send", "send2")]
# send2 needs each member's probabilities
CASES += [(criterion, "cached") for criterion, _ in CASES if criterion != "send2"]
# speeds, and the sizes of batches in validation, which fairseq counts per process
OTHERS = ("wps", "ups", "wpb", "bsz", "wall")


@pytest.fixture(scope="module")
def cache(workspace: Any, tmp_path_factory: Any) -> Path:
    folder: Path = tmp_path_factory.mktemp("cache") / "cache"
    build_cache(
        CacheSettings(
            data=workspace.data, checkpoints=tuple(workspace.teachers.split(":")),
            destdir=folder, subsets=("train", "valid"), topk=64, dtype="float32",
            teacher_dtype="float32", max_tokens=600, workers=1, cpu=True,
        )
    )  # fmt: skip
    return folder


def train(
    workspace: Any, folder: Path, count: int, updates: int, *args: Any
) -> List[Dict[str, Any]]:
    """Train in ``count`` processes; return what the first one logs."""
    started = []
    for rank in range(count):
        distributed = (
            "--distributed-world-size", count, "--distributed-rank", rank,
            "--distributed-no-spawn", "--distributed-backend", "gloo", "--ddp-backend",
            "legacy_ddp", "--distributed-init-method", f"file://{folder}/meeting",
        ) if count > 1 else ()  # fmt: skip
        options = commands.train_args(
            workspace.data, folder / "save", "--user-dir", commands.USER_DIR,
            "--task", "distill_translation", "--dropout", 0, "--attention-dropout", 0,
            # Adam's first steps have the same size for any gradient, and so for rounding errors
            "--optimizer", "sgd", "--lr", 0.05, "--clip-norm", 1, "--log-interval", 1,
            *distributed, *args, updates=updates,
        )  # fmt: skip
        outputs = folder / str(rank)
        outputs.mkdir(parents=True)
        before = "import os; os.environ['FAIRSEQ_PDD_COMPILE'] = '0'"
        started.append(processes.start(["fairseq-train", *options], outputs, before=before))
    for process in started:
        process.join(300)
    output = (folder / "0" / "stderr").read_text() + (folder / "0" / "stdout").read_text()
    assert [process.exitcode for process in started] == [0] * count, output[-3000:]
    return [
        json.loads(line[line.index("{") :]) for line in output.splitlines() if '{"epoch"' in line
    ]


def compared(log: List[Dict[str, Any]]) -> List[Dict[str, float]]:
    return [
        {k: float(v) for k, v in row.items() if k.rpartition("_")[2] not in OTHERS} for row in log
    ]


@pytest.mark.parametrize(("criterion", "source"), CASES)
def test_two_processes_train_as_one(
    workspace: Any, tmp_path: Path, request: Any, criterion: str, source: str
) -> None:
    if source == "online":
        teacher = ("--teacher-paths", workspace.teachers)
    else:
        teacher = ("--teacher-cache", request.getfixturevalue("cache"))
    # Batches of unequal numbers of tokens. At the end of an epoch, the second process has none. If
    # it had one in an earlier step of the same update, fairseq would not count its tokens.
    args = (*teacher, "--criterion", criterion, "--max-tokens", 250)
    steps, updates = (2, 3) if source == "cached" else (1, 9)
    one = train(workspace, tmp_path / "one", 1, updates, *args, "--update-freq", 2 * steps)
    two = train(workspace, tmp_path / "two", 2, updates, *args, "--update-freq", steps)
    assert len(one) >= updates + 2
    assert any("valid_loss" in row for row in one)
    for ours, expected in zip(compared(two), compared(one)):
        assert ours == pytest.approx(expected, rel=1e-3, abs=2e-3)
    assert len(two) == len(one)
    first, second = (
        numbers(state(tmp_path / name / "save" / "checkpoint_last.pt")["model"])
        for name in ("one", "two")
    )
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=1e-4, atol=1e-5)
