"""``fairseq-train`` with every criterion and number type that the package supports."""

import json
import math

import pytest
import sacrebleu
import torch

from . import inprocess, naive
from .inprocess import batch, load

TEACHER = {
    f"teacher_{name}"
    for name in ("total", "data", "mutual_information", "epkl", "rmi", "log_precision")
}
STUDENT = {name.replace("teacher", "student") for name in TEACHER}
COMMON = {"loss", "nll_loss", "ppl"} | TEACHER


def distil(workspace, save_dir, criterion, *args, **kwargs):
    return inprocess.train(
        workspace.data, save_dir, "--task", "distill_translation", "--criterion", criterion,
        "--teacher-paths", workspace.teachers, "--update-freq", 2, *args, **kwargs,
    )  # fmt: skip


def logged(workspace, name, kind):
    lines = [line.split(" | ")[-1] for line in workspace.log(name).splitlines()]
    return [
        {key.replace(f"{kind}_", "", 1): value for key, value in json.loads(line).items()}
        for line in lines
        if line.startswith("{") and f'"{kind}_loss"' in line
    ]


def strip(values, prefix):
    return {key.replace(prefix, "", 1): value for key, value in values.items()}


def check_relations(values):
    """Check the relations between logged values, which are rounded to 3 decimals or more."""
    values = {key: float(value) for key, value in values.items()}
    assert values["ppl"] == pytest.approx(2 ** values["nll_loss"], rel=1e-3, abs=8e-3)
    for owner in ("teacher", "student"):
        if f"{owner}_rmi" in values:
            names = ("total", "data", "mutual_information", "epkl", "rmi")
            total, data, information, epkl, rmi = (values[f"{owner}_{name}"] for name in names)
            assert information == pytest.approx(total - data, rel=1e-4, abs=2e-3)
            assert epkl == pytest.approx(information + rmi, rel=1e-4, abs=2e-3)
            assert min(data, information, rmi) >= 0
            assert math.isfinite(values[f"{owner}_log_precision"])


@pytest.mark.parametrize("name", ["pd_send2", "send"])
@pytest.mark.parametrize("kind", ["train", "valid"])
def test_every_epoch_logs_every_measure(workspace, name, kind):
    expected = COMMON | (STUDENT if name == "pd_send2" else {"student_total"})
    epochs = logged(workspace, name, kind)
    assert len(epochs) > 10
    for values in epochs:
        assert expected <= values.keys()
        assert math.isfinite(float(values["loss"]))
        check_relations(values)
    assert not {key for key in epochs[0] if key.startswith("student_")} - expected


@pytest.mark.parametrize("name", ["pd_send2", "send"])
def test_students_approach_their_teacher(workspace, name):
    epochs = logged(workspace, name, "valid")
    assert float(epochs[-1]["loss"]) < float(epochs[0]["loss"]) - 0.5
    assert float(epochs[-1]["ppl"]) < float(epochs[0]["ppl"]) / 4


@pytest.mark.parametrize("name", ["pd_send2", "send"])
def test_validation_logs_the_values_of_the_formulas(workspace, name):
    student = load(workspace.root / name / "checkpoint_last.pt").double()
    members = [load(workspace.transformer).double(), load(workspace.lstm).double()]
    sample = batch(inprocess.task_for(workspace.data), "valid")
    sums = naive.logged_sums(name, student, members, sample, offset=1.0)
    values = logged(workspace, name, "valid")[-1]
    for key in COMMON | STUDENT:
        if key == "ppl" or key not in sums:
            continue
        mean = sums[key] / sums["ntokens"]
        if key == "nll_loss":
            mean /= math.log(2)
        assert float(values[key]) == pytest.approx(mean, rel=1e-4, abs=6e-4), key
    nll = sums["nll_loss"] / sums["ntokens"]
    assert float(values["ppl"]) == pytest.approx(math.exp(nll), rel=2e-3)


@pytest.mark.parametrize("criterion", ["pd_send2", "send", "send2", "pd_send2_forward"])
def test_criterions_train(workspace, tmp_path, criterion):
    offset = [] if criterion == "send" else ["--offset", 0.5]
    logs = distil(workspace, tmp_path, criterion, *offset, updates=6)
    values = strip(logs.valid[-1], "valid_")
    expected = COMMON | (STUDENT if criterion != "send" else {"student_total"})
    assert expected <= values.keys()
    assert all(math.isfinite(v) for v in values.values())
    check_relations(values)
    assert values["num_updates"] == 6
    saved = inprocess.state(tmp_path / "checkpoint_last.pt")["task_state"]
    assert saved["prior_network"] == (None if criterion == "send" else {"offset": 0.5})
    assert saved["languages"] == ("xx", "yy")


