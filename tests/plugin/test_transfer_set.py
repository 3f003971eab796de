"""``fairseq-pdd transfer-set``, compared with fairseq-generate and with the original data."""

import ast
import errno
import filecmp
import json
import shutil
import time
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, List, Tuple

import pytest
import torch
from fairseq.data import Dictionary, data_utils
from typer.testing import CliRunner

from fairseq_pdd import transfer
from fairseq_pdd.cli.main import app
from fairseq_pdd.errors import UsageError
from fairseq_pdd.records.files import lock_file
from fairseq_pdd.transfer import pairs as pairs_module
from fairseq_pdd.transfer import set_builder, translate

from . import commands, inprocess
from .commands import USER_DIR


def invoke(*args: Any) -> str:
    result = CliRunner().invoke(app, ["transfer-set", *map(str, args)])
    if result.exception is not None:
        raise result.exception.__cause__ or result.exception
    return result.output


def pairs(folder: Path, subset: str) -> List[Tuple[str, str]]:
    sides = []
    for language in ("xx", "yy"):
        dictionary = Dictionary.load(str(folder / f"dict.{language}.txt"))
        data = data_utils.load_indexed_dataset(str(folder / f"{subset}.xx-yy.{language}"))
        assert all(item[-1] == dictionary.eos() for item in data)
        sides.append([dictionary.string(item) for item in data])
    return list(zip(*sides))


def test_both_targets_are_the_references_and_the_output_of_fairseq_generate(
    workspace: Any, tmp_path: Path
) -> None:
    invoke(
        workspace.data, "--path", workspace.teachers, "--destdir", tmp_path / "set",
        "--subset", "valid", "--targets", "both", "--beam", 2, "--workers", 2,
        # few sentences in a batch, so that both workers get some
        "--max-tokens", 60, "--", "--cpu",
    )  # fmt: skip
    output = inprocess.generate(
        workspace.data, workspace.teachers, "--task", "translation", "--gen-subset", "valid",
        "--beam", 2,
    )  # fmt: skip
    lines = [line.split("\t") for line in output if line[:2] == "H-"]
    hypotheses = {int(name[2:]): text for name, _, text in lines}
    original = pairs(workspace.data, "valid")
    expected = [(source, hypotheses[i]) for i, (source, _) in enumerate(original)]
    made = pairs(tmp_path / "set", "train")
    assert made[: len(original)] == original
    assert made[len(original) :] == expected
    # beside it the original's held-out sets, for fairseq-train
    assert pairs(tmp_path / "set", "test") == pairs(workspace.data, "test")
    commands.train(
        tmp_path / "set", tmp_path / "student", "--task", "distill_translation", "--criterion",
        "pd_send2", "--teacher-paths", workspace.teachers, updates=2,
    )  # fmt: skip
    assert not (tmp_path / "set.partial").exists()


