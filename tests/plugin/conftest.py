"""The workspace of the plugin's tests: data, teachers and students, made once per run."""

import fcntl
import os
from pathlib import Path

import pytest
import torch

from . import commands, synthetic


def pytest_configure(config: pytest.Config) -> None:
    # warnings of fairseq's use of old interfaces of hydra and torch
    config.addinivalue_line("filterwarnings", "ignore::UserWarning:hydra")
    config.addinivalue_line("filterwarnings", "ignore:(?s).*validated against ConfigStore schema")
    config.addinivalue_line("filterwarnings", "ignore:Support for mismatched key_padding_mask")
    config.addinivalue_line("filterwarnings", "ignore:'pin_memory' argument is set as true")


class Workspace:
    """Paths of the data and models that ``fairseq-*`` commands make."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.text, self.data = root / "text", root / "bin"
        self.transformer = root / "transformer" / "checkpoint_best.pt"
        self.lstm = root / "lstm" / "checkpoint_best.pt"
        self.teachers = f"{self.transformer}:{self.lstm}"
        self.pd_send2 = root / "pd_send2" / "checkpoint_best.pt"
        self.send = root / "send" / "checkpoint_best.pt"

    def log(self, name: str) -> str:
        """Return the output of a model's training."""
        return (self.root / f"{name}.log").read_text(encoding="utf-8")

    def build(self) -> None:
        """Make everything: five commands, two at a time."""
        synthetic.write_corpus(self.text)
        commands.preprocess(self.text, self.data)
        self._train({"transformer": [], "lstm": ["--arch", "lstm", "--lr", 0.01]}, 300)
        distil = ["--task", "distill_translation", "--teacher-paths", self.teachers]
        self._train(
            {
                # the defaults of fairseq's trainer, except for the options of the method
                "pd_send2": [*distil, "--criterion", "pd_send2", "--update-freq", 2],
                "send": [*distil, "--criterion", "send", "--update-freq", 2],
            },
            120,
        )

    def _train(self, models: "dict[str, list[object]]", updates: int) -> None:
        processes = {
            name: commands.start(
                "fairseq-train",
                *commands.train_args(
                    self.data, self.root / name, "--user-dir", commands.USER_DIR, *args,
                    updates=updates,
                ),
            )
            for name, args in models.items()
        }  # fmt: skip
        for name, process in processes.items():
            result = commands.finish(process)
            (self.root / f"{name}.log").write_text(result.stdout, encoding="utf-8")


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    root = base / "plugin-workspace"
    root.mkdir(exist_ok=True)
    made = Workspace(root)
    # workers of pytest-xdist share the folder; the first one fills it
    with open(root / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / "complete").exists():
            made.build()
            (root / "complete").touch()
    return made


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
