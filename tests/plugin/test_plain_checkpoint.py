"""``fairseq-pdd plain-checkpoint``: files that fairseq loads without this package."""

import io
import json
import os
import pickletools
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, Dict, Iterator, List, Set

import pytest
import torch
from typer.testing import CliRunner

import fairseq_pdd
from fairseq_pdd.cli.main import app
from fairseq_pdd.errors import UsageError
from fairseq_pdd.models.prior_network import prior_network_offset

from .. import unfused
from . import inprocess
from .inprocess import load, numbers, state
from .test_checkpoints import lines, strings

# runs commands and a hub interface of fairseq in a process that never imports this package
STOCK = """
import json, sys
from importlib import import_module
import torch
import unfused
torch.set_num_threads(1)
plan = json.loads(sys.argv[1])
for name, command in plan["commands"].items():
    print("RUN", name, flush=True)
    sys.argv = command
    import_module(f"fairseq_cli.{command[0]}").cli_main()
print("RUN hub", flush=True)
from fairseq.models.transformer import TransformerModel
hub = TransformerModel.from_pretrained(plan["folder"], "pd_send2.pt", plan["data"])
found = hub.generate([hub.encode(line) for line in plan["lines"]], beam=3)
print(json.dumps([[h["tokens"].tolist(), h["positional_scores"].tolist()] for (h, *_) in found]))
assert not any(name.startswith("fairseq_pdd") for name in sys.modules)
"""
MODELS = ("pd_send2", "send", "lstm", "fconv", "with_bleu")
GENERATION = ("--beam", 3, "--nbest", 2)
HUB = "hub"


def write(*args: Any) -> Any:
    """Run ``fairseq-pdd plain-checkpoint``."""
    return CliRunner().invoke(app, ["plain-checkpoint", *map(str, args)])


def globals_of(path: Path) -> Set[str]:
    """Return what the pickle in a checkpoint calls."""
    with zipfile.ZipFile(path) as file:
        (name,) = [name for name in file.namelist() if name.endswith("/data.pkl")]
        operations = pickletools.genops(io.BytesIO(file.read(name)))
        return {str(arg).replace(" ", ".") for code, arg, _ in operations if code.name == "GLOBAL"}


@pytest.fixture(scope="module")
def originals(workspace: Any, tmp_path_factory: pytest.TempPathFactory) -> Dict[str, Path]:
    """Return checkpoints by name, of each kind of configuration."""
    root = tmp_path_factory.mktemp("originals")
    inprocess.train(workspace.data, root / "fconv", "--arch", "fconv")
    inprocess.train(
        workspace.data, root / "with_bleu", "--task", "distill_translation", "--criterion",
        "pd_send2", "--teacher-paths", workspace.teachers,
        "--finetune-from-model", workspace.transformer,
        "--eval-bleu", "--eval-bleu-detok", "space",
        "--eval-bleu-args", '{"beam": 1, "max_len_b": 9}',
    )  # fmt: skip
    return {
        **{name: getattr(workspace, name) for name in ("pd_send2", "send", "lstm")},
        **{name: root / name / "checkpoint_last.pt" for name in ("fconv", "with_bleu")},
    }


@pytest.fixture(scope="module")
def plain(originals: Dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Dict[str, Path]:
    """Return the plain checkpoints by the same names."""
    root = tmp_path_factory.mktemp("plain")
    for name, path in originals.items():
        result = write(path, root / f"{name}.pt")
        assert result.exit_code == 0, result.output
    return {name: root / f"{name}.pt" for name in originals}


@pytest.fixture(scope="module")
def stock(workspace: Any, plain: Dict[str, Path]) -> Dict[str, List[str]]:
    """Return the output of fairseq without this package, by name."""
    generate: Dict[str, List[Any]] = {
        name: [
            "generate", workspace.data, "--task", "translation", "--path", path, "--cpu",
            *GENERATION, "--max-tokens", 2000, "--required-batch-size-multiple", 1,
            "--num-workers", 0,
        ]
        for name, path in plain.items()
    }  # fmt: skip
    others: Dict[str, List[Any]] = {
        "interactive": [
            "interactive", workspace.data, "--task", "translation", "--path", plain["pd_send2"],
            "--cpu", *GENERATION, "--input", workspace.text / "test.xx",
        ],
        "validate": [
            "validate", workspace.data, "--task", "translation", "--path", plain["pd_send2"],
            "--cpu", "--max-tokens", 600,
        ],
    }  # fmt: skip
    plan = {
        "commands": {k: list(map(str, v)) for k, v in {**generate, **others}.items()},
        "folder": str(plain["pd_send2"].parent),
        "data": str(workspace.data),
        "lines": sources(workspace),
    }
    result = subprocess.run(
        [sys.executable, "-c", STOCK, json.dumps(plan)], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(unfused.__file__).parent)},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-6000:]
    return dict(sections(result.stdout))


