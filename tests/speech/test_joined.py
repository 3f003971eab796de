"""Subsets that fairseq joins: each utterance keeps its name and has a number of its own."""

import json

import pytest

from ..plugin import inprocess
from . import spoken
from .recipes import DISTIL_S2T

TEXTS = {u.name: u.text for split in spoken.SPLITS.values() for u in split}


def generate(workspace, file, subset):
    output = inprocess.generate(
        workspace.tables, workspace.pd_send2, "--task", "distill_speech_to_text", "--max-len-b", 20,
        "--gen-subset", subset, "--uncertainty-path", file,
    )  # fmt: skip
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()], output


def test_generation(workspace, tmp_path):
    records, output = generate(workspace, tmp_path / "both.jsonl", "test,valid")
    assert sorted(record["id"] for record in records) == list(range(40))
    by_id = {record["id"]: record for record in records}
    names = [u.name for split in ("test", "valid") for u in spoken.SPLITS[split]]
    assert [by_id[i]["utterance"] for i in range(40)] == names
    assert all(record["reference"] == TEXTS[record["utterance"]] for record in records)
    lines = {line.split("\t")[0]: line.split("\t")[1] for line in output if line[:2] == "T-"}
    assert lines == {f"T-{i}": TEXTS[name] for i, name in enumerate(names)}
    # the same as each subset alone
    alone = {}
    for subset in ("test", "valid"):
        for record in generate(workspace, tmp_path / f"{subset}.jsonl", subset)[0]:
            alone[record["utterance"]] = record
    for record in records:
        other = alone[record["utterance"]]
        assert record["hypothesis"] == other["hypothesis"]
        for name, value in record["sequence"].items():
            assert value == pytest.approx(other["sequence"][name], rel=1e-3, abs=1e-4), name


@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_training(tables, alpha):
    """Train on joined manifests; with another alpha, fairseq draws a sample of each."""
    rows = spoken.read_table(tables / "train.tsv")
    for name, part in (("train_a", rows[:150]), ("train_b", rows[150:])):
        language = {"src_lang": name, "tgt_lang": name}
        spoken.write_table(tables / f"{name}.tsv", [{**row, **language} for row in part])
    spoken.write_config(tables, sampling_alpha=alpha)
    task = inprocess.task_for(tables, *DISTIL_S2T)
    task.load_dataset("train_a,train_b")
    dataset = task.dataset("train_a,train_b")
    assert list(dataset.ids) == [row["id"] for row in rows]
    batch = dataset.collater([dataset[i] for i in range(len(dataset))])
    assert (len(set(batch["id"].tolist())) == 200) == (alpha == 1.0)
    assert batch["id"].max() >= 150
    decode = task.build_bpe(None).decode
    for number, target in zip(batch["id"].tolist(), batch["target"]):
        padding = target.eq(task.target_dictionary.pad())
        text = decode(task.target_dictionary.string(target[~padding]))
        assert text == rows[number]["tgt_text"]
