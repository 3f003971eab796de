"""Wrong input to ``fairseq-pdd transfer-set`` and ``fairseq-pdd teacher-cache``."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, List, NamedTuple, Sequence

import numpy as np
import pytest

from fairseq_pdd.transfer.set_builder import build_transfer_set
from fairseq_pdd.transfer.settings import TransferSettings

from .cases import Bad, BadCall, check, check_call, parametrize


class Scene(NamedTuple):
    """Models and data, and a folder for what is spoiled."""

    workspace: Any
    root: Path


def transfer_set(*args: Any, **kwargs: Any) -> Callable[[Scene], Sequence[Any]]:
    """Return a command that builds a transfer set; see ``_command`` for the keywords."""
    return _command("transfer-set", args, **kwargs)


def teacher_cache(*args: Any, **kwargs: Any) -> Callable[[Scene], Sequence[Any]]:
    """Return a command that builds a teacher cache; see ``_command`` for the keywords."""
    return _command("teacher-cache", args, **kwargs)


def _command(name: str, args: Sequence[Any], spoil: Any = None, data: Any = None) -> Any:
    """Return a function that spoils a copy of the data and returns a command on it or ``data``."""

    def command(scene: Scene) -> Sequence[Any]:
        copied = shutil.copytree(scene.workspace.data, scene.root / "data")
        words = list(args)
        if spoil is not None:
            spoil(scene)
        destination = [] if "--destdir" in words else ["--destdir", scene.root / "out"]
        place = copied if data is None else data
        return ["fairseq-pdd", name, place, "--path", scene.workspace.lstm, *destination, *words]

    return command


def write(name: str, content: str) -> Callable[[Scene], None]:
    """Return a function that writes a file below the scene's folder."""

    def spoil(scene: Scene) -> None:
        path = scene.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")

    return spoil


def copy(old: str, new: str) -> Callable[[Scene], None]:
    """Return a function that copies both sides of a subset of the data."""

    def spoil(scene: Scene) -> None:
        for side in ("xx", "yy"):
            for suffix in ("bin", "idx"):
                source = scene.root / "data" / f"{old}.xx-yy.{side}.{suffix}"
                shutil.copy(source, source.with_name(f"{new}.xx-yy.{side}.{suffix}"))

    return spoil


def only_source(scene: Scene) -> None:
    """Remove the targets of the training set."""
    for path in (scene.root / "data").glob("train.xx-yy.yy.*"):
        path.unlink()


def cut(name: str) -> Callable[[Scene], None]:
    """Return a function that halves a file of the data."""

    def spoil(scene: Scene) -> None:
        path = scene.root / "data" / name
        os.truncate(path, path.stat().st_size // 2)

    return spoil


def unknown_number(scene: Scene) -> None:
    """Give one target of the training set a number that no type has."""
    path = scene.root / "data" / "train.xx-yy.yy.bin"
    numbers = np.fromfile(path, dtype=np.uint16)
    numbers[5] = 3000
    numbers.tofile(path)


def targets_of_valid(scene: Scene) -> None:
    """Give the training set the targets of another subset."""
    for suffix in ("bin", "idx"):
        path = scene.root / "data" / f"valid.xx-yy.yy.{suffix}"
        shutil.copy(path, path.with_name(f"train.xx-yy.yy.{suffix}"))


def reverse_dictionary(scene: Scene) -> None:
    """Put the symbols of the target dictionary into another order."""
    path = scene.root / "data" / "dict.yy.txt"
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(lines[::-1]) + "\n", encoding="utf-8")


def refused(option: str, *words: Any) -> "Bad[Scene]":
    """Return a case of an option behind the dashes that the command sets itself."""
    command = transfer_set("--", *words)
    return Bad(f"-- {' '.join(map(str, words))}", command, [option, str(words[0]), "remove it"])


