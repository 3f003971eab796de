"""``fairseq-interactive``: records like those of generation, with the ids of its own lines."""

import json
import re
from typing import Any, Dict, List

import pytest
import torch

from . import commands, inprocess, naive
from .inprocess import load, task_for

LINES = ["lafi", "baba defi kugo lafi mede", "", "日本 größe nigo", "lafi", "zzz baba"]
MEASURES = ["total", "data", "mutual_information", "epkl", "rmi", "score", "rmi_score"]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("input") / "lines.txt"
    path.write_text("".join(f"{line}\n" for line in LINES), encoding="utf-8")
    return path


def records_of(output: List[str]) -> List[Dict[str, Any]]:
    lines = [line.split("\t", 1) for line in output if line.startswith("U-")]
    records = [json.loads(text) for _, text in lines]
    assert [name for name, _ in lines] == [f"U-{record['id']}" for record in records]
    return records


def own_lines(output: List[str]) -> List[str]:
    """Select fairseq's own lines, without those of times."""
    return [line for line in output if re.match(r"[SHDPCT]-\d", line)]


@pytest.mark.parametrize("buffer", [(), ("--buffer-size", 4, "--batch-size", 3)], ids=["1", "4"])
@pytest.mark.parametrize("model", ["pd_send2", "teachers"])
def test_records_have_the_ids_of_fairseqs_lines(workspace, file, model, buffer):
    path = getattr(workspace, model)
    output = inprocess.interactive(workspace.data, path, file, "--nbest", 2, *buffer)
    records = records_of(output)
    assert sorted((r["id"], r["rank"]) for r in records) == [
        (i, rank) for i in range(len(LINES)) for rank in range(2)
    ]
    printed = [line.split("\t") for line in output if line.startswith("D-")]
    by_id = sorted(records, key=lambda r: (r["id"], r["rank"]))
    assert [[f"D-{r['id']}", r["hypothesis"]] for r in by_id] == [
        [name, text] for name, _, text in printed
    ]
    for record in records:
        known = [w if w != "zzz" else "<unk>" for w in LINES[record["id"]].split()]
        assert record["source"].split() == known
        assert record["reference"] is None
        assert ("expr" in record) == (model == "teachers")


def test_measures_are_those_of_the_sentence_alone(workspace, file):
    student, task = load(workspace.pd_send2), task_for(workspace.data)
    output = inprocess.interactive(
        workspace.data, workspace.pd_send2, file, "--buffer-size", 9, "--max-tokens", 100
    )
    for record in records_of(output):
        line = LINES[record["id"]]
        source = task.source_dictionary.encode_line(line, add_if_not_exist=False).long()
        target = torch.tensor([task.target_dictionary.index(t) for t in record["tokens"]])
        logits = naive.decode(student, source, target)
        expected, _ = naive.columns(naive.student_scores(logits, target))
        for name in MEASURES:
            assert record["token"][name] == pytest.approx(expected[name], rel=1e-4, abs=1e-5)


def test_fairseqs_lines_are_those_of_plain_translation(workspace, file):
    ours = inprocess.interactive(workspace.data, workspace.pd_send2, file)
    plain = inprocess.interactive(workspace.data, workspace.pd_send2, file, "--task", "translation")
    assert own_lines(ours) == own_lines(plain)
    assert not any(line.startswith(("T-", "U-")) for line in plain)
    # fairseq's tools read every line that begins with T- as a reference
    assert not any(line.startswith("T-") for line in ours)


def test_constraints(workspace, tmp_path):
    file = tmp_path / "lines.txt"
    file.write_text("baba defi\tifal\nlafi\n", encoding="utf-8")
    output = inprocess.interactive(
        workspace.data, workspace.pd_send2, file, "--constraints", "--buffer-size", 2,
        "--batch-size", 2,
    )  # fmt: skip
    constrained, free = sorted(records_of(output), key=lambda record: record["id"])
    assert "ifal" in constrained["tokens"]
    assert constrained["source"] == "baba defi"
    assert free["source"] == "lafi"


def test_the_command_writes_a_file(workspace, file, tmp_path):
    """The real command runs end to end, in its own process."""
    path = tmp_path / "new" / "u.jsonl"
    result = commands.run(
        "fairseq-interactive", workspace.data, "--user-dir", commands.USER_DIR, "--cpu",
        "--task", "distill_translation", "--path", workspace.pd_send2, "--beam", 3,
        "--input", file, "--uncertainty-path", path,
    )  # fmt: skip
    assert "U-" not in result.stdout
    records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert [record["id"] for record in records] == list(range(len(LINES)))
    assert all(record["sequence"]["rmi"] > 0 for record in records)
