"""``fairseq-pdd transfer-set`` of speech: manifests with the ensemble's transcripts."""

import json

import pytest
from typer.testing import CliRunner

from fairseq_pdd.cli.main import app
from fairseq_pdd.errors import UsageError
from fairseq_pdd.transfer import set_builder

from ..plugin import inprocess
from . import spoken
from .recipes import DISTIL_S2T, DISTIL_VGG


def invoke(*args):
    result = CliRunner().invoke(app, ["transfer-set", *map(str, args)])
    if result.exception is not None:
        raise result.exception
    return result.output


def test_tables_get_the_text_of_fairseq_generate(workspace, tmp_path):
    args = ("--gen-subset", "valid", "--beam", 2, "--max-len-b", 20)
    invoke(
        workspace.tables, "--path", workspace.teachers, "--destdir", tmp_path / "set",
        "--subset", "valid", "--targets", "both", "--beam", 2, "--", "--cpu", "--max-len-b", 20,
    )  # fmt: skip
    generated = inprocess.generate(
        workspace.tables, workspace.teachers, "--task", "distill_speech_to_text", *args
    )
    texts = {
        int(name[2:]): text
        for name, _, text in (line.split("\t") for line in generated if line.startswith("D-"))
    }
    original = spoken.read_table(workspace.tables / "valid.tsv")
    made = spoken.read_table(tmp_path / "set" / "train.tsv")
    hypotheses = [
        {**row, "tgt_text": texts[i]} for i, row in enumerate(original) if texts[i].strip()
    ]
    assert made == [*original, *hypotheses]
    names = {path.name for path in (tmp_path / "set").iterdir()}
    assert names == {
        "train.tsv", "valid.tsv", "test.tsv", "config.yaml", "spm.txt", "spm.model", "spm.vocab",
        set_builder.MANIFEST,
    }  # fmt: skip
    task = inprocess.task_for(tmp_path / "set", *DISTIL_S2T)
    task.load_dataset("train")
    assert len(task.dataset("train")) == len(made)


def test_lists_get_the_pieces(workspace, tmp_path, monkeypatch):
    monkeypatch.setattr(set_builder, "translate", lambda *_: {0: "▁ b a d ▁nib", 1: "", 3: "▁ u"})
    invoke(
        workspace.lists, "--path", workspace.vgg_teachers, "--destdir", tmp_path / "set",
        "--subset", "valid",
    )  # fmt: skip
    task = inprocess.task_for(workspace.lists, *DISTIL_VGG)
    task.load_dataset("valid")
    ids = task.dataset("valid").ids
    old = json.loads((workspace.lists / "valid.json").read_text("utf-8"))["utts"]
    new = json.loads((tmp_path / "set" / "train.json").read_text("utf-8"))["utts"]
    assert list(new) == [ids[0], ids[3]]
    entry = new[ids[0]]
    assert entry["input"] == old[ids[0]]["input"]
    assert entry["output"]["text"] == "bad nib"
    assert entry["output"]["token"] == "▁ b a d ▁nib"
    made = inprocess.task_for(tmp_path / "set", *DISTIL_VGG)
    made.load_dataset("train")
    targets = [made.dataset("train")[i]["data"][1] for i in range(2)]
    texts = [made.target_dictionary.string(t, "sentencepiece") for t in targets]
    assert sorted(texts) == ["bad nib", "u"]


@pytest.mark.parametrize(
    ("kind", "subset", "expected"),
    [
        ("tables", "test-x", "test-x.tsv does not exist"),
        ("lists", "dev", "dev.json does not exist"),
    ],
)
def test_missing_manifest(workspace, tmp_path, kind, subset, expected):
    data = getattr(workspace, kind)
    with pytest.raises(UsageError, match=expected):
        invoke(data, "--path", workspace.teachers, "--destdir", tmp_path / "s", "--subset", subset)


def test_manifest_that_fairseq_cannot_read(workspace, tables, tmp_path):
    (tables / "train.tsv").write_text("id\tn_frames\none\tmany\n")
    with pytest.raises(UsageError, match=r"train\.tsv cannot be read by fairseq.*many"):
        invoke(tables, "--path", workspace.teachers, "--destdir", tmp_path / "set")
