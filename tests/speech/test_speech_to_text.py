"""``distill_speech_to_text``: training, generation, teacher cache, against naive computations."""

import json
import math
import re
import sys
from pathlib import Path

import jiwer
import pytest
import torch

from fairseq_pdd.errors import UsageError
from fairseq_pdd.transfer.cache_builder import build_cache
from fairseq_pdd.transfer.cache_inputs import CacheSettings

from ..plugin import commands, inprocess, naive
from ..plugin.inprocess import batch, build, load
from . import spoken
from .recipes import DISTIL_S2T, PD_SEND2

BEAM = ("--max-len-b", 20)


def frames(dataset, index):
    """Return the features of an utterance, as a task gives them to a model."""
    return dataset[index].source.double()


def targets(sample):
    return [row[row.ne(naive.PAD)] for row in sample["target"]]


def generate(data, path, *args):
    return inprocess.generate(data, path, "--task", "distill_speech_to_text", *BEAM, *args)


@pytest.fixture(scope="module")
def generated(workspace, tmp_path_factory):
    """Records of the student and of the ensemble on the test set, and what fairseq printed."""
    found = {}
    for name, path in (("student", workspace.pd_send2), ("ensemble", workspace.teachers)):
        file = tmp_path_factory.mktemp("records") / f"{name}.jsonl"
        output = generate(
            workspace.tables, path, "--uncertainty-path", file, "--scoring", "wer", "--nbest", 2
        )
        found[name] = [json.loads(line) for line in file.read_text("utf-8").splitlines()], output
    return found


def test_student_and_teacher_see_the_same_augmented_features(workspace):
    args = (*DISTIL_S2T, *PD_SEND2, workspace.teachers)
    task, student, criterion = build(workspace.tables, *args)
    seen = []

    def look(module, inputs, kwargs):
        seen.append((kwargs or inputs)["src_tokens"].clone())

    for model in (student, *task.teacher.members):
        model.register_forward_pre_hook(look, with_kwargs=True)
    criterion(student, batch(task, "train", range(8)))
    ours, *theirs = seen
    assert len(theirs) == 2
    assert all(torch.equal(ours, their) for their in theirs)
    # augmented: the next batch of the same utterances differs
    criterion(student, batch(task, "train", range(8)))
    assert not torch.equal(ours, seen[3])


@pytest.mark.parametrize("criterion", ["pd_send2", "send"])
def test_losses_and_measures_are_those_of_each_utterance_alone(workspace, criterion):
    args = (*DISTIL_S2T, "--teacher-paths", workspace.teachers, "--criterion", criterion)
    task, student, loss = build(workspace.tables, *args)
    sample = batch(task, "valid", range(6))
    student.eval()
    _, _, log = loss(student, sample)
    student, members = student.double(), [load(path).double() for path in workspace.members]
    pairs = [
        (frames(task.dataset("valid"), i), target)
        for i, target in zip(sample["id"].tolist(), targets(sample))
    ]
    sums = naive.sums_of_pairs(criterion, student, members, pairs, offset=1.0)
    for key, value in sums.items():
        assert float(log[key]) == pytest.approx(value, rel=1e-4, abs=1e-4), key


def test_training_learns_and_validates(workspace, tmp_path):
    args = (*DISTIL_S2T, *PD_SEND2, workspace.teachers, "--lr", 0.002)
    logs = inprocess.train(workspace.tables, tmp_path, *args, updates=15)
    losses = [float(epoch["valid_loss"]) for epoch in logs.valid]
    assert losses[-1] < losses[0]
    assert {"valid_student_rmi", "valid_teacher_rmi"} <= logs.valid[-1].keys()
    saved = inprocess.state(tmp_path / "checkpoint_last.pt")
    assert saved["task_state"]["prior_network"] == {"offset": 1.0}
    assert saved["cfg"]["task"]["teacher_paths"] is None
    assert str(workspace.members[0]).encode() not in (tmp_path / "checkpoint_last.pt").read_bytes()


def test_bfloat16_training(workspace, tmp_path):
    args = (*DISTIL_S2T, *PD_SEND2, workspace.teachers, "--fp16-no-flatten-grads")
    logs = inprocess.train(workspace.tables, tmp_path, *args, updates=2, bf16=True)
    assert math.isfinite(logs.valid[-1]["valid_loss"])


@pytest.mark.parametrize("system", ["student", "ensemble"])
def test_records_hold_utterances_pieces_and_words(workspace, generated, system):
    records, output = generated[system]
    names = {u.name: u.text for u in spoken.SPLITS["test"]}
    best = [record for record in records if record["rank"] == 0]
    assert sorted(record["utterance"] for record in best) == sorted(names)
    pieces = set()
    for record in records:
        assert record["source"] is None
        assert record["reference"] == names[record["utterance"]]
        *symbols, end = record["tokens"]
        assert end == "</s>"
        pieces.update(symbols)
        # pieces can be joined to the words of the hypothesis
        assert "".join(symbols).replace("▁", " ").strip() == record["hypothesis"]
    assert any(piece.startswith("▁") for piece in pieces)
    assert any(not piece.startswith("▁") for piece in pieces)
    # fairseq's own scorer, against another
    wer = jiwer.wer([r["reference"] for r in best], [r["hypothesis"] for r in best])
    (line,) = [line for line in output if line.startswith("Generate test")]
    assert float(line.split("WER: ")[1]) == pytest.approx(100 * wer, abs=0.01)


