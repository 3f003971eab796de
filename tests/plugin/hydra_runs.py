"""Functions that run ``fairseq-hydra-train`` with the configurations of ``examples/hydra``."""

import json
import shutil
from pathlib import Path
from typing import Any, Dict, List

import torch
from omegaconf import OmegaConf

from . import inprocess
from .commands import _ARCHITECTURES, REPOSITORY, USER_DIR, run

EXAMPLES = REPOSITORY / "examples" / "hydra"
UPDATES = 4
# the settings of `commands.train_args` and what makes a training of the examples small
_SMALL = {
    "common.user_dir": USER_DIR,
    "common.cpu": "true",
    "common.fp16": "false",
    "common.no_progress_bar": "true",
    "common.log_interval": 2,
    "dataset.num_workers": 0,
    "dataset.data_buffer_size": 0,
    "optimization.max_update": UPDATES,
    "optimization.update_freq": "[2]",
    "criterion.no_compile": "true",
}
FLAGS = ("--criterion", "pd_send2", "--no-compile", "--update-freq", 2, "--log-interval", 2)
"""The same as flags, with what all examples have in common."""
# fairseq 0.12.2 saves this buffer as it was allocated
_NOT_SET = "_float_tensor"
_TIMES = ("wall", "train_wall", "wps", "ups")


def configuration(name: str) -> Any:
    """Read an example, and resolve its interpolations."""
    return OmegaConf.to_container(OmegaConf.load(EXAMPLES / f"{name}.yaml"), resolve=True)


def hydra_train(name: str, run_dir: Path, *overrides: str, check: bool = True) -> Any:
    """Run a small training of an example; ``overrides`` are those of the command line.

    The file is a copy with another name, as a user's is.
    """
    run_dir.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(EXAMPLES / f"{name}.yaml", run_dir.parent / "own.yaml")
    return run(
        "fairseq-hydra-train", "--config-dir", run_dir.parent, "--config-name", "own",
        f"hydra.run.dir={run_dir}", *(f"{key}={value}" for key, value in _SMALL.items()),
        *_small_model(configuration(name)["model"]), *overrides, check=check,
    )  # fmt: skip


def _small_model(model: Dict[str, Any]) -> List[str]:
    """Return the options of the tests' small model as overrides."""
    options = _ARCHITECTURES[model["_name"]]
    overrides = []
    for flag, value in zip(options[::2], options[1::2]):
        key = str(flag)[2:].replace("-", "_")
        quote = "'" if isinstance(model[key], str) else ""
        overrides.append(f"model.{key}={quote}{value}{quote}")
    return overrides


def require_same_training(
    name: str, data: Path, teachers: str, folder: Path, max_tokens: int, flags: Any, *more: str
) -> Dict[str, Any]:
    """Train by hydra and by flags; compare logs and weights exactly.

    Args:
        name: example.
        data: data folder.
        teachers: checkpoints, joined with ':'.
        folder: folder for the students.
        max_tokens: tokens of a batch.
        flags: settings of the example as flags of fairseq-train.
        more: further overrides.

    Returns:
        The checkpoint of the training by hydra.
    """
    result = hydra_train(
        name, folder / "hydra", f"task.data={data}", f"task.teacher_paths={teachers}",
        f"dataset.max_tokens={max_tokens}", *more,
    )  # fmt: skip
    expected = inprocess.train(
        data, folder / "flags", *FLAGS, "--task", name, "--teacher-paths", teachers,
        "--arch", configuration(name)["model"]["_name"], "--max-tokens", max_tokens, *flags,
        updates=UPDATES,
    )  # fmt: skip
    for kind, lines in (("train", expected.train), ("valid", expected.valid)):
        logged = [
            json.loads(line.partition("- ")[2])
            for line in result.stdout.splitlines()
            if f"[{kind}][INFO] - {{" in line
        ]
        assert len(lines) > 0
        assert list(map(_numbers, logged)) == list(map(_numbers, lines))
    ours, theirs = (
        inprocess.state(folder / way / "checkpoint_last.pt")
        for way in ("hydra/checkpoints", "flags")
    )
    assert ours["model"].keys() == theirs["model"].keys()
    for key, value in theirs["model"].items():
        assert torch.equal(value, ours["model"][key]) or key.endswith(_NOT_SET), key
    assert ours["task_state"] == theirs["task_state"]
    return ours


def _numbers(log: Dict[str, Any]) -> Dict[str, float]:
    return {
        key: float(value)
        for key, value in log.items()
        if value is not None and not key.endswith(_TIMES)
    }
