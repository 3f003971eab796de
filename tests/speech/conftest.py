"""Workspace that the speech tests share: data, teachers and students, made once per run."""

import fcntl
import os
import shutil
from pathlib import Path

import pytest
import torch

from fairseq_pdd.speech.examples import import_speech_recognition

from ..plugin import inprocess
from . import spoken
from .recipes import DISTIL_S2T, DISTIL_VGG, PD_SEND2, S2T

# These tests name vggtransformer in arguments of functions, not of the process.
import_speech_recognition()


def pytest_configure(config: pytest.Config) -> None:
    # old interfaces of torch, torchaudio and fairseq
    config.addinivalue_line("filterwarnings", "ignore::UserWarning")


class Workspace:
    """Paths of data and models."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tables, self.lists = root / "tables", root / "lists"
        self.members = [root / name / "checkpoint_best.pt" for name in ("one", "two")]
        self.vgg_members = [root / name / "checkpoint_best.pt" for name in ("vgg_one", "vgg_two")]
        self.teachers = ":".join(map(str, self.members))
        self.vgg_teachers = ":".join(map(str, self.vgg_members))
        self.pd_send2 = root / "pd_send2" / "checkpoint_last.pt"
        self.vgg_pd_send2 = root / "vgg_pd_send2" / "checkpoint_last.pt"

    def build(self) -> None:
        """Make everything, in this process."""
        spoken.write_tables(self.tables)
        spoken.write_lists(self.lists)
        ordinary = ("--criterion", "label_smoothed_cross_entropy")
        for seed, member in enumerate(self.members, 1):
            # members of fairseq's own task
            args = ("--task", "speech_to_text", *S2T, *ordinary, "--seed", seed)
            inprocess.train(self.tables, member.parent, *args, updates=120)
        for seed, member in enumerate(self.vgg_members, 1):
            args = (*DISTIL_VGG, *ordinary, "--seed", seed)
            inprocess.train(self.lists, member.parent, *args, updates=40)
        args = (*DISTIL_S2T, *PD_SEND2, self.teachers)
        inprocess.train(self.tables, self.pd_send2.parent, *args, updates=80)
        args = (*DISTIL_VGG, *PD_SEND2, self.vgg_teachers)
        inprocess.train(self.lists, self.vgg_pd_send2.parent, *args, updates=20)


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    root = base / "speech-workspace"
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


@pytest.fixture
def tables(workspace: Workspace, tmp_path: Path) -> Path:
    """Manifests that a test may change; the features are those of the workspace."""
    return Path(shutil.copytree(workspace.tables, tmp_path / "tables"))


@pytest.fixture
def lists(workspace: Workspace, tmp_path: Path) -> Path:
    """Lists that a test may change; the audio is that of the workspace."""
    return Path(
        shutil.copytree(workspace.lists, tmp_path / "lists", ignore=shutil.ignore_patterns("audio"))
    )