@pytest.mark.parametrize(
    ("args", "bf16"),
    [
        # fairseq requires a GPU for flat gradients
        (["--fp16", "--fp16-no-flatten-grads"], False),
        (["--memory-efficient-fp16"], False),
        (["--fp16-no-flatten-grads"], True),
        (["--teacher-dtype", "bfloat16"], False),
        (["--fp16", "--fp16-no-flatten-grads", "--teacher-dtype", "float32"], False),
    ],
)
def test_number_types(workspace, tmp_path, args, bf16):
    wide = distil(workspace, tmp_path / "wide", "pd_send2", updates=3)
    narrow = distil(workspace, tmp_path / "narrow", "pd_send2", *args, updates=3, bf16=bf16)
    for key, value in wide.valid[-1].items():
        if "wps" not in key:
            assert narrow.valid[-1][key] == pytest.approx(value, rel=0.02, abs=0.02), key
    weights = inprocess.state(tmp_path / "narrow" / "checkpoint_last.pt")["model"]
    assert all(torch.isfinite(w).all() for w in inprocess.numbers(weights).values())


def test_validation_bleu_is_that_of_generation(workspace, tmp_path):
    logs = distil(
        workspace, tmp_path, "pd_send2", "--eval-bleu", "--eval-bleu-args",
        '{"beam": 2, "max_len_b": 10}', "--best-checkpoint-metric", "bleu",
        "--maximize-best-checkpoint-metric", "--finetune-from-model", workspace.transformer,
        "--lr", 1e-9, updates=2,
    )  # fmt: skip
    # at this learning rate the student is still the model that it starts from
    output = inprocess.generate(
        workspace.data, workspace.transformer, "--gen-subset", "valid", "--beam", 2,
        "--max-len-b", 10,
    )  # fmt: skip
    texts = {line.split("\t")[0]: line.split("\t")[-1] for line in output if line[1:2] == "-"}
    numbers = range(sum(name.startswith("T-") for name in texts))
    hypotheses, references = ([texts[f"{kind}-{n}"] for n in numbers] for kind in "DT")
    expected = sacrebleu.corpus_bleu(hypotheses, [references]).score
    assert expected > 10
    assert logs.valid[-1]["valid_bleu"] == pytest.approx(expected, abs=0.02)


def test_a_task_with_an_ordinary_criterion_needs_no_teacher(workspace, tmp_path):
    logs = inprocess.train(
        workspace.data, tmp_path, "--task", "distill_translation",
        "--criterion", "label_smoothed_cross_entropy",
    )  # fmt: skip
    sample = batch(inprocess.task_for(workspace.data), "valid")
    mask = sample["target"].ne(naive.PAD)
    with torch.no_grad():
        logits = load(tmp_path / "checkpoint_last.pt")(**sample["net_input"])[0][mask]
    expected = torch.nn.functional.cross_entropy(logits, sample["target"][mask]).item()
    assert logs.valid[-1]["valid_loss"] == pytest.approx(expected / math.log(2), abs=1e-3)
    saved = inprocess.state(tmp_path / "checkpoint_last.pt")["task_state"]
    assert saved["prior_network"] is None


@pytest.mark.parametrize("arch", ["lstm", "fconv"])
def test_other_architectures_become_students(workspace, tmp_path, arch):
    logs = distil(workspace, tmp_path, "pd_send2", "--arch", arch)
    student = load(tmp_path / "checkpoint_last.pt").double()
    sample = batch(inprocess.task_for(workspace.data), "valid")
    with torch.no_grad():
        logits = student(**sample["net_input"])[0][sample["target"].ne(naive.PAD)]
    rmi = [naive.dirichlet_measures(z.exp())["rmi"] for z in logits]
    expected = sum(rmi) / len(rmi)
    assert logs.valid[-1]["valid_student_rmi"] == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_epochs_shorter_than_the_log_interval_still_log_measures(workspace, tmp_path):
    logs = distil(workspace, tmp_path, "pd_send2", "--log-interval", 1000, updates=10)
    assert len(logs.train) > 1
    for epoch in logs.train:
        values = strip(epoch, "train_")
        assert values.keys() >= COMMON | STUDENT
        check_relations(values)
