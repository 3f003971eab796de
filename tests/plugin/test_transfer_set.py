"""``fairseq-pdd transfer-set``, compared with fairseq-generate and with the original data."""

import ast
import json
from pathlib import Path
from typing import Any, List, Tuple

import pytest
import torch
from fairseq.data import Dictionary, data_utils
from graphlib import TopologicalSorter
from typer.testing import CliRunner

from fairseq_pdd import transfer
from fairseq_pdd.cli.main import app
from fairseq_pdd.errors import UsageError
from fairseq_pdd.transfer import set_builder, translate

from . import commands


def invoke(*args: Any) -> str:
    result = CliRunner().invoke(app, ["transfer-set", *map(str, args)])
    if result.exception is not None:
        raise result.exception
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
    generated = commands.run(
        "fairseq-generate", workspace.data, "--user-dir", commands.USER_DIR, "--cpu",
        "--path", workspace.teachers, "--gen-subset", "valid", "--beam", 2,
        "--required-batch-size-multiple", 1,
    )  # fmt: skip
    lines = [line.split("\t") for line in generated.stdout.split("\n") if line[:2] == "H-"]
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
    monkeypatch.setattr(set_builder, "_corpus", lambda _: [])
    invoke(*args, "--targets", "reference")
    with pytest.raises(UsageError, match="not this transfer set"):
        invoke(*args, "--targets", "both")


def test_an_interrupted_run_translates_only_what_is_missing(
    workspace: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: List[int] = []

    def start(settings: Any, corpus: Any, index: int, part: Path) -> Any:
        started.append(index)
        part.mkdir(exist_ok=True)
        (part / "stderr.log").write_text("")
        lines = [f"H-{i}\t-0.5\tab ab\n" for i in range(index, 40, 2)]
        end = "Generate valid with beam=5: BLEU4 = 0\n" if fail != index else ""
        (part / "generate-valid.txt").write_text("".join(lines) + end)
        return type("Done", (), {"returncode": 0, "poll": lambda self: 0})()

    monkeypatch.setattr(translate, "_start", start)
    args = (
        workspace.data, "--path", workspace.teachers, "--destdir", tmp_path / "set", "--subset",
        "valid", "--workers", 2, "--max-tokens", 60,
    )  # fmt: skip
    fail = 1
    with pytest.raises(UsageError, match="fairseq-generate failed"):
        invoke(*args)
    assert not (tmp_path / "set").exists()
    fail = -1
    invoke(*args)
    assert started == [0, 1, 1]
    assert len(pairs(tmp_path / "set", "train")) == 40


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


@pytest.mark.parametrize(
    ("change", "culprit"),
    [
        ({"--path": "nowhere.pt"}, "nowhere.pt"),
        ({"--subset": "valid7"}, "valid7.xx-yy.xx.idx"),
        ({"--source-lang": "zz", "--target-lang": "yy"}, "dict.zz.txt"),
        ({"data": "no-such-folder"}, "no-such-folder"),
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
    broken = tmp_path / "broken.pt"
    torch.save({"model": {}}, broken)
    with pytest.raises(UsageError, match=r"KeyError.*stderr\.log"):
        invoke(
            workspace.data, "--path", broken, "--destdir", tmp_path / "set", "--subset", "valid",
            "--", "--cpu",
        )  # fmt: skip
