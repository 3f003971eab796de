"""``fairseq-pdd transfer-set`` of speech: manifests with the ensemble's transcripts."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from fairseq_pdd.cli.main import app
from fairseq_pdd.errors import UsageError
from fairseq_pdd.speech.augmentation import augmentations
from fairseq_pdd.teacher import CachedTeacher
from fairseq_pdd.transfer import set_builder
from fairseq_pdd.transfer.cache_builder import build_cache
from fairseq_pdd.transfer.cache_inputs import CacheSettings
from fairseq_pdd.transfer.manifests import ManifestCorpus

from ..plugin import inprocess
from . import spoken
from .recipes import DISTIL_S2T, DISTIL_VGG


def invoke(*args):
    result = CliRunner().invoke(app, ["transfer-set", *map(str, args)])
    if result.exception is not None:
        raise result.exception.__cause__ or result.exception
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


def test_extra_recordings_are_those_of_fairseq_generate(workspace, tables, tmp_path):
    """Their paths belong to another folder, and their transcripts are not used."""
    extra = Path(shutil.copytree(workspace.tables, tmp_path / "extra"))
    config = (workspace.tables / "config.yaml").read_text("utf-8")
    root = workspace.tables.parent
    (extra / "config.yaml").write_text(f"{config}\naudio_root: {root}\n", "utf-8")
    text = (workspace.tables / "test.tsv").read_text("utf-8").replace(f"{root}/", "")
    assert "\t/" not in text
    (extra / "valid.tsv").write_text(text, "utf-8")
    args = (
        tables, "--path", workspace.teachers, "--destdir", tmp_path / "set", "--subset", "valid",
        "--beam", 2, "--extra-source", extra, "--", "--cpu", "--max-len-b", 20,
    )  # fmt: skip
    invoke(*args)
    expected = []
    for subset in ("valid", "test"):
        rows = spoken.read_table(workspace.tables / f"{subset}.tsv")
        lines = inprocess.generate(
            workspace.tables, workspace.teachers, "--task", "distill_speech_to_text",
            "--gen-subset", subset, "--beam", 2, "--max-len-b", 20,
        )  # fmt: skip
        texts = {
            int(line[2:].split("\t")[0]): line.split("\t")[2]
            for line in lines
            if line.startswith("D-")
        }
        expected += [
            {**row, "tgt_text": texts[i]} for i, row in enumerate(rows) if texts[i].strip()
        ]
    assert spoken.read_table(tmp_path / "set" / "train.tsv") == expected
    assert spoken.read_table(tmp_path / "set" / "test.tsv") == spoken.read_table(
        tables / "test.tsv"
    )


def test_a_share_of_extra_recordings_is_spread_evenly(workspace):
    corpus = ManifestCorpus(workspace.tables, "valid", "config.yaml", [workspace.tables])
    own = len(corpus) - corpus.extra
    rows, frames = list(corpus.rows), corpus.tokens()
    corpus.keep_extra(2)
    assert (len(corpus), corpus.extra) == (own + 2, 2)
    selected = corpus.rows[own:]
    assert corpus.rows == rows[:own] + selected
    assert selected == [rows[own], rows[own + own // 2]]
    skipped = [row for row in rows[own:] if row not in selected]
    assert corpus.tokens() == frames - sum(int(row["n_frames"]) for row in skipped)


def test_extra_recordings_that_do_not_fit_are_refused(workspace, tables, tmp_path):
    args = (tables, "--path", workspace.teachers, "--destdir", tmp_path / "set", "--extra-source")
    extra = tmp_path / "extra"
    shutil.copytree(tables, extra)
    (extra / "train.tsv").write_text("audio\tid\tn_frames\ttgt_text\na\tb\t3\tc\n", "utf-8")
    with pytest.raises(UsageError, match=r"extra/train\.tsv has the columns audio, id.*the same"):
        invoke(*args, extra)
    (extra / "train.tsv").unlink()
    with pytest.raises(UsageError, match=r"extra/train\.tsv does not exist"):
        invoke(*args, extra)
    lists = (workspace.lists, "--path", workspace.vgg_teachers, "--destdir", tmp_path / "set")
    with pytest.raises(UsageError, match=r"--extra-source does not read the lists.*train\.json"):
        invoke(*lists, "--extra-source", extra)


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
    with pytest.raises(UsageError, match=r"train\.tsv lacks the column audio, tgt_text"):
        invoke(tables, "--path", workspace.teachers, "--destdir", tmp_path / "set")


def own_features(workspace, tables):
    """Have the manifests list a copy of the features; return the copy."""
    for manifest in tables.glob("*.tsv"):
        text = manifest.read_text("utf-8").replace(str(workspace.tables), str(tables))
        manifest.write_text(text, "utf-8")
    return tables / "features.zip"


def change_features(archive, manifest):
    """Add 1 to a number in the first utterance, so that no size changes."""
    row = spoken.read_table(manifest)[0]
    _, offset, length = row["audio"].rsplit(":", 2)
    content = bytearray(archive.read_bytes())
    place = int(offset) + int(length) - 4
    content[place] ^= 64
    archive.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ("features", "data inputs"),
        ("config.yaml", r"data files config\.yaml"),
        ("test.tsv", r"data files test\.tsv"),
        ("one", "checkpoints 1"),
        ("elsewhere", None),
    ],
)
def test_a_set_is_known_by_the_content_of_what_it_was_made_of(
    workspace, tables, tmp_path, monkeypatch, change, differs
):
    monkeypatch.setattr(set_builder, "translate", lambda *_: {0: "bad nib"})
    archive = own_features(workspace, tables)
    member = shutil.copy(workspace.members[0], tmp_path / "one.pt")
    args = ["--path", member, "--destdir", tmp_path / "set", "--subset", "valid"]
    invoke(tables, *args)
    monkeypatch.setattr(set_builder, "_build", None)
    assert "complete already" in invoke(tables, *args)
    if change == "features":
        change_features(archive, tables / "valid.tsv")
    elif change == "one":
        shutil.copy(workspace.members[1], member)
    elif change == "elsewhere":  # the same members and data
        args[1] = shutil.copy(member, tmp_path / "two.pt")
        assert "complete already" in invoke(tables, *args)
        return
    else:
        with open(tables / change, "ab") as stream:
            stream.write(
                b"\n" if change == "config.yaml" else (tables / change).read_bytes()[-200:]
            )
    with pytest.raises(UsageError, match=f"not this transfer set: it differs in {differs}"):
        invoke(tables, *args)


def test_the_ensemble_transcribes_without_the_augmentation_of_training(
    workspace, tables, tmp_path, monkeypatch
):
    """fairseq augments a subset whose name starts with "train" in generation, too."""
    found = []

    def translate(settings, corpus, data, *_):
        task = inprocess.task_for(data, *DISTIL_S2T)
        task.load_dataset("test")
        dataset = task.dataset("test")
        found.append((len(dataset), augmentations(dataset)))
        return {0: "bad nib"}

    monkeypatch.setattr(set_builder, "translate", translate)
    invoke(tables, "--path", workspace.teachers, "--destdir", tmp_path / "set")
    assert found == [(200, [])]
    task = inprocess.task_for(tables, *DISTIL_S2T)
    task.load_dataset("train")
    assert augmentations(task.dataset("train")) == ["SpecAugmentTransform"]


def test_a_cache_of_other_features_is_refused(workspace, tables, tmp_path):
    archive = own_features(workspace, tables)
    settings = CacheSettings(
        data=tables, checkpoints=(str(workspace.members[0]),), destdir=tmp_path / "cache",
        subsets=("valid", "test"), topk=4, dtype="float32", teacher_dtype="float32",
        max_tokens=2000, workers=1, cpu=True,
    )  # fmt: skip
    build_cache(settings)
    task = inprocess.task_for(tables, *DISTIL_S2T)
    teacher = CachedTeacher(str(tmp_path / "cache"), task)
    task.load_dataset("valid,test")
    joined = task.dataset("valid,test")
    teacher.check("valid,test", joined)
    # the joined data set has the statistics of its parts
    sample = joined.collater([joined[i] for i in (25, 3)])
    ours = teacher.statistics(sample, sample["target"].ne(1))
    task.load_dataset("test")
    task.load_dataset("valid")
    for name, index in (("test", 5), ("valid", 3)):
        part = task.dataset(name)
        alone = part.collater([part[index]])
        separate = CachedTeacher(str(tmp_path / "cache"), task)
        statistics = separate.statistics(alone, alone["target"].ne(1))
        row = sample["id"].tolist().index(25 if name == "test" else 3)
        expected = ours.inverse_precision.split(sample["target"].ne(1).sum(1).tolist())[row]
        assert torch.equal(statistics.inverse_precision, expected)
    change_features(archive, tables / "valid.tsv")
    with pytest.raises(UsageError, match=r"does not fit subset 'valid,test'.*inputs"):
        teacher.check("valid,test", joined)
    with pytest.raises(UsageError, match=r"another teacher cache: it differs in data valid inputs"):
        build_cache(settings)


def test_a_log_and_a_lock_in_the_data_folder_are_no_part_of_a_set(tables: Path) -> None:
    before = ManifestCorpus(tables, "train", "config.yaml").made_of(translated=False)
    (tables / "set.lock").touch()
    (tables / "build.log").write_text("running\n")
    assert ManifestCorpus(tables, "train", "config.yaml").made_of(translated=False) == before