@pytest.mark.parametrize("system", ["student", "ensemble"])
def test_scores_are_those_of_a_naive_second_pass(workspace, generated, system):
    task = inprocess.task_for(workspace.tables, *DISTIL_S2T)
    task.load_dataset("test")
    paths = [workspace.pd_send2] if system == "student" else workspace.members
    models = [load(path).double() for path in paths]
    records, _ = generated[system]
    for record in records[:6]:
        source = frames(task.dataset("test"), record["id"])
        target = torch.tensor([task.target_dictionary.index(t) for t in record["tokens"]])
        logits = [naive.decode(model, source, target) for model in models]
        if system == "student":
            values = naive.student_scores(logits[0], target)
        else:
            values = naive.ensemble_scores(logits, target)
        tokens, means = naive.columns(values)
        for name, value in means.items():
            assert record["sequence"][name] == pytest.approx(value, rel=2e-3, abs=2e-4), name
            assert record["token"][name] == pytest.approx(tokens[name], rel=5e-3, abs=5e-4), name


def test_interactive_transcribes_files(workspace, generated, tmp_path):
    expected = {r["utterance"]: r for r in generated["student"][0] if r["rank"] == 0}
    utterances = spoken.SPLITS["test"][:5]
    for utterance in utterances:
        (tmp_path / f"{utterance.name}.npy").write_bytes(spoken.npy(spoken.features(utterance)))
    paths = [f"{tmp_path / utterance.name}.npy\n" for utterance in utterances]
    (tmp_path / "input").write_text("".join(paths))
    inprocess.interactive(
        workspace.tables, workspace.pd_send2, tmp_path / "input", *BEAM, "--task",
        "distill_speech_to_text", "--buffer-size", 3, "--uncertainty-path", tmp_path / "u.jsonl",
    )  # fmt: skip
    records = [json.loads(line) for line in (tmp_path / "u.jsonl").read_text().splitlines()]
    by_id = {record["id"]: record for record in records if record["rank"] == 0}
    for number, utterance in enumerate(utterances):
        assert by_id[number]["hypothesis"] == expected[utterance.name]["hypothesis"]


def test_plain_fairseq_transcribes_the_same(workspace):
    script = (
        "import argparse, torch; torch.serialization.add_safe_globals([argparse.Namespace]); "
        "from fairseq_cli.generate import cli_main; cli_main(); "
        "import sys; assert not any(name.startswith('fairseq_pdd') for name in sys.modules)"
    )
    args = (
        workspace.tables, "--cpu", "--path", workspace.pd_send2, "--beam", 3, "--scoring", "wer",
        "--required-batch-size-multiple", 1, *BEAM,
    )  # fmt: skip
    plain = commands.finish(
        commands.start(Path(sys.executable).name, "-c", script, *args, "--task", "speech_to_text")
    )
    ours = generate(workspace.tables, workspace.pd_send2, "--scoring", "wer")

    def lines(output):
        return [line for line in output if re.match(r"[THDP]-\d|Generate ", line)]

    assert len(lines(plain.stdout.splitlines())) == 4 * len(spoken.SPLITS["test"]) + 1
    assert lines(ours) == lines(plain.stdout.splitlines())


# the teacher cache


def cache_settings(workspace, data, destdir):
    return CacheSettings(
        data=data, checkpoints=tuple(map(str, workspace.members)), destdir=destdir,
        subsets=("train", "valid"), topk=100, dtype="float32", teacher_dtype="float32",
        max_tokens=2000, workers=1, cpu=True,
    )  # fmt: skip


def test_a_cache_of_augmented_features_is_refused(workspace, tmp_path):
    with pytest.raises(UsageError, match=r"'train' is augmented \(SpecAugment.*--teacher-paths"):
        build_cache(cache_settings(workspace, workspace.tables, tmp_path / "cache"))


def test_a_cache_of_fixed_features_is_the_online_teacher(workspace, tables, tmp_path):
    spoken.write_config(tables, **{spoken.TRANSFORMS: {"*": ["utterance_cmvn"]}})
    cache = tmp_path / "cache"
    build_cache(cache_settings(workspace, tables, cache))
    args = (*DISTIL_S2T, "--criterion", "pd_send2")
    losses = []
    for teacher in (("--teacher-cache", cache), ("--teacher-paths", workspace.teachers)):
        torch.manual_seed(1)
        task, student, criterion = build(tables, *args, *teacher)
        losses.append(criterion(student.eval(), batch(task, "train", range(10)))[0].item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    # augmentation switched on afterwards
    spoken.write_config(tables)
    task, _, _ = build(tables, *args, "--teacher-cache", cache)
    with pytest.raises(UsageError, match="'train' is augmented"):
        task.load_dataset("train")
