"""``fairseq-hydra-train`` and ``examples/hydra``: the numbers of the flags, errors in one line."""

import sys
from argparse import Namespace

import pytest
from fairseq import options
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY
from fairseq.models.transformer import TransformerConfig

from fairseq_pdd.speech.examples import import_if_named

from .hydra_runs import EXAMPLES, configuration, hydra_train, require_same_training
from .inprocess import load

NAME = "distill_translation"
FLAGS = (
    "--lr", 0.0005, "--lr-scheduler", "inverse_sqrt", "--warmup-updates", 4000,
    "--warmup-init-lr", 1e-7, "--adam-betas", "(0.9,0.98)", "--dropout", 0.3, "--attention-dropout",
    0.1,
)  # fmt: skip
# of the recipes, and of no option
SETTINGS = {
    "_name", "share_all_embeddings", "share_decoder_input_output_embed", "ctc_weight", "base_layers"
}  # fmt: skip
SEPARATE = "model.share_all_embeddings=false"
"""The text has two dictionaries."""


def test_the_numbers_are_those_of_the_flags(workspace, tmp_path):
    saved = require_same_training(
        NAME, workspace.data, workspace.teachers, tmp_path, 600, FLAGS,
        SEPARATE,
        "+task.measures_dirichlet=shifted", "+task.uncertainty_path=records.jsonl",
        "task.teacher_dtype=float32", "task.teacher_device=cpu", "+task.max_source_positions=99",
    )  # fmt: skip
    task = saved["cfg"]["task"]
    assert str(task["measures_dirichlet"]) == "shifted"
    assert task["uncertainty_path"] == "records.jsonl"
    assert task["max_source_positions"] == 99
    assert (str(task["teacher_dtype"]), str(task["teacher_device"])) == ("float32", "cpu")
    assert task["teacher_paths"] is None
    assert str(workspace.root) not in str({**saved["cfg"], "task": {**task, "data": None}})
    load(tmp_path / "hydra" / "checkpoints" / "checkpoint_last.pt", data=workspace.data)


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.yaml")))
def test_examples_hold_every_value_of_their_architecture(name):
    # with omegaconf 2.0, missing values of named architectures are None
    model = configuration(name)["model"]
    arch = model["_name"]
    import_if_named([arch])
    dropout = ["--dropout", str(model["dropout"])] if "dropout" in model else []
    argv = ["data", "--task", name, "--arch", arch, *dropout]
    expected = options.parse_args_and_arch(options.get_training_parser(), argv)
    named = Namespace()
    ARCH_CONFIG_REGISTRY[arch](named)
    for namespace in (expected, named):  # as these models do when they are built
        sys.modules[ARCH_MODEL_REGISTRY[arch].__module__].base_architecture(namespace)
    for key in model.keys() - SETTINGS:
        # fairseq 0.12.2 has no option for these two
        known = hasattr(expected, key) or not key.startswith(("conv_version", "conv_out"))
        assert not known or model[key] == getattr(expected, key), key
    for key in vars(named).keys() - model.keys() - {"input_channels"}:  # which the task sets
        default = transformer_default(key) if name == NAME else None
        assert (default or None) == (getattr(expected, key) or None), key


def transformer_default(key):
    """Return the value of fairseq's Transformer for an option that is None."""
    config = TransformerConfig()
    parts = {
        "encoder": config.encoder,
        "decoder": config.decoder,
        "quant_noise": config.quant_noise,
    }
    for prefix, part in parts.items():
        if key.startswith(f"{prefix}_"):
            return getattr(part, key[len(prefix) + 1 :], None)
    return getattr(config, key, None)


def rejected(tmp_path, *overrides):
    """Check that a training ends with one line; return it, and all of the command's errors."""
    result = hydra_train(NAME, tmp_path / "run", SEPARATE, *overrides, check=False)
    assert result.returncode == 1
    lines = result.stderr.strip().splitlines()
    assert lines[-1].startswith("fairseq_pdd: error: ")
    assert "Traceback" not in result.stdout + result.stderr
    return lines[-1], result.stderr


def test_no_teacher(workspace, tmp_path):
    line, errors = rejected(tmp_path, f"task.data={workspace.data}")
    assert "criterion pd_send2 needs an ensemble" in line
    # hydra's line before that of an exception
    assert "Error executing" not in errors


def test_missing_teacher(workspace, tmp_path):
    line, errors = rejected(
        tmp_path, f"task.data={workspace.data}", f"task.teacher_paths={tmp_path}/no.pt"
    )
    assert f"checkpoint not found: {tmp_path}/no.pt" in line
    assert "Error executing" not in errors


def test_unknown_option(workspace, tmp_path):
    line, _ = rejected(tmp_path, f"task.data={workspace.data}", "+task.teacher_path=no.pt")
    assert "teacher_path" in line
    assert "DistillTranslationConfig" in line


def test_unknown_model(workspace, tmp_path):
    line, errors = rejected(tmp_path, f"task.data={workspace.data}", "model._name=transfomer")
    assert "model._name is transfomer" in line
    assert "--arch" in line
    assert "Error executing" not in errors


def test_relative_path(workspace, tmp_path, monkeypatch):
    monkeypatch.chdir(workspace.root)
    line, errors = rejected(tmp_path, f"task.data={workspace.data.name}")
    assert f"task.data has the relative path {workspace.data.name}" in line
    assert line.endswith(f"give {workspace.data}")
    assert "Error executing" not in errors