MANIFEST = {"made_of": {}, "counts": {}}
CASES: "List[Bad[Scene]]" = [
    refused("--nbest", "--nbest", 5),
    refused("--user-dir", "--user-dir", "elsewhere"),
    Bad("abbreviated", transfer_set("--", "--nb", 5), ["--nb 5", "fairseq-generate"]),
    Bad("unknown", transfer_set("--", "--no-such-option"), ["--no-such-option"]),
    Bad("value missing", transfer_set("--", "--lenpen"), ["--lenpen", "expected one argument"]),
    Bad("misspelt own option", transfer_set("--worker", 2), ["--worker"]),
    Bad("sampling", transfer_set("--", "--sampling"), ["--sampling", "--beam 1"]),
    Bad("opposite", transfer_set("-s", "yy", "-t", "xx"), ["xx to yy", "--source-lang xx"]),
    Bad("one language twice", transfer_set("-s", "yy"), ["'yy'", "--source-lang"]),
    Bad("no references", transfer_set("--targets", "reference", spoil=only_source),
        ["'train'", "no targets", "--targets ensemble"]),
    Bad("another dictionary", transfer_set(spoil=reverse_dictionary), ["target dictionary"]),
    Bad("subset with a path", transfer_set("--subset", "../train"), ["--subset", "'../train'"]),
    Bad("not a set", transfer_set(spoil=write("out/thesis.tex", "x")),
        ["out", "no transfer set", "--destdir"]),
    Bad("manifest is cut", transfer_set(spoil=write("out/transfer-set.json", "{")),
        ["transfer-set.json", "damaged", "remove"]),
    Bad("manifest is a list", transfer_set(spoil=write("out/transfer-set.json", "[1]")),
        ["transfer-set.json", "damaged", "remove"]),
    Bad("manifest of another set",
        transfer_set(spoil=write("out/transfer-set.json", json.dumps(MANIFEST))),
        ["not this transfer set", "checkpoints", "remove"]),
    Bad("note is cut", transfer_set(spoil=write("out.partial/settings.json", '{"a"')),
        ["settings.json", "damaged", "remove"]),
    Bad("note is a number", transfer_set(spoil=write("out.partial/settings.json", "3")),
        ["settings.json", "damaged", "remove"]),
    Bad("partial folder of the user", transfer_set(spoil=write("out.partial/thesis.tex", "x")),
        ["out.partial", "no interrupted run"]),
    Bad("partial is a file", transfer_set(spoil=write("out.partial", "x")), ["out.partial"]),
    Bad("no place", transfer_set("--destdir", "/proc/set"), ["cannot write /proc/set"]),
    Bad("data cut", transfer_set(spoil=write("data/train.xx-yy.xx.idx", "MMIDIDX")),
        ["train.xx-yy.xx.idx", "fairseq-preprocess"]),
    Bad("sources cut", transfer_set(spoil=cut("train.xx-yy.xx.bin")),
        ["train.xx-yy.xx.bin", "too short", "fairseq-preprocess"]),
    Bad("numbers cut", transfer_set(spoil=cut("train.xx-yy.xx.idx")),
        ["train.xx-yy.xx.idx", "damaged", "fairseq-preprocess"]),
    Bad("target beyond the dictionary", transfer_set("--targets", "both", spoil=unknown_number),
        ["train.xx-yy.yy.bin", "number 3,000", "--tgtdict"]),
    Bad("length penalty is no number", transfer_set("--", "--lenpen", "nan"), ["--lenpen nan"]),
    Bad("several folders", transfer_set(data="a:b"), ["a:b", "one folder at a time"]),
    Bad("cache: several folders", teacher_cache(data="a:b"), ["a:b", "one folder at a time"]),
    Bad("cache: targets cut", teacher_cache("--cpu", spoil=cut("train.xx-yy.yy.bin")),
        ["train.xx-yy.yy.bin", "too short", "fairseq-preprocess"]),
    Bad("cache: target beyond the dictionary", teacher_cache("--cpu", spoil=unknown_number),
        ["train.xx-yy.yy.bin", "number 3,000", "--tgtdict"]),
    Bad("cache: no targets", teacher_cache("--cpu", spoil=only_source),
        ["'train' has no targets", "transfer-set"]),
    Bad("cache: fewer targets", teacher_cache("--cpu", spoil=targets_of_valid),
        ["'train'", "same number"]),
    Bad("cache: no dictionary", teacher_cache("--cpu", spoil=write("data/dict.xx.txt", "a b c\n")),
        ["dictionaries", "Incorrect dictionary format"]),
    Bad("cache: no place", teacher_cache("--cpu", "--destdir", "/proc/cache"),
        ["cannot write /proc/cache"]),
    Bad("cache: train1 is not cached", teacher_cache("--cpu", spoil=copy("valid", "train1")),
        ["'train1'", "--subset (train,valid,train1)"]),
    Bad("cache: path in --subset", teacher_cache("--cpu", "--subset", "train,../valid"),
        ["--subset", "'../valid'"]),
    Bad("cache: empty name", teacher_cache("--cpu", "--subset", "train,,valid"),
        ["--subset", "''"]),
    Bad("cache: twice", teacher_cache("--cpu", "--subset", "valid,valid"), ["'valid' twice"]),
    Bad("cache: manifest is cut", teacher_cache("--cpu", spoil=write("out/cache.json", "{")),
        ["cache.json", "damaged", "remove"]),
    Bad("cache: manifest is a list", teacher_cache("--cpu", spoil=write("out/cache.json", "[]")),
        ["cache.json", "damaged", "remove"]),
    Bad("cache: note is a list", teacher_cache("--cpu", spoil=write("out/building.json", "[]")),
        ["building.json", "damaged", "remove"]),
    Bad("cache: another dictionary", teacher_cache("--cpu", spoil=reverse_dictionary),
        ["target dictionary"]),
]  # fmt: skip