def sources(workspace: Any) -> List[str]:
    return (workspace.text / "test.xx").read_text(encoding="utf-8").splitlines()[:9]


def sections(text: str) -> Iterator[Any]:
    for part in text.split("RUN ")[1:]:
        name, _, output = part.partition("\n")
        yield name, output.splitlines()


@pytest.mark.parametrize("name", MODELS)
def test_fairseq_alone_generates_the_same(workspace, originals, stock, name):
    expected = lines(inprocess.generate(workspace.data, originals[name], *GENERATION))
    assert len([line for line in expected if line.startswith("H-")]) == 2 * 43
    assert lines(stock[name]) == expected
    assert [line for line in stock[name] if line.startswith("Generate")]


def test_fairseq_interactive_alone_gives_the_same(workspace, stock):
    expected = lines(
        inprocess.interactive(
            workspace.data, workspace.pd_send2, workspace.text / "test.xx", "--nbest", 2
        )
    )
    assert len([line for line in expected if line.startswith("H-")]) == 2 * 43
    assert lines(stock["interactive"]) == expected


def test_fairseq_validate_alone_gives_a_loss(stock):
    (line,) = [line for line in stock["validate"] if "valid on 'valid' subset" in line]
    assert re.search(r"\| loss \d+\.\d+ ", line)


def test_from_pretrained_gives_the_same_to_the_last_bit(workspace, stock):
    found = json.loads(stock[HUB][-1])
    model = fairseq_pdd.load(workspace.pd_send2, workspace.data)
    expected = model.generate([model.encode(line) for line in sources(workspace)], beam=3)
    assert found == [
        [h["tokens"].tolist(), h["positional_scores"].tolist()] for (h, *_) in expected
    ]


@pytest.mark.parametrize("name", MODELS)
def test_the_weights_are_the_same(originals, plain, name):
    before, after = (numbers(state(p[name])["model"]) for p in (originals, plain))
    assert list(before) == list(after)
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("name", MODELS)
def test_it_holds_plain_values_and_no_names_of_ours(plain, name):
    assert all(
        re.match(r"(torch|collections)\.|_codecs\.encode", g) for g in globals_of(plain[name])
    )
    found = list(strings(state(plain[name])["cfg"]))
    for name_of_ours in ("distill_", "pd_send2", "teacher_", "measures_", "uncertainty_"):
        assert not [s for s in found if name_of_ours in s and "/" not in s]
    for folder in ("fairseq_pdd", "transformer/checkpoint"):
        assert not [s for s in found if folder in s]


@pytest.mark.parametrize(("name", "offset"), [("pd_send2", 1.0), ("send", None), ("lstm", None)])
def test_this_package_still_knows_a_prior_network(workspace, plain, name, offset):
    assert prior_network_offset(load(plain[name], inprocess.task_for(workspace.data))) == offset
    output = fairseq_pdd.load(plain[name], workspace.data).translate(sources(workspace)[:1])[0]
    assert (output.sequence["rmi"] is not None) == (name == "pd_send2")


def test_the_optimizers_state_is_kept_on_request(workspace, tmp_path):
    for option in ([], ["--optimizer"]):
        path = tmp_path / f"checkpoint{len(option)}.pt"
        assert write(workspace.transformer, path, *option).exit_code == 0
        assert ("last_optimizer_state" in state(path)) == bool(option)
    before, after = state(workspace.transformer), state(path)
    assert before["optimizer_history"] == after["optimizer_history"]
    moments = [s["last_optimizer_state"]["state"][0]["exp_avg"] for s in (before, after)]
    assert torch.equal(*moments)


def test_a_training_starts_from_a_plain_checkpoint(workspace, plain, tmp_path):
    inprocess.train(workspace.data, tmp_path, "--finetune-from-model", plain["pd_send2"])
    assert (tmp_path / "checkpoint_last.pt").exists()


def test_an_older_file_survives_a_failure(workspace, tmp_path):
    path = tmp_path / "plain.pt"
    path.write_text("older")
    (tmp_path / "cut.pt").write_bytes(workspace.lstm.read_bytes()[:9999])
    result = write(tmp_path / "cut.pt", path)
    assert "damaged" in str(result.exception)
    assert path.read_text() == "older"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["cut.pt", "plain.pt"]


def test_a_value_without_a_plain_form_is_refused(workspace, tmp_path):
    from fairseq.data import Dictionary

    changed = {**state(workspace.lstm), "task_state": {"target_dictionary": Dictionary()}}
    torch.save(changed, tmp_path / "speech.pt")
    with pytest.raises(UsageError, match=r"speech\.pt holds a Dictionary"):
        commands_in_this_process(tmp_path / "speech.pt", tmp_path / "plain.pt")


def commands_in_this_process(*paths: Path) -> None:
    from fairseq_pdd.cli.plain_checkpoint import plain_checkpoint

    plain_checkpoint(*paths, optimizer=False)
