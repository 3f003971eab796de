"""fairseq's ``examples/speech_recognition`` is imported when it is needed, and only then."""

import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from fairseq import options

from ..plugin import commands, inprocess
from .recipes import VGG

REGISTER = """
import logging, sys
import fairseq.tasks
root = logging.getLogger()
before = root.level, list(root.handlers)
for stream in (sys.stdout, sys.stderr):
    print("fairseq is imported", file=stream, flush=True)

import fairseq_pdd.tasks
from fairseq.models import ARCH_MODEL_REGISTRY
from fairseq.tasks import TASK_REGISTRY
"""
NOT_IMPORTED = """
assert "distill_speech_recognition" in TASK_REGISTRY
assert "vggtransformer_1" not in ARCH_MODEL_REGISTRY
assert "examples.speech_recognition" not in sys.modules
"""
IMPORTED = """
assert "speech_recognition" in TASK_REGISTRY
assert "vggtransformer_1" in ARCH_MODEL_REGISTRY
"""


def interpret(script: str, *args: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a script in a new interpreter, whose ``sys.argv`` holds ``args``."""
    path = {"PYTHONPATH": str(commands.REPOSITORY), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, "-c", script, *args], capture_output=True, text=True,
        env={**os.environ, **path, **environment},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result


def test_registration_alone_imports_prints_and_configures_nothing() -> None:
    result = interpret(
        f"{REGISTER}{NOT_IMPORTED}assert (root.level, list(root.handlers)) == before", "--task",
        "distill_translation",
    )  # fmt: skip
    for text in (result.stdout, result.stderr):
        assert text.partition("fairseq is imported\n")[2] == ""


def test_our_import_of_fairseq_prints_and_configures_nothing() -> None:
    result = interpret(
        "import fairseq_pdd._fairseq, logging, sys; assert 'fairseq.tasks' in sys.modules; "
        "root = logging.getLogger(); assert (root.level, root.handlers) == (logging.WARNING, [])"
    )
    assert (result.stdout, result.stderr) == ("", "")


@pytest.mark.parametrize(
    "args",
    [
        ["--arch", "vggtransformer_1"],
        ["--task", "speech_recognition"],
        ["task=distill_speech_recognition"],
    ],
)
def test_a_command_line_that_names_the_example_has_it(args: "list[str]") -> None:
    interpret(REGISTER + IMPORTED, *args)


def test_a_missing_example_is_reported_to_a_command_that_names_it(tmp_path: Path) -> None:
    hide = (
        "import fairseq.tasks, fairseq_pdd.speech.examples as examples; "
        f"examples.fairseq.__file__ = {str(tmp_path / 'fairseq' / '__init__.py')!r}"
    )
    result = interpret(f"{hide}\n{REGISTER}{NOT_IMPORTED}", "--arch", "vggtransformer_1")
    assert "no --arch vggtransformer_*" in result.stderr
    assert "has no examples/speech_recognition" in result.stderr


def test_a_student_loads_without_being_named(workspace) -> None:
    interpret(
        f"{REGISTER}{NOT_IMPORTED}from fairseq import checkpoint_utils\n"
        f"path = {str(workspace.vgg_pd_send2)!r}\n"
        "_, _, task = checkpoint_utils.load_model_ensemble_and_task([path])\n"
        f"assert type(task).__name__ == 'ExampleSpeechRecognitionTask'\n{IMPORTED}"
    )


@pytest.mark.parametrize("format", ["args", "cfg"])
def test_members_of_the_example_load_without_being_named(workspace, tmp_path, format) -> None:
    """Checkpoints of fairseq's own task, in fairseq's old and new format."""
    saved = inprocess.state(workspace.vgg_members[0])
    args = ("--task", "speech_recognition", *VGG)
    if format == "args":
        argv = commands.train_args(workspace.lists, tmp_path, *args)
        parsed = options.parse_args_and_arch(options.get_training_parser(), argv)
        saved["cfg"], saved["args"] = None, Namespace(**vars(parsed))
    else:
        cfg = inprocess.training_config(workspace.lists, tmp_path, *args)
        saved["cfg"]["task"], saved["cfg"]["model"] = cfg.task, cfg.model
    path = tmp_path / "member.pt"
    torch.save(saved, path)
    interpret(
        f"{REGISTER}{NOT_IMPORTED}from fairseq_pdd.checkpoints.reading import read_config\n"
        f"cfg = read_config({str(path)!r})\n"
        f"assert cfg.task._name == 'speech_recognition'\n{IMPORTED}"
    )