@pytest.fixture
def scene(workspace: Any, tmp_path: Path) -> Scene:
    root = tmp_path / "scene"
    root.mkdir()
    return Scene(workspace, root)


@parametrize(CASES)
def test_command(case: "Bad[Scene]", scene: Scene, tmp_path: Path) -> None:
    check(case, scene, tmp_path, scene.root)
    assert not list(scene.root.glob("*.lock"))


def settings(scene: Scene, **changes: Any) -> TransferSettings:
    values = TransferSettings(
        data=scene.workspace.data,
        checkpoints=(str(scene.workspace.lstm),),
        destdir=scene.root / "out",
        targets="ensemble",
        subset="train",
        source_lang=None,
        target_lang=None,
        config_yaml="config.yaml",
        beam=5,
        max_tokens=12000,
        workers=1,
        generate_args=(),
    )
    return replace(values, **changes)


def refused_call(option: str, *words: Any) -> "BadCall[Scene]":
    """Return a case like :func:`refused`, without a process of its own."""

    def call(scene: Scene) -> None:
        build_transfer_set(settings(scene, generate_args=tuple(map(str, words))))

    name = f"-- {' '.join(map(str, words))}"
    return BadCall(name, call, [option, str(words[0]), "remove it"])


CALLS: "List[BadCall[Scene]]" = [
    refused_call("--nbest", "--nbest=5"),
    refused_call("--path", "--path", "other.pt"),
    refused_call("--gen-subset", "--gen-subset", "valid"),
    refused_call("--beam", "--beam", 9),
    refused_call("--max-tokens", "--max-tokens", 9),
    refused_call("--results-path", "--results-path", "elsewhere"),
    refused_call("--task", "--task", "translation"),
    refused_call("--source-lang", "-s", "yy"),
    refused_call("--post-process", "--remove-bpe"),
    refused_call("--replace-unk", "--replace-unk"),
    refused_call("--score-reference", "--score-reference"),
    refused_call("--quiet", "--quiet"),
    refused_call("--prefix-size", "--prefix-size", 2),
    refused_call("--num-shards", "--num-shards", 2),
    refused_call("--distributed-world-size", "--distributed-world-size", 3),
    refused_call("--print-alignment", "--print-alignment"),
    refused_call("--sacrebleu", "--sacrebleu"),
    refused_call("--constraints", "--constraints"),
    refused_call("--truncate-source", "--truncate-source"),
]


@parametrize(CALLS)
def test_call(case: "BadCall[Scene]", scene: Scene) -> None:
    check_call(case, scene)
    assert not list(scene.root.iterdir())


def test_a_set_behind_a_link_and_around_the_current_folder(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    (scene.root / "link").symlink_to(scene.root / "disk" / "set")
    linked = settings(scene, destdir=scene.root / "link", targets="reference", subset="valid")
    build_transfer_set(linked)
    made = scene.root / "disk" / "set" / "transfer-set.json"
    before = made.stat().st_mtime_ns
    monkeypatch.chdir(made.parent)
    build_transfer_set(replace(linked, destdir=Path(".")))
    assert made.stat().st_mtime_ns == before
    assert sorted(path.name for path in scene.root.rglob("*") if path.suffix == ".partial") == []