def test_reference_targets_need_no_translation_and_are_not_built_twice(
    workspace: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(translate, "_start", None)
    args = (workspace.data, "--path", workspace.teachers, "--destdir", tmp_path / "set")
    invoke(*args, "--targets", "reference")
    assert pairs(tmp_path / "set", "train") == pairs(workspace.data, "train")
    monkeypatch.setattr(set_builder, "_build", None)
    # killed when the set was complete
    made_of = json.loads((tmp_path / "set" / set_builder.MANIFEST).read_text())["made_of"]
    (tmp_path / "set.partial").mkdir()
    (tmp_path / "set.partial" / "settings.json").write_text(json.dumps(made_of))
    assert "complete already" in invoke(*args, "--targets", "reference")
    assert not list(tmp_path.glob("set?*"))
    with pytest.raises(UsageError, match=r"not this transfer set: it differs in targets"):
        invoke(*args, "--targets", "both")


def output(data: Path) -> str:
    """Return two symbols of the target language."""
    symbol = Dictionary.load(str(data / "dict.yy.txt"))[9]
    return f"{symbol} {symbol}"


class Generator:
    """A fake of fairseq-generate, which gives all sentences the same output."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.started: List[int] = []
        self.data: List[Path] = []
        self.fail = -1
        monkeypatch.setattr(translate, "_start", self.start)
        monkeypatch.setattr(translate, "_POLL_SECONDS", 0)

    def start(
        self, settings: Any, corpus: Any, data: Path, division: Any, gpu: int, folder: Path
    ) -> Any:
        index, step = division
        self.started.append(index)
        self.data.append(data)
        (folder / "stderr.log").write_text("killed\n")
        lines = [
            f"S-{i}\tab\nH-{i}\t-0.5\t{output(settings.data)}\n"
            for i in range(index, len(corpus), step)
        ]
        (folder / "generate-test.txt").write_text("".join(lines))
        status = 1 if index == self.fail else 0
        return type("Done", (), {"returncode": status, "poll": lambda self: status})()


def test_an_interrupted_run_translates_only_what_is_missing(
    workspace: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = Generator(monkeypatch)
    args = (
        workspace.data, "--path", workspace.teachers, "--destdir", tmp_path / "set", "--subset",
        "valid", "--max-tokens", 60,
    )  # fmt: skip
    generator.fail = 1
    with pytest.raises(UsageError, match="fairseq-generate failed: killed"):
        invoke(*args, "--workers", 2)
    assert not (tmp_path / "set").exists()
    # an output that was damaged meanwhile is made again; an older process may still write there
    (made,) = (tmp_path / "set.partial").glob("part-0-of-2-*/*/generate-test.txt")
    made.write_text(made.read_text().replace("H-0", "H-1"))
    generator.fail = 1
    with pytest.raises(UsageError, match="fairseq-generate failed"):
        invoke(*args, "--workers", 2)
    assert not made.exists()
    # parts of another division are of no use, and stay
    generator.fail = 0
    with pytest.raises(UsageError, match="fairseq-generate failed"):
        invoke(*args, "--workers", 1)
    generator.fail = -1
    invoke(*args, "--workers", 2)
    assert generator.started == [0, 1, 0, 1, 0, 1]
    assert [target for _, target in pairs(tmp_path / "set", "train")] == [
        output(workspace.data)
    ] * 40
    assert not list(tmp_path.glob("set?*"))


@pytest.fixture
def copies(workspace: Any, tmp_path: Path) -> Tuple[Path, Path, Path]:
    """Copies of the data and of the two members in folders of their own."""
    data = Path(shutil.copytree(workspace.data, tmp_path / "data"))
    members = []
    for member in (workspace.transformer, workspace.lstm):
        members.append(tmp_path / "members" / f"{member.parent.name}.pt")
        members[-1].parent.mkdir(exist_ok=True)
        torch.save(torch.load(member, weights_only=False), members[-1])
    return data, members[0], members[1]


def retrain(path: Path) -> None:
    """Change one weight and nothing else: neither the path nor the size."""
    state = torch.load(path, weights_only=False)
    state["model"]["decoder.embed_tokens.weight"][5, 0] += 1
    size = path.stat().st_size
    torch.save(state, path)
    assert path.stat().st_size == size


def add_sentence(data: Path) -> None:
    """Swap two tokens in the first source, so that no size changes."""
    path = data / "train.xx-yy.xx.bin"
    content = bytearray(path.read_bytes())
    content[:4] = content[2:4] + content[:2]
    assert content != path.read_bytes()
    path.write_bytes(content)


@pytest.mark.parametrize("state", ["complete", "interrupted"])
@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ("member", "checkpoints 2"),
        ("train", "data files train xx.bin"),
        ("valid", "data files valid.xx-yy.yy.bin"),
        ("beam", r"beam \(5, not 4\)"),
        ("option", r"options lenpen \(None, not 0.6\)"),
        ("elsewhere", ""),
    ],
)
def test_a_set_is_known_by_the_content_of_what_it_was_made_of(
    copies: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, change: str,
    differs: str,
) -> None:  # fmt: skip
    generator = Generator(monkeypatch)
    data, first, second = copies
    destdir = tmp_path / "set"
    args = ["--destdir", destdir, "--workers", 2, "--max-tokens", 600]
    if state == "interrupted":
        generator.fail = 1
        with pytest.raises(UsageError, match="fairseq-generate failed"):
            invoke(data, "--path", f"{first}:{second}", *args)
        generator.fail = -1
    else:
        invoke(data, "--path", f"{first}:{second}", *args)
    before = {path: path.read_bytes() for path in tmp_path.glob("set*/**/*") if path.is_file()}
    if change == "member":
        retrain(second)
    elif change == "train":
        add_sentence(data)
    elif change == "valid":
        (data / "valid.xx-yy.yy.bin").write_bytes((data / "test.xx-yy.yy.bin").read_bytes())
    elif change == "beam":
        args += ["--beam", 4]
    elif change == "option":
        args += ["--", "--lenpen", 0.6]
    else:  # neither the place of the same files nor the division of the work matters
        data = data.rename(tmp_path / "elsewhere")
        first = first.rename(tmp_path / "other-name.pt")
        invoke(data, "--path", f"{first}:{second}", "--destdir", destdir, "--max-tokens", 99)
        assert (destdir / set_builder.MANIFEST).exists()
        return
    with pytest.raises(UsageError, match=f"another set|not this transfer set.*{differs}"):
        invoke(data, "--path", f"{first}:{second}", *args)
    assert all(path.read_bytes() == content for path, content in before.items())


def test_a_failed_run_that_finished_nothing_does_not_block_another(
    copies: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = Generator(monkeypatch)
    args = (copies[0], "--path", copies[1], "--destdir", tmp_path / "set")
    generator.fail = 0
    with pytest.raises(UsageError, match="fairseq-generate failed"):
        invoke(*args, "--", "--lenpen", 0.6)
    generator.fail = -1
    invoke(*args)
    made_of = json.loads((tmp_path / "set" / set_builder.MANIFEST).read_text())["made_of"]
    assert made_of["options"] == {}


def test_all_train_sets_are_translated_into_one(
    workspace: Any, copies: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fairseq-train joins train1 and train2 to train."""
    Generator(monkeypatch)
    data = copies[0]
    for language in ("xx", "yy"):
        for suffix in ("bin", "idx"):
            # the second set is named for the other direction, which fairseq accepts
            for subset, name in (("valid", "train1.xx-yy"), ("test", "train2.yy-xx")):
                shutil.copy(
                    data / f"{subset}.xx-yy.{language}.{suffix}",
                    data / f"{name}.{language}.{suffix}",
                )
    destdir = tmp_path / "set"
    invoke(data, "--path", workspace.teachers, "--destdir", destdir, "--targets", "both")
    original = [pair for subset in ("train", "valid", "test") for pair in pairs(data, subset)]
    outputs = [(source, output(data)) for source, _ in original]
    assert pairs(destdir, "train") == original + outputs
    assert not list(destdir.glob("train?*.xx-yy.*"))
    task = inprocess.task_for(destdir, "--task", "distill_translation")
    task.load_dataset("train", combine=True)
    assert len(task.dataset("train")) == 2 * len(original)


def test_monolingual_data_is_translated(
    workspace: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``fairseq-preprocess --only-source`` writes one side, and a name without target."""
    Generator(monkeypatch)
    data = tmp_path / "mono"
    data.mkdir()
    for suffix in ("bin", "idx"):
        shutil.copy(
            workspace.data / f"valid.xx-yy.xx.{suffix}", data / f"train.xx-None.xx.{suffix}"
        )
    for language in ("xx", "yy"):
        shutil.copy(workspace.data / f"dict.{language}.txt", data)
    args = (data, "--path", workspace.teachers, "--destdir", tmp_path / "set")
    with pytest.raises(UsageError, match="has no targets: give --targets ensemble"):
        invoke(*args, "--targets", "both")
    invoke(*args)
    made = pairs(tmp_path / "set", "train")
    assert made == [(source, output(data)) for source, _ in pairs(workspace.data, "valid")]


def test_the_ensemble_labels_extra_sources_without_their_targets(
    workspace: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Generator(monkeypatch)
    mono, parallel = tmp_path / "mono", tmp_path / "parallel"
    for folder, pair, subset in ((mono, "xx-None", "test"), (parallel, "xx-yy", "valid")):
        folder.mkdir()
        shutil.copy(workspace.data / "dict.xx.txt", folder)
        for language in ("xx",) if folder == mono else ("xx", "yy"):
            for suffix in ("bin", "idx"):
                shutil.copy(
                    workspace.data / f"{subset}.xx-yy.{language}.{suffix}",
                    folder / f"train.{pair}.{language}.{suffix}",
                )
    destdir = tmp_path / "set"
    args = (workspace.data, "--path", workspace.teachers, "--destdir", destdir)
    args = (*args, "--targets", "both", "--extra-source", mono)
    report = invoke(*args, "--extra-source", parallel)
    own = pairs(workspace.data, "train")
    extra = pairs(workspace.data, "test") + pairs(workspace.data, "valid")
    outputs = [(source, output(workspace.data)) for source, _ in own + extra]
    assert pairs(destdir, "train") == own + outputs
    assert f"{len(extra)} of extra sources" in report
    counts = json.loads((destdir / set_builder.MANIFEST).read_text())["counts"]
    assert counts == {
        "pairs": len(own) + len(outputs), "sentences": len(outputs), "dropped": 0,
        "extra_pairs": len(extra),
    }  # fmt: skip
    # held-out sets are those of the domain
    assert pairs(destdir, "test") == pairs(workspace.data, "test")
    assert "complete already" in invoke(*args, "--extra-source", parallel)
    with pytest.raises(UsageError, match=r"differs in .*extra source 1"):
        invoke(*args)

    with pytest.raises(UsageError, match=r"differs in .*share"):
        invoke(*args, "--extra-source", parallel, "--share", 0.02)
    args = (*args[:-1], parallel, "--destdir", tmp_path / "share", "--share")
    selected = len(own) // 19  # the others are 19 of 20
    assert 2 < selected < len(extra) / 2
    invoke(*args, 0.05, "--targets", "ensemble")
    made = pairs(tmp_path / "share", "train")
    assert made[: len(own)] == outputs[: len(own)]
    valid = pairs(workspace.data, "valid")
    places = [[source for source, _ in valid].index(source) for source, _ in made[len(own) :]]
    assert len(places) in (selected, selected + 1)
    gaps = {b - a for a, b in zip(places, places[1:])}
    assert max(gaps) - min(gaps) <= 1  # evenly spread
    assert min(gaps) > 0
    assert places[-1] + max(gaps) >= len(valid)
    counts = json.loads((tmp_path / "share" / set_builder.MANIFEST).read_text())["counts"]
    assert counts["extra_pairs"] == len(places)
    with pytest.raises(
        UsageError, match=rf"0\.9 needs {9 * len(own):,} extra .*are {len(valid):,}"
    ):
        invoke(*args, 0.9, "--destdir", tmp_path / "more")


def test_extra_sources_of_another_dictionary_are_refused(workspace: Any, tmp_path: Path) -> None:
    data = tmp_path / "other"
    shutil.copytree(workspace.data, data)
    lines = (data / "dict.xx.txt").read_text("utf-8").splitlines(keepends=True)
    (data / "dict.xx.txt").write_text("".join(lines[::-1]), "utf-8")
    with pytest.raises(UsageError, match=r"other/dict\.xx\.txt is not the dictionary.*--srcdict"):
        invoke(
            workspace.data, "--path", workspace.teachers, "--destdir", tmp_path / "set",
            "--extra-source", data,
        )  # fmt: skip


def test_a_set_of_the_opposite_direction_is_one_that_training_accepts(
    workspace: Any, copies: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without languages, the first member's are used; the files are named xx-yy."""
    Generator(monkeypatch)
    data, member, _ = copies
    # dictionaries of this corpus have the same size, so only the names are exchanged
    state = torch.load(member, weights_only=False)
    state["cfg"]["task"]["source_lang"], state["cfg"]["task"]["target_lang"] = "yy", "xx"
    state["cfg"]["task"]["data"] = "nowhere"
    state.pop("task_state", None)
    weights = state["model"]
    names = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
    weights[names[0]], weights[names[1]] = weights[names[1]], weights[names[0]]
    torch.save(state, member)
    destdir = tmp_path / "set"
    invoke(data, "--path", member, "--destdir", destdir, "--targets", "both")
    sentences = [target for _, target in pairs(data, "train")]
    task = inprocess.task_for(destdir, "--task", "distill_translation")  # infers the languages
    assert (task.cfg.source_lang, task.cfg.target_lang) == ("yy", "xx")
    for subset in ("train", "valid", "test"):
        task.load_dataset(subset, combine=subset == "train")
    sources = [
        task.source_dictionary.string(task.dataset("train")[i]["source"])
        for i in range(len(task.dataset("train")))
    ]
    assert sources == sentences + sentences
    with pytest.raises(UsageError, match="translates yy to xx"):
        invoke(data, "--path", member, "--destdir", tmp_path / "b", "-s", "xx", "-t", "yy")


def test_a_killed_run_is_completed_to_the_same_set(workspace: Any, tmp_path: Path) -> None:
    """kill -9 of the command while fairseq-generate runs, then the same command."""
    args = [
        "fairseq-pdd", "transfer-set", workspace.data, "--path", workspace.lstm, "--destdir",
        tmp_path / "set", "--subset", "test", "--beam", 2, "--", "--cpu",
    ]  # fmt: skip
    process = commands.start(*args)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while not (child := children.read_text().strip()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.kill()
    process.communicate(timeout=60)
    assert not (tmp_path / "set").exists()
    commands.run(*args)
    assert not Path(f"/proc/{child}").exists()
    generated = inprocess.generate(
        workspace.data, workspace.lstm, "--gen-subset", "test", "--beam", 2
    )
    lines = [line.split("\t") for line in generated if line.startswith("H-")]
    outputs = {int(name[2:]): text for name, _, text in lines}
    assert pairs(tmp_path / "set", "train") == [
        (source, outputs[i]) for i, (source, _) in enumerate(pairs(workspace.data, "test"))
    ]
    assert not list(tmp_path.glob("set?*"))


def test_two_commands_cannot_build_one_set(
    workspace: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Generator(monkeypatch)
    args = (workspace.data, "--path", workspace.lstm, "--destdir", tmp_path / "set")
    with lock_file(tmp_path / "set"), pytest.raises(UsageError, match="another process"):
        invoke(*args)
    # a killed process leaves the file of its lock
    (tmp_path / "set.lock").touch()
    invoke(*args)
    assert not list(tmp_path.glob("set?*"))


def test_shards_make_the_set_of_one_command(
    workspace: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = Generator(monkeypatch)
    args = (
        workspace.data, "--path", workspace.teachers, "--subset", "valid", "--max-tokens", 30,
    )  # fmt: skip
    whole, sharded = tmp_path / "whole", tmp_path / "sharded"
    invoke(*args, "--destdir", whole, "--workers", 4)
    generator.started.clear()
    args = (*args, "--destdir", sharded, "--num-shards", 2)
    for shard, parts in ((1, [1, 3]), (0, [0, 2])):
        generator.started.clear()
        assert f"shard {shard} of 2 is complete" in invoke(
            *args, "--workers", 2, "--shard-id", shard
        )
        assert sorted(generator.started) == parts
        assert not sharded.exists()
    generator.started.clear()
    with pytest.raises(UsageError, match=r"part-\d-of-4.*--workers"):
        invoke(*args, "--workers", 1)
    invoke(*args, "--workers", 2)
    assert generator.started == []
    files = [path.name for path in whole.iterdir()]
    assert filecmp.cmpfiles(whole, sharded, files, shallow=False) == (files, [], [])
    assert not list(tmp_path.glob("sharded?*"))


def test_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [translate._own_gpu(i)["CUDA_VISIBLE_DEVICES"] for i in range(3)] == ["0", "1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,3")
    assert [translate._own_gpu(i)["CUDA_VISIBLE_DEVICES"] for i in range(3)] == ["5", "3", "5"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert translate._own_gpu(1) == {}


def test_a_full_disk_is_one_line_and_the_translations_are_kept(
    workspace: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = Generator(monkeypatch)
    args = (workspace.data, "--path", workspace.lstm, "--destdir", tmp_path / "set")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pairs_module._PairWriter, "add_hypothesis", full)
        with pytest.raises(UsageError, match=r"cannot write .*set: .*No space left on device"):
            invoke(*args)
    invoke(*args)
    assert generator.started == [0]


def test_a_sentence_without_translation_is_dropped_and_counted(
    workspace: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(set_builder, "translate", lambda *_: {0: "ab", 2: ""})
    destdir = tmp_path / "set"
    invoke(workspace.data, "--path", workspace.teachers, "--destdir", destdir, "--subset", "valid")
    (source, _), *_ = pairs(workspace.data, "valid")
    (made,) = pairs(destdir, "train")
    assert made[0] == source
    counts = json.loads((destdir / set_builder.MANIFEST).read_text())["counts"]
    assert counts == {"pairs": 1, "sentences": 40, "dropped": 39}


def test_options_behind_the_dashes_reach_fairseq_generate(
    workspace: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: List[Any] = []

    def start(settings: Any, *_: Any) -> Any:
        seen.extend(settings.generate_args)
        raise UsageError("enough")

    monkeypatch.setattr(translate, "_start", start)
    options = [
        "--cpu", "--fp16", "--lenpen", "0.6", "--sampling", "--retain-dropout", "--max-len-b", "9",
        "--no-repeat-ngram-size", "3", "--model-overrides", "{'dropout': 0.1}", "--nbest", "1",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="enough"):
        invoke(
            workspace.data, "--path", workspace.teachers, "--destdir", tmp_path / "set", "--beam",
            1, "--", *options,
        )  # fmt: skip
    assert seen == options


@pytest.mark.parametrize(
    ("change", "culprit"),
    [
        ({"--path": "nowhere.pt"}, "nowhere.pt"),
        ({"--subset": "valid7"}, "valid7.xx-yy.xx.idx"),
        ({"--source-lang": "zz", "--target-lang": "yy"}, "dict.zz.txt"),
        ({"data": "no-such-folder"}, "no-such-folder"),
        ({"--extra-source": "no-such-folder"}, "no-such-folder of --extra-source"),
        ({"--extra-source": USER_DIR}, "holds no sources 'train' in xx"),
        ({"--extra-source": ".", "--targets": "reference"}, "give --targets ensemble"),
        ({"--share": 0.3}, "give --extra-source"),
        ({"--extra-source": ".", "--share": 1}, "--share 1 is not between 0 and 1"),
    ],
)
def test_bad_input_is_named(workspace: Any, tmp_path: Path, change: Any, culprit: str) -> None:
    options = {"--path": workspace.teachers, "--destdir": tmp_path / "set", **change}
    data = options.pop("data", workspace.data)
    with pytest.raises(UsageError, match=culprit):
        invoke(data, *(x for item in options.items() for x in item))
    assert not (tmp_path / "set").exists()


def test_modules_do_not_import_one_another_in_a_circle() -> None:
    """Imports within functions and for type checking count."""
    graph = {}
    for path in Path(transfer.__file__).parent.glob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text("utf-8")))
        local = [n for n in nodes if isinstance(n, ast.ImportFrom) and n.level == 1]
        graph[path.stem] = {n.module or alias.name for n in local for alias in n.names}
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError
    assert order.index("settings") < order.index("translate") < order.index("set_builder")


def test_the_failure_of_fairseq_generate_is_reported(workspace: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no sentence of 'valid'.*too long"):
        invoke(
            workspace.data, "--path", workspace.lstm, "--destdir", tmp_path / "set", "--subset",
            "valid", "--", "--cpu", "--max-source-positions", 1,
        )  # fmt: skip
    with pytest.raises(UsageError, match=r"failed: .*stderr\.log"):
        invoke(
            workspace.data, "--path", workspace.lstm, "--destdir", tmp_path / "b", "--subset",
            "valid", "--", "--cpu", "--model-overrides", "{'encoder_hidden_size': 5}",
        )  # fmt: skip
