"""The teacher cache holds the online teacher's statistics, and other data is refused."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from fairseq_pdd.cli.main import app
from fairseq_pdd.core import EnsembleStatistics, TopKProbs
from fairseq_pdd.errors import UsageError
from fairseq_pdd.records.files import lock_file
from fairseq_pdd.teacher import CachedTeacher, EnsembleTeacher
from fairseq_pdd.teacher.cache import layout
from fairseq_pdd.transfer.cache_builder import build_cache
from fairseq_pdd.transfer.cache_inputs import CacheSettings

from . import commands
from .inprocess import batch, build, task_for, train


def settings(workspace, destdir, **changes):
    values = {
        "data": workspace.data,
        "checkpoints": tuple(workspace.teachers.split(":")),
        "destdir": Path(destdir),
        "subsets": ("train", "valid"),
        "topk": 8,
        "dtype": "float32",
        "teacher_dtype": "float32",
        "max_tokens": 300,
        "workers": 1,
        "cpu": True,
    }
    return CacheSettings(**{**values, **changes})


@pytest.fixture(scope="module")
def cache(workspace, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache") / "top8"
    build_cache(settings(workspace, folder))
    return folder


@pytest.fixture(scope="module")
def full(workspace, tmp_path_factory):
    """A cache that lists every class."""
    folder = tmp_path_factory.mktemp("cache") / "full"
    build_cache(settings(workspace, folder, topk=10_000))
    return folder


@pytest.fixture
def copy(cache, tmp_path):
    return Path(shutil.copytree(cache, tmp_path / "copy"))


@pytest.fixture(scope="module")
def online(workspace):
    task, _, _ = distilling(workspace, "--teacher-paths", workspace.teachers)
    return task


def distilling(workspace, *args, criterion="pd_send2"):
    return build(workspace.data, "--task", "distill_translation", "--criterion", criterion, *args)


def same(ours, expected, **tolerance):
    torch.testing.assert_close(ours, expected, **{"rtol": 1e-5, "atol": 1e-6, **tolerance})


@pytest.mark.parametrize("split", ["train", "valid"])
def test_all_classes_listed_is_the_online_teacher(workspace, full, online, split):
    task = task_for(workspace.data)
    teacher = CachedTeacher(str(full), task)
    # in another order and with other neighbours than it was built with
    indices = [37, 2, 11, 30, 3]
    sample = batch(task, split, indices)
    mask = sample["target"].ne(1)
    ours, expected = teacher.statistics(sample, mask), online.teacher.statistics(sample, mask)
    same(ours.mean_probs.dense(len(task.target_dictionary)), expected.mean_probs)
    same(ours.inverse_precision, expected.inverse_precision, rtol=1e-3, atol=1e-9)
    for a, b in zip(ours.measures(), expected.measures()):
        same(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("criterion", ["pd_send2", "pd_send2_forward", "send"])
def test_criterions_give_the_same_loss_as_with_the_online_teacher(workspace, full, criterion):
    results = []
    for teacher in (["--teacher-cache", full], ["--teacher-paths", workspace.teachers]):
        torch.manual_seed(1)
        task, model, loss = distilling(workspace, *teacher, criterion=criterion)
        sample = batch(task, "valid", range(12))
        model.eval()
        value, _, log = loss(model, sample)
        value.backward()
        gradients = (p.grad for p in model.parameters())
        # parameters without one are copies, for a path of official fairseq's encoder
        gradient = torch.cat([g.flatten() for g in gradients if g is not None])
        results.append((value.detach(), gradient, log))
    (ours, gradient, log), (expected, expected_gradient, expected_log) = results
    same(ours, expected, rtol=1e-5, atol=1e-4)
    assert (gradient - expected_gradient).norm() <= 1e-4 * expected_gradient.norm()
    assert log.keys() == expected_log.keys()
    for name in log:
        same(torch.as_tensor(log[name]), torch.as_tensor(expected_log[name]), rtol=1e-3, atol=1e-3)


def test_a_top_k_is_that_of_the_online_teacher(workspace, cache, online):
    task = task_for(workspace.data)
    sample = batch(task, "valid", range(9))
    mask = sample["target"].ne(1)
    ours = CachedTeacher(str(cache), task).statistics(sample, mask)
    expected = online.teacher.statistics(sample, mask)
    listed = TopKProbs.of(expected.mean_probs, 8)
    same(ours.mean_probs.probs, listed.probs)
    same(ours.mean_probs.rest, listed.rest, rtol=1e-4)
    # measures are of the whole distribution, however few classes are listed
    same(ours.measures().total, expected.measures().total)


def test_float16_is_as_precise_as_its_digits(workspace, cache, tmp_path):
    build_cache(settings(workspace, tmp_path / "half", dtype="float16", subsets=("valid",)))
    task = task_for(workspace.data)
    sample = batch(task, "valid", range(20))
    mask = sample["target"].ne(1)
    half = CachedTeacher(str(tmp_path / "half"), task).statistics(sample, mask)
    exact = CachedTeacher(str(cache), task).statistics(sample, mask)
    assert not torch.equal(half.mean_probs.probs, exact.mean_probs.probs)
    same(half.mean_probs.probs, exact.mean_probs.probs, rtol=2e-3, atol=1e-7)
    same(half.inverse_precision, exact.inverse_precision)
    k = len(task.target_dictionary)
    same(half.mean_probs.dense(k).sum(-1), torch.ones(int(mask.sum())))


def test_students_train_from_it_without_a_teacher(workspace, cache, tmp_path):
    """The real commands build a cache and train a student, whose checkpoint does not name it."""
    folder = tmp_path / "cache"
    made = commands.run(
        "fairseq-pdd", "teacher-cache", workspace.data, "--path", workspace.teachers,
        "--destdir", folder, "--topk", 8, "--workers", 2, "--cpu",
    )  # fmt: skip
    assert "classes listed" in made.stderr + made.stdout
    args = ["--task", "distill_translation", "--criterion", "pd_send2"]
    commands.train(
        workspace.data, tmp_path / "student", *args, "--teacher-cache", folder, updates=3
    )
    checkpoint = tmp_path / "student" / "checkpoint_last.pt"
    assert str(folder).encode() not in checkpoint.read_bytes()
    cached = train(workspace.data, tmp_path / "a", *args, "--teacher-cache", cache, updates=12)
    online = train(
        workspace.data, tmp_path / "b", *args, "--teacher-paths", workspace.teachers, updates=12
    )
    assert cached.valid[-1]["valid_loss"] == pytest.approx(online.valid[-1]["valid_loss"], rel=0.05)
    assert cached.valid[-1]["valid_teacher_rmi"] == pytest.approx(
        online.valid[-1]["valid_teacher_rmi"], rel=1e-3
    )


def assert_same_content(ours, expected):
    paths = [path.relative_to(expected) for path in expected.glob("*/*.npy")]
    assert len(paths) >= 4
    for path in paths:
        a, b = np.load(ours / path), np.load(expected / path)
        assert a.dtype == b.dtype
        for name in a.dtype.names:
            # classes as probable as one another have no order
            if name != "classes":
                np.testing.assert_allclose(a[name], b[name], rtol=1e-3, atol=1e-6)


def test_workers_write_what_one_process_does(workspace, cache, tmp_path):
    build_cache(settings(workspace, tmp_path / "cache", workers=2))
    assert_same_content(tmp_path / "cache", cache)


def test_shards_make_the_cache_of_one_process(workspace, cache, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "cache"
    for shard in (1, 2, 0):  # there are two parts, so shard 2 is empty
        build_cache(settings(workspace, folder, num_shards=3, shard_id=shard))
        assert f"shard {shard} of 3 is complete" in capsys.readouterr().out
        assert not (folder / layout.MANIFEST).exists()
    monkeypatch.setattr(EnsembleTeacher, "load", None)  # all is computed
    build_cache(settings(workspace, folder, num_shards=3))
    # two runs of one process differ by as much
    assert_same_content(folder, cache)
    ours, theirs = (json.loads((f / layout.MANIFEST).read_text()) for f in (folder, cache))
    assert (ours["made_of"], ours["tokens"]) == (theirs["made_of"], theirs["tokens"])
    assert not list(tmp_path.glob("cache?*"))


def test_a_missing_shard_is_computed_by_the_last_call(workspace, cache, tmp_path):
    folder = tmp_path / "cache"
    build_cache(settings(workspace, folder, num_shards=2, shard_id=1))
    (note,) = folder.glob("*/*.json")
    before = note.stat().st_mtime_ns
    build_cache(settings(workspace, folder))
    assert note.stat().st_mtime_ns == before
    assert_same_content(folder, cache)


@pytest.mark.parametrize(
    ("number", "shard", "message"),
    [(2, 2, "from 0 to 1"), (2, -1, "from 0 to 1"), (1, 0, "needs --num-shards"), (0, None, "0")],
)
def test_a_shard_that_does_not_exist_is_refused(workspace, tmp_path, number, shard, message):
    with pytest.raises(UsageError, match=message):
        build_cache(settings(workspace, tmp_path / "cache", num_shards=number, shard_id=shard))


def test_a_complete_cache_is_left_as_it_is(workspace, cache, capsys):
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    build_cache(settings(workspace, cache))
    assert "complete already" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in cache.rglob("*")}


def test_an_interrupted_build_is_completed(workspace, tmp_path, monkeypatch):
    monkeypatch.setattr("fairseq_pdd.transfer.cache_builder.SHARD_SENTENCES", 100)
    monkeypatch.setattr("fairseq_pdd.teacher.cache.reader.SHARD_SENTENCES", 100)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    build_cache(settings(workspace, whole))
    calls = []
    statistics = EnsembleStatistics.measures

    def dies(self):
        calls.append(self)
        if len(calls) == 12:
            raise KeyboardInterrupt
        return statistics(self)

    monkeypatch.setattr(EnsembleStatistics, "measures", dies)
    with pytest.raises(KeyboardInterrupt):
        build_cache(settings(workspace, broken))
    task = task_for(workspace.data)
    with pytest.raises(UsageError, match=r"not finished.*teacher-cache again"):
        CachedTeacher(str(broken), task)
    finished = {path: path.stat().st_mtime_ns for path in broken.glob("*/*.tokens.npy")}
    assert 0 < len(finished) < len(list(whole.glob("*/*.tokens.npy")))
    # one of the finished parts was cut short meanwhile
    cut = min(finished)
    cut.write_bytes(cut.read_bytes()[:-5])
    build_cache(settings(workspace, broken))
    assert_same_content(broken, whole)
    for path, modified in finished.items():
        assert (path.stat().st_mtime_ns == modified) == (path != cut)
    # random access over the borders of shards, with few open files
    sample = batch(task, "train", [99, 100, 599, 0])
    mask = sample["target"].ne(1)
    expected = CachedTeacher(str(whole), task).statistics(sample, mask)
    monkeypatch.setattr("fairseq_pdd.teacher.cache.reader.OPEN_PARTS", 1)
    teacher = CachedTeacher(str(broken), task)
    for ours, theirs in zip(teacher.statistics(sample, mask).measures(), expected.measures()):
        same(ours, theirs, rtol=0, atol=0)
    if sys.platform == "linux":
        maps = Path("/proc/self/maps").read_text().splitlines()
        assert sum(line.endswith(".tokens.npy") and str(broken) in line for line in maps) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"topk": 9}, r"topk \(8, not 9\)"),
        ({"dtype": "float16"}, r"dtype \(float32, not float16\)"),
        ({"subsets": ("valid",)}, "data train"),
        ({"checkpoints": 1}, "checkpoints"),
    ],
)
def test_a_folder_with_another_cache_is_left_alone(workspace, cache, changes, message):
    if "checkpoints" in changes:
        changes = {"checkpoints": (str(workspace.lstm),)}
    before = {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match=f"holds another teacher cache.*{message}"):
        build_cache(settings(workspace, cache, **changes))
    assert before == {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", ["tokens.npy", "samples.npy"])
@pytest.mark.parametrize("damage", ["edited", "truncated", "missing"])
def test_damage_is_never_read(workspace, copy, kind, damage):
    path = copy / "train" / f"00000.{kind}"
    data = bytearray(path.read_bytes())
    if damage == "edited":
        data[len(data) // 2] ^= 1
    path.write_bytes(data[:-1] if damage == "truncated" else data)
    if damage == "missing":
        path.unlink()
    with pytest.raises(UsageError, match=rf"00000\.{kind}.*(damaged|missing).*teacher-cache again"):
        distilling(workspace, "--teacher-cache", copy)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        ("3", "damaged"),
        ('{"format": 99}', "format 99"),
        ('{"format": 2}', "damaged"),
        ('{"format": 2, "made_of": [], "subsets": {}}', "damaged"),
    ],
)
def test_a_strange_manifest_is_refused(workspace, copy, text, message):
    (copy / "cache.json").write_text(text)
    with pytest.raises(UsageError, match=message):
        distilling(workspace, "--teacher-cache", copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["made_of"].pop("dictionaries"), "damaged"),
        (lambda m: m["made_of"].update(topk="8"), "damaged"),
        (lambda m: m["made_of"].update(dtype="int8"), "damaged"),
        (lambda m: m["made_of"]["data"]["train"].update(sentences=-1), "damaged"),
        (lambda m: m["subsets"].pop("train"), "damaged"),
        (lambda m: m["subsets"]["train"]["shards"].pop(), "damaged"),
        (lambda m: m["subsets"]["train"]["shards"][0].update(sha256={}), "damaged"),
        (lambda m: m["subsets"].update(train=[]), "damaged"),
        (lambda m: [part.update({"../../x": part.pop("train")})
                    for part in (m["subsets"], m["made_of"]["data"])], "damaged"),
        (lambda m: m["made_of"].update(topk=7), "does not belong to the files beside it"),
        (lambda m: m["made_of"].update(dtype="float16"), "does not belong"),
        (lambda m: m["made_of"]["data"]["train"].update(sentences=599), "does not belong"),
    ],
)  # fmt: skip
def test_a_manifest_with_wrong_values_is_refused(workspace, copy, change, message):
    manifest = json.loads((copy / "cache.json").read_text())
    change(manifest)
    (copy / "cache.json").write_text(json.dumps(manifest))
    with pytest.raises(UsageError, match=rf"cache\.json.*{message}"):
        CachedTeacher(str(copy), task_for(workspace.data))


def test_files_of_another_cache_are_refused(workspace, copy, full):
    shutil.copy(full / "train" / "00000.tokens.npy", copy / "train")
    with pytest.raises(UsageError, match=r"00000\.tokens\.npy.*damaged"):
        CachedTeacher(str(copy), task_for(workspace.data))


def retrained(path, folder):
    """Write a checkpoint that differs in one weight only, under the same name."""
    state = torch.load(path, weights_only=False)
    state["model"]["decoder.embed_tokens.weight"][5] += 1
    folder.mkdir()
    torch.save(state, folder / path.name)
    return str(folder / path.name)


def test_a_member_that_was_trained_anew_makes_another_cache(workspace, tmp_path):
    folder = tmp_path / "cache"
    paths = [retrained(workspace.lstm, tmp_path / name) for name in ("one", "two")]
    values = {"subsets": ("valid", "test"), "checkpoints": (paths[0],)}
    build_cache(settings(workspace, folder, **values))
    Path(paths[1]).rename(paths[0])  # the same model: neither the path nor the name matter
    build_cache(settings(workspace, folder, **values))
    shutil.copy(workspace.lstm, paths[0])
    with pytest.raises(UsageError, match=r"another teacher cache: it differs in checkpoints 1"):
        build_cache(settings(workspace, folder, **values))
    # without its manifest, the cache is checked and completed, but never with parts of another
    (folder / "cache.json").unlink()
    build_cache(settings(workspace, folder, **values))
    build_cache(settings(workspace, tmp_path / "new", **values))
    assert_same_content(folder, tmp_path / "new")


def test_another_text_of_the_same_lengths_makes_another_cache(workspace, tmp_path):
    data = Path(shutil.copytree(workspace.data, tmp_path / "data"))
    values = {"data": data, "subsets": ("valid",), "checkpoints": (str(workspace.lstm),)}
    build_cache(settings(workspace, tmp_path / "cache", **values))
    path = data / "valid.xx-yy.xx.bin"
    content = bytearray(path.read_bytes())
    content[:4] = content[2:4] + content[:2]
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"it differs in data valid files valid\.xx-yy\.xx\.bin"):
        build_cache(settings(workspace, tmp_path / "cache", **values))


def add_subset(data, old, new):
    for side in ("xx", "yy"):
        for suffix in ("bin", "idx"):
            source = data / f"{old}.xx-yy.{side}.{suffix}"
            shutil.copy(source, data / f"{new}.xx-yy.{side}.{suffix}")


def test_subsets_that_fairseq_joins_are_cached_one_by_one(workspace, tmp_path):
    """The joined data set has the statistics of its parts."""
    data = Path(shutil.copytree(workspace.data, tmp_path / "data"))
    add_subset(data, "valid", "train1")
    add_subset(data, "test", "train2")
    values = {"data": data, "checkpoints": (str(workspace.lstm),)}
    with pytest.raises(UsageError, match=r"'train1', which fairseq-train joins to 'train'"):
        build_cache(settings(workspace, tmp_path / "cache", subsets=("train",), **values))
    assert not (tmp_path / "cache").exists()
    subsets = ("train2", "train", "train1")
    build_cache(settings(workspace, tmp_path / "cache", subsets=subsets, **values))
    for ratio in (1, 2):
        task = task_for(data, "--upsample-primary", ratio)
        teacher = CachedTeacher(str(tmp_path / "cache"), task)
        task.load_dataset("train", combine=True)
        joined, counts = task.dataset("train"), {}
        teacher.check("train", joined)
        for name in subsets:
            task.load_dataset(name)
            counts[name] = len(task.dataset(name))
        starts = {"train": (ratio - 1) * counts["train"], "train1": ratio * counts["train"]}
        starts["train2"] = starts["train1"] + counts["train1"]
        assert len(joined) == starts["train2"] + counts["train2"]
        for name, start in starts.items():
            separate = CachedTeacher(str(tmp_path / "cache"), task)
            part = batch(task, name, [3, 0, counts[name] - 1])
            whole = joined.collater([joined[start + i] for i in (3, 0, counts[name] - 1)])
            ours, expected = (
                t.statistics(s, s["target"].ne(1)) for t, s in ((teacher, whole), (separate, part))
            )
            assert torch.equal(ours.mean_probs.probs, expected.mean_probs.probs)
            assert torch.equal(ours.inverse_precision, expected.inverse_precision)
    with pytest.raises(UsageError, match="give --upsample-primary 1"):  # fairseq's default
        task_for(data).load_dataset("train", combine=True)


def test_joined_subsets_of_which_one_is_not_cached_are_refused(workspace, cache, tmp_path):
    data = Path(shutil.copytree(workspace.data, tmp_path / "data"))
    add_subset(data, "valid", "train1")
    task = task_for(data, "--upsample-primary", 1)
    task.load_dataset("train", combine=True)
    with pytest.raises(UsageError, match=r"no subset 'train1'.*--subset train,valid,train1"):
        CachedTeacher(str(cache), task).check("train", task.dataset("train"))


def test_two_commands_cannot_build_one_cache(workspace, tmp_path):
    folder = tmp_path / "cache"
    with lock_file(folder):
        for shard in ({}, {"num_shards": 2, "shard_id": 0}):
            with pytest.raises(UsageError, match="another process"):
                build_cache(settings(workspace, folder, **shard))
    with lock_file(folder, (0, 2)):
        with pytest.raises(UsageError, match=r"cache\.shard-0-of-2: another process"):
            build_cache(settings(workspace, folder, num_shards=2, shard_id=0))
        with pytest.raises(UsageError, match="another process"):
            build_cache(settings(workspace, folder))
    assert not folder.exists()
    # what a command leaves that was killed before its first complete file
    (folder / "train").mkdir(parents=True)
    (folder / ".fairseq_pdd-0.tmp").touch()
    (tmp_path / "cache.lock").touch()
    checkpoints = (str(workspace.lstm),)
    build_cache(settings(workspace, folder, subsets=("valid",), checkpoints=checkpoints))
    assert not (folder / ".fairseq_pdd-0.tmp").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_build_is_completed_to_the_same_cache(workspace, cache, tmp_path, workers):
    """kill -9 at some time, then the same command."""
    folder = tmp_path / "cache"
    script = (
        "from pathlib import PosixPath\n"
        "from fairseq_pdd.transfer.cache_builder import build_cache\n"
        "from fairseq_pdd.transfer.cache_inputs import CacheSettings\n"
        "if __name__ == '__main__':\n"
        f"    build_cache({settings(workspace, folder, workers=workers)!r})\n"
    )
    (tmp_path / "build.py").write_text(script)
    process = subprocess.Popen(
        [sys.executable, tmp_path / "build.py"], stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(commands.REPOSITORY), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    wanted = "*/*.tmp" if workers == 1 else "building.json"
    while not list(folder.glob(wanted)) and process.poll() is None:
        time.sleep(0.001)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.wait()
    build_cache(settings(workspace, folder, workers=workers))
    assert_same_content(folder, cache)
    assert not list(tmp_path.glob("**/*.tmp"))
    assert not any(Path(f"/proc/{child}/exe").exists() for child in children)


def test_sentences_that_are_too_long_are_counted(workspace, tmp_path, capsys, caplog):
    data, folder = workspace.data, tmp_path / "cache"
    state = torch.load(workspace.lstm, weights_only=False)
    state["cfg"]["task"]["max_source_positions"] = 5
    torch.save(state, tmp_path / "short.pt")
    checkpoints = (str(tmp_path / "short.pt"),)
    build_cache(settings(workspace, folder, subsets=("valid",), checkpoints=checkpoints))
    task = task_for(data)
    task.load_dataset("valid")
    long = int((task.dataset("valid").sizes[:, 0] > 5).sum())
    assert 0 < long < 40
    assert f"skipped {long} sentences" in capsys.readouterr().out
    CachedTeacher(str(folder), task).check("valid", task.dataset("valid"))
    assert f"lacks {long} of 40 sentences of 'valid'" in caplog.text


def test_other_data_is_refused_before_training(workspace, cache, tmp_path):
    data = Path(shutil.copytree(workspace.data, tmp_path / "data"))
    # same dictionaries and number of sentences, other text
    for side in ("xx", "yy"):
        for suffix in ("bin", "idx"):
            shutil.copy(data / f"test.xx-yy.{side}.{suffix}", data / f"valid.xx-yy.{side}.{suffix}")
    task, _, _ = build(
        data, "--task", "distill_translation", "--criterion", "pd_send2", "--teacher-cache", cache
    )
    with pytest.raises(UsageError, match="does not fit subset 'valid': it differs in sentences"):
        task.load_dataset("valid")
    task.load_dataset("train")


def test_another_text_of_the_same_lengths_is_refused(workspace, cache):
    task = task_for(workspace.data)
    teacher = CachedTeacher(str(cache), task)
    sample = batch(task, "valid", range(6))
    sample["target"][2, 0] = 7 if sample["target"][2, 0] != 7 else 8
    with pytest.raises(UsageError, match="does not hold the sentences of a batch"):
        teacher.statistics(sample, sample["target"].ne(1))
    dataset = task.dataset("valid")

    class Changed:
        sizes = dataset.sizes
        collater = staticmethod(dataset.collater)

        def __len__(self):
            return len(dataset)

        def __getitem__(self, index):
            item = dict(dataset[index])
            if index == 5:
                item["source"] = item["source"].clone()
                item["source"][0] += 1
            return item

    teacher.check("valid", dataset)
    with pytest.raises(UsageError, match=r"text \(of sentence 5\)"):
        teacher.check("valid", Changed())


def test_another_dictionary_is_refused(workspace, cache, tmp_path):
    data = Path(shutil.copytree(workspace.data, tmp_path / "data"))
    lines = (data / "dict.yy.txt").read_text(encoding="utf-8").splitlines()
    (data / "dict.yy.txt").write_text("\n".join(lines[::-1]) + "\n", encoding="utf-8")
    with pytest.raises(UsageError, match="for another target dictionary"):
        build(
            data, "--task", "distill_translation", "--criterion", "pd_send2",
            "--teacher-cache", cache,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("args", "criterion", "message"),
    [
        (["--teacher-cache", "{cache}", "--teacher-paths", "a.pt"], "pd_send2", "not both"),
        (["--teacher-cache", "{cache}"], "send2", "member.* probabilities.*--teacher-paths"),
        (["--teacher-cache", "nowhere"], "pd_send2", "nowhere does not exist"),
    ],
)
def test_wrong_options_are_refused(workspace, cache, args, criterion, message):
    args = [str(arg).format(cache=cache) for arg in args]
    with pytest.raises(UsageError, match=message):
        distilling(workspace, *args, criterion=criterion)


def test_a_subset_that_was_not_cached_is_named(workspace, tmp_path):
    build_cache(settings(workspace, tmp_path / "cache", subsets=("valid",)))
    task, _, _ = distilling(workspace, "--teacher-cache", tmp_path / "cache")
    with pytest.raises(UsageError, match=r"no subset 'train'.*--subset valid,train"):
        task.load_dataset("train")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": Path("nowhere")}, "data folder nowhere does not exist"),
        ({"checkpoints": ("nowhere.pt",)}, "nowhere.pt"),
        ({"subsets": ("train", "strange")}, "no subset 'strange'"),
        ({"max_tokens": 2}, "--max-tokens is too small"),
    ],
)
def test_building_from_bad_input(workspace, tmp_path, changes, message):
    with pytest.raises(UsageError, match=message):
        build_cache(settings(workspace, tmp_path / "cache", **changes))


def test_no_disk_no_work(workspace, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(UsageError, match="are free: give another --destdir or a smaller --topk"):
        build_cache(settings(workspace, tmp_path / "cache"))


def test_a_cache_has_no_probabilities_of_members(workspace, cache):
    task = task_for(workspace.data)
    sample = batch(task, "valid", range(3))
    statistics = CachedTeacher(str(cache), task).statistics(sample, sample["target"].ne(1))
    with pytest.raises(UsageError, match=r"not hold the members' prob.*give --teacher-paths"):
        _ = statistics.mean_log_probs


def test_the_command_prints_no_messages_of_other_libraries(workspace, tmp_path):
    """Worker processes print none, either."""
    script = "from fairseq_pdd.cli.main import app; app()"
    args = (
        "teacher-cache", workspace.data, "--path", workspace.teachers, "--destdir",
        tmp_path / "cache", "--subset", "train,valid", "--workers", 2, "--cpu",
    )  # fmt: skip
    result = subprocess.run(
        [sys.executable, "-c", script, *map(str, args)], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(commands.REPOSITORY), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "classes listed" in result.stdout
    bars = re.compile(r"(reading checkpoints|loading teachers|running 2 teachers|checking \w+)")
    lines = [line for line in re.split(r"[\r\n]+", result.stderr) if line.strip()]
    assert [line for line in lines if not bars.match(line)] == []


def test_a_folder_of_something_else_is_refused(workspace, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="is no teacher cache"):
        build_cache(settings(workspace, tmp_path))


def test_the_help_gives_the_size_of_a_token():
    assert layout.token_dtype(64, 40_000, "float16").itemsize == 272
    assert layout.token_dtype(64, 1 << 16, "float16").itemsize == 272
    assert layout.token_dtype(64, (1 << 16) + 1, "float16").itemsize == 272 + 128
    assert layout.token_dtype(64, 40_000, "float32").itemsize == 272 + 128
    text = CliRunner().invoke(app, ["teacher-cache", "--help"]).output
    assert "272" in text


def test_files_are_plain_arrays(cache):
    """NumPy alone can read a cache."""
    manifest = json.loads((cache / "cache.json").read_text())
    tokens = np.load(cache / "valid" / "00000.tokens.npy", mmap_mode="r")
    samples = np.load(cache / "valid" / "00000.samples.npy")
    assert samples["tokens"].sum() == len(tokens)
    assert manifest["made_of"]["topk"] == 8
    assert np.allclose(tokens["probs"].sum(-1) + tokens["rest"], 1, atol=1e-5)
    assert (np.diff(tokens["probs"], axis=-1) <= 0).all()
