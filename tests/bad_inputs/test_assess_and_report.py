"""Wrong records, names and options of ``fairseq-pdd assess`` and ``fairseq-pdd report``."""

import json
import os
import shutil
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Sequence

import numpy as np
import pytest
from typer.testing import CliRunner

from fairseq_pdd.assess import (
    TRANSLATION,
    combine,
    detect,
    negative_log_likelihood,
    rejection,
    reliability_diagram,
    word_errors,
    word_scores,
)
from fairseq_pdd.assess import Combination as Nbest
from fairseq_pdd.cli.main import app
from fairseq_pdd.records import collect_records, dumps, make_record, read_records
from fairseq_pdd.report.assemble import build_report

from ..assess import making
from .cases import Bad, BadCall, check, check_call, parametrize
from .processes import run

ASSESS = {
    "ood": ["{0}/test.jsonl", "{0}/ood_x.jsonl"],
    "errors": ["{0}/test.jsonl"],
    "token-errors": ["{0}/test.jsonl"],
    "calibration": ["{0}/test.jsonl"],
    "faithfulness": ["{0}", "{0}"],
}
SETS = {"test": 0.3, "ood_x": 0.5, "nll": 0.4}


class Scene(NamedTuple):
    """Records of two systems, ``a`` and ``b``, to spoil."""

    root: Path

    @property
    def systems(self) -> Path:
        return self.root / "records"

    @property
    def a(self) -> Path:
        return self.systems / "a"

    @property
    def b(self) -> Path:
        return self.systems / "b"


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    root = tmp_path / "scene"
    for number, system in enumerate("ab"):
        for name, scale in SETS.items():
            made = making.records(6, scale, seed=number, kind="student", nbest=2)
            made = [r for r in made if r["rank"] == 0] if name == "nll" else made
            making.write(root / "records" / system / f"{name}.jsonl", made)
    return Scene(root)


def change(path: Path, edit: Callable[[List[Dict[str, Any]]], Any]) -> None:
    """Edit the records of a file."""
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    edit(lines)
    making.write(path, lines)


def assess(name: str, edit: Callable[[Scene], Any], *options: Any) -> Callable[[Scene], List[Any]]:
    """Make a command of ``fairseq-pdd assess`` that meets what ``edit`` has spoilt."""

    def command(scene: Scene) -> List[Any]:
        edit(scene)
        paths = ASSESS.get(name, [str(scene.systems)])
        words = [*paths, *options]
        return ["fairseq-pdd", "assess", name, *(str(word).format(scene.a) for word in words)]

    return command


def report(edit: Callable[[Scene], Any], *options: Any) -> Callable[[Scene], List[Any]]:
    """Make a ``fairseq-pdd report`` that meets what ``edit`` has spoilt."""

    def command(scene: Scene) -> List[Any]:
        edit(scene)
        out = options or ("--out", scene.root / "new" / "report.html")
        return [
            "fairseq-pdd",
            "report",
            scene.systems,
            *(str(word).format(scene.a) for word in out),
        ]

    return command


def nothing(scene: Scene) -> None:
    """Leave the records as they are."""


def in_set(
    edit: Callable[[List[Dict[str, Any]]], Any], system: str = "a", name: str = "test"
) -> Callable[[Scene], None]:
    """Edit one set of one system."""
    return lambda scene: change(scene.systems / system / f"{name}.jsonl", edit)


def at(line: int, **changes: Any) -> Callable[[List[Dict[str, Any]]], None]:
    """Change fields of one line, counted from 1."""
    return lambda lines: lines[line - 1].update(changes)


def value(line: int, level: str, measure: str, new: Any) -> Callable[[List[Any]], None]:
    """Change a value of one line."""
    return lambda lines: lines[line - 1][level].update({measure: new})


def everywhere(level: str, measure: str, new: Any) -> Callable[[List[Any]], None]:
    """Change a value of all lines."""

    def edit(lines: List[Any]) -> None:
        for line in lines:
            line[level][measure] = new

    return edit


def no_measures(lines: List[Any]) -> None:
    for line in lines:
        for level in ("sequence", "token"):
            line[level] = dict.fromkeys(line[level])


def no_rmi(scene: Scene) -> None:
    for name in ("test", "ood_x"):
        change(scene.a / f"{name}.jsonl", everywhere("sequence", "rmi", None))


def raw(prefix: bytes = b"", suffix: bytes = b"") -> Callable[[Scene], None]:
    """Put bytes around the test set of ``a``."""

    def edit(scene: Scene) -> None:
        path = scene.a / "test.jsonl"
        path.write_bytes(prefix + path.read_bytes() + suffix)

    return edit


def right(lines: List[Any]) -> None:
    for line in lines:
        line["reference"] = line["hypothesis"]


def wrong(lines: List[Any]) -> None:
    for line in lines:
        line["reference"] = "none of them"


def partly(lines: List[Any]) -> None:
    del lines[5:]
    lines[4]["rank"] = 1


def first_only(lines: List[Any]) -> None:
    lines[:] = [line for line in lines if line["rank"] == 0]


def first_only_in_b(scene: Scene) -> None:
    for name in ("test", "ood_x"):
        change(scene.b / f"{name}.jsonl", first_only)


def folder_of(scene: Scene) -> None:
    (scene.root / "folder").mkdir()


FILE = "a/test.jsonl"
CASES: "List[Bad[Scene]]" = [
    # numbers that are none
    Bad("a null among values", assess("errors", in_set(value(3, "sequence", "rmi", None))),
        [FILE, "line 3", "'rmi'", "write the file again"]),
    Bad("a value among nulls", assess("ood", in_set(lambda lines: [
        line["sequence"].update(epkl=None) for line in lines[1:]])),
        [FILE, "line 2", "'epkl'", "write the file again"]),
    Bad("a null among tokens", assess("token-errors", in_set(
        lambda lines: lines[2]["token"]["score"].__setitem__(1, None))),
        [FILE, "line 3", "'score'", "null", "write the file again"]),
    Bad("log_prob null", assess("table", in_set(at(1, log_prob=None), name="nll")),
        ["a/nll.jsonl", "line 1", "'log_prob'", "write the file again"]),
    Bad("an impossible reference", assess("calibration", in_set(
        at(2, log_prob=-3.4028235e38), name="nll"), "--references", "{0}/nll.jsonl"),
        ["a/nll.jsonl", "id 1", "probability 0"]),
    Bad("NaN", assess("calibration", in_set(value(4, "sequence", "rmi", float("nan")))),
        [FILE, "line 4", "NaN"]),
    Bad("Infinity", report(in_set(value(4, "sequence", "rmi", float("inf")))),
        [FILE, "line 4", "Infinity"]),
    Bad("a number as text", assess("ood", in_set(value(2, "sequence", "total", "0.5"))),
        [FILE, "line 2", "'total'", "'0.5'"]),
    Bad("a boolean as a number", assess("table", in_set(value(2, "sequence", "total", True))),
        [FILE, "line 2", "'total'", "True"]),
    Bad("a number that is no list", assess("token-errors", in_set(value(1, "token", "rmi", 0.5))),
        [FILE, "line 1", "'rmi'", "list"]),
    Bad("null tokens", report(in_set(at(5, tokens=None))), [FILE, "line 5", "tokens"]),
    Bad("a negative rank", assess("errors", in_set(at(2, rank=-1))), [FILE, "line 2", "rank"]),
    Bad("an id beyond 64 bits", assess("errors", in_set(at(2, id=2**63))),
        [FILE, "line 2", "id"]),
    Bad("an expr that is a list", assess("ood", in_set(at(2, expr=[]))),
        [FILE, "line 2", "expr"]),
    Bad("a positive log_prob", assess("table", in_set(at(2, log_prob=2.0))),
        [FILE, "line 2", "log_prob", "above 0"]),
    Bad("a negative score", assess("calibration", in_set(
        lambda lines: [value(n, "token", "score", [-1.0] * len(lines[n - 1]["tokens"]))(lines)
                       for n in range(1, len(lines) + 1)])), [FILE, "score", "no probability"]),
    # lines
    Bad("a byte order mark", assess("errors", raw(b"\xef\xbb\xbf")),
        [FILE, "line 1", "byte order"]),
    Bad("a blank line", assess("errors", raw(suffix=b"\n")), [FILE, "line 13", "blank"]),
    Bad("two objects in a line", assess("ood", raw(b"{}")), [FILE, "line 1", "Extra data"]),
    Bad("a cut line", report(raw(suffix=b'{"id": 7, "ra')), [FILE, "line 13"]),
    Bad("bytes that are no text", assess("errors", raw(b"\xff")), [FILE, "line 1"]),
    Bad("a line twice", assess("errors", in_set(lambda lines: lines.append(lines[0]))),
        [FILE, "line 13", "repeats id 0"]),
    Bad("an empty file", assess("calibration", in_set(lambda lines: lines.clear())),
        [FILE, "is empty"]),
    Bad("a compressed file", assess("errors", raw(b"\x1f\x8b\x08")), [FILE, "line 1", "gunzip"]),
    Bad("lines of standard output", assess("errors", raw(b"U-0\t")),
        [FILE, "line 1", "--uncertainty-path"]),
    Bad("a hole in an n-best list", assess("ood", in_set(at(4, rank=2)), "--nbest", "mean"),
        [FILE, "no hypothesis of rank 1 of id 1"]),
    # comparing
    Bad("n-best lists of two sizes", assess("ood", in_set(first_only), "--nbest", "mean"),
        [FILE, "a/ood_x.jsonl", "up to 1 hyp", "up to 2", "--nbest best"]),
    Bad("runs with n-best lists of two sizes", assess("table", first_only_in_b,
        "--nbest", "weighted"), [FILE, "b/test.jsonl", "up to 2 hyp", "up to 1", "--nbest best"]),
    Bad("other references", assess("table", in_set(at(7, reference="x"), "b")),
        ["b/test.jsonl", FILE, "different references", "id 3"]),
    Bad("other references in the report", report(in_set(at(7, reference="x"), "b")),
        ["b/test.jsonl", FILE, "different references", "id 3"]),
    Bad("other sources", assess("table", in_set(at(7, source="x"), "b", "ood_x")),
        ["b/ood_x.jsonl", "a/ood_x.jsonl", "different sources", "id 3"]),
    Bad("other references that were scored", report(in_set(at(3, reference="x"), "b", "nll")),
        ["b/nll.jsonl", "a/nll.jsonl", "different references", "id 2"]),
    Bad("other sentences", assess("table", in_set(lambda lines: lines.__delitem__(
        slice(10, None)), "b")), ["b/test.jsonl", FILE, "only one has id 5"]),
    Bad("a set of another system", assess("ood", in_set(everywhere("sequence", "rmi", None))),
        [FILE, "a/ood_x.jsonl", "rmi", "of one system"]),
    Bad("no scored outputs", assess("faithfulness", lambda scene: (scene.a / "nll.jsonl").unlink()),
        ["records/a", "nll.jsonl", "--score-reference"]),
    Bad("an unknown measure of both", assess("faithfulness", nothing, "--measure", "rnmi"),
        ["'rnmi'", "total"]),
    # what is not defined
    Bad("no measure", assess("errors", in_set(no_measures)), [FILE, "every measure is null"]),
    Bad("no measure in the report", report(in_set(no_measures)), [FILE, "every measure is null"]),
    Bad("no measure in the table", assess("table", in_set(no_measures, name="ood_x")),
        ["a/ood_x.jsonl", "every measure is null"]),
    Bad("no measure of words", assess("token-errors", in_set(no_measures)),
        [FILE, "the model has no measure"]),
    Bad("no score", assess("calibration", in_set(everywhere("token", "score", None))),
        [FILE, "score is null", "not defined"]),
    Bad("no wrong word", assess("token-errors", in_set(right)),
        [FILE, "every word is right", "not defined"]),
    Bad("no right word", assess("token-errors", in_set(wrong)),
        [FILE, "every word is wrong", "not defined"]),
    # options
    Bad("an unknown measure", assess("errors", nothing, "--measure", "rnmi"), ["'rnmi'", "total"]),
    Bad("a measure that the model lacks", assess("ood", no_rmi, "--measure", "rmi"),
        [FILE, "has no rmi"]),
    Bad("temperature 0", assess("errors", nothing, "--temperature", "0"), ["temperature 0"]),
    Bad("temperature NaN", assess("table", nothing, "--temperature", "nan"), ["temperature nan"]),
    Bad("confidence NaN", assess("ood", nothing, "--confidence", "nan"), ["--confidence nan"]),
    Bad("confidence 1", assess("ood", nothing, "--confidence", "1"),
        ["--confidence 1 is no level"]),
    Bad("a system that is no folder", assess("table", nothing, "--system", "S=/no/such"),
        ["/no/such does not exist", "S=/no/such"]),
    Bad("a system without records", assess("table", folder_of, "--system", "S={0}/../../folder"),
        ["folder has no records"]),
    Bad("a run twice", assess("table", nothing, "--system", "S=a,a"), ["is twice", "S=a,a"]),
    Bad("an out-of-domain set twice", assess("ood", nothing, "{0}/ood_x.jsonl"), ["'x'", "NAME="]),
    # outputs
    Bad("a table into a folder", assess("table", nothing, "--latex", "{0}"), ["a: it is a folder"]),
    Bad("an empty name", assess("errors", nothing, "--json", ""), ["cannot write", "is a folder"]),
    Bad("a page below a file", report(nothing, "--out", "{0}/test.jsonl/page.html"),
        ["page.html", "test.jsonl is no folder"]),
    Bad("plots below a file", assess("ood", nothing, "--plots", "{0}/nll.jsonl"), ["no folder"]),
    Bad("one file for two", assess("table", nothing, "--json", "{0}/x", "--markdown", "{0}/x"),
        ["a/x is given for two outputs"]),
    Bad("numbers over the records", assess("ood", nothing, "--json", "{0}/ood_x.jsonl"),
        ["a/ood_x.jsonl", "holds the records"]),
    Bad("a table over the records", assess("table", nothing, "--json", "{0}/test.jsonl"),
        [FILE, "holds the records"]),
    Bad("a full disk", report(nothing, "--out", "/dev/full"), ["/dev/full", "No space left"]),
    Bad("a full disk for numbers", assess("errors", nothing, "--json", "/dev/full"),
        ["/dev/full", "No space left"]),
    Bad("a read-only folder", assess("errors", nothing, "--json", "/proc/x.json"),
        ["/proc/x.json"]),
]  # fmt: skip


@parametrize(CASES)
def test_command(case: "Bad[Scene]", scene: Scene, tmp_path: Path) -> None:
    check(case, scene, tmp_path, scene.root)
    assert not (scene.root / "new").exists()


LIMITS = [
    ["assess", "calibration", "--bins", "0"],
    ["assess", "calibration", "--bins", "1000000000"],
    ["assess", "ood", "--resamples", "1000000000"],
    ["assess", "ood", "--seed", "-1"],
    ["assess", "errors", "--metric", "bleurt"],
    ["report", "--nbest", "0"],
]


@pytest.mark.parametrize("words", LIMITS, ids=[" ".join(words[1:]) for words in LIMITS])
def test_options_have_limits(words: List[str], scene: Scene) -> None:
    paths = [path.format(scene.a) for path in ASSESS.get(words[1], [str(scene.systems)])]
    out = ["--out", str(scene.root / "r.html")] if words[0] == "report" else []
    ended = CliRunner().invoke(app, [*words, *paths, *out], env={"COLUMNS": "200"})
    assert ended.exit_code == 2
    assert isinstance(ended.exception, SystemExit)
    assert f"Invalid value for '{words[-2]}'" in ended.output


# tests of find_systems and choose_systems have more names
SYSTEMS = ["_run=1,$d$", "x[0.1] *", os.fsdecode(b"\xe9")]


def invoke(*words: Any) -> str:
    ended = CliRunner().invoke(app, [str(word) for word in words])
    assert ended.exit_code == 0, ended.output
    return ended.output


def test_names_that_people_have_work_everywhere(scene: Scene) -> None:
    """Folders and sets of any name: table, Markdown, LaTeX, JSON, figures and page."""
    root = scene.root / "any = [names], $x$"
    for name in SYSTEMS:
        shutil.copytree(scene.a, root / name)
        for number, label in enumerate(["_a=b,c$[0]", os.fsdecode(b"\xff")]):
            made = making.records(6, 0.4, seed=number, kind="student")
            making.write(root / name / f"ood_{label}.jsonl", made)
    prefix = os.fsdecode(b"o\xe9")
    out = [scene.root / f"{prefix} {name}" for name in ("m.md", "l.tex", "j.json", "p.html")]
    shown = [*SYSTEMS[:-1], r"\xe9"]
    output = invoke(
        "assess", "table", root, "--markdown", out[0], "--latex", out[1], "--json", out[2]
    )
    assert set(json.loads(out[2].read_text("utf-8"))["rows"]) == set(shown)
    assert all(name in output for name in shown)
    first, second, *_ = sorted((root / SYSTEMS[0]).glob("ood_*.jsonl"))
    test, folder = root / SYSTEMS[0] / "test.jsonl", scene.root / "$plots _[0]"
    options = ["--resamples", 0, "--json", out[2], "--plots", folder]
    invoke("assess", "ood", test, first, f"A=1={second}", *options)
    assert list(folder.glob("*.svg"))
    assert "A=1" in json.loads(out[2].read_text("utf-8"))["out_of_domain"]
    choices = [word for name in SYSTEMS[1:] for word in ("--system", f"The {name}={root / name}")]
    invoke("report", "elsewhere", "--out", out[3], *choices)
    text = out[3].read_text("utf-8")
    assert all(f"The {name}</th>" in text for name in shown[1:])


def one_token_more(lines: List[Any]) -> None:
    (line,) = lines
    line["tokens"].insert(0, "▁odd")
    for values in line["token"].values():
        values.insert(0, 0.5)


def test_one_record_and_constant_values_are_dashes(scene: Scene, tmp_path: Path) -> None:
    """Each command ends well, with a warning and without a number."""
    for path in scene.a.glob("*.jsonl"):
        # one output, of which a word is wrong
        change(path, lambda lines: lines.__delitem__(slice(1, None)))
        change(path, lambda lines: lines[0].update(reference=f"{lines[0]['hypothesis']} more"))
        change(path, lambda lines: lines[0].update(hypothesis=f"odd {lines[0]['hypothesis']}"))
        change(path, one_token_more)
    for name, paths in ASSESS.items():
        out = scene.root / "out.json"
        words = [path.format(scene.a) for path in paths]
        ended = run(["fairseq-pdd", "assess", name, *words, "--json", out], tmp_path)
        assert ended.status == 0, ended.stderr
        assert "defined" in ended.stderr
        row = next(line for line in ended.stdout.splitlines() if line.startswith("│"))
        assert not any(digit in row.partition("│")[2] for digit in "0123456789"), row
        assert "NaN" not in out.read_text()
    ended = run(["fairseq-pdd", "report", scene.a, "--out", scene.root / "r.html"], tmp_path)
    assert ended.status == 0, ended.stderr
    assert "defined" in ended.stderr


def scored_references(scene: Scene) -> None:
    """Make ``nll.jsonl`` of the test set."""
    shutil.copy(scene.a / "test.jsonl", scene.a / "nll.jsonl")
    change(scene.a / "nll.jsonl", first_only)
    change(
        scene.a / "nll.jsonl", lambda lines: [r.update(hypothesis=r["reference"]) for r in lines]
    )


def outputs_as_references(scene: Scene) -> None:
    change(scene.a / "nll.jsonl", lambda lines: [r.update(hypothesis="another") for r in lines])


def other_references(scene: Scene) -> None:
    scored_references(scene)
    change(scene.a / "nll.jsonl", lambda lines: lines.pop())


def copied_run(scene: Scene) -> None:
    shutil.rmtree(scene.b)
    (scene.systems / "a-seed1").symlink_to(scene.a)


def copied_set(scene: Scene) -> None:
    shutil.rmtree(scene.b)
    shutil.copy(scene.a / "test.jsonl", scene.a / "ood_x.jsonl")


def misnamed(scene: Scene) -> None:
    for system in (scene.a, scene.b):
        (system / "ood_x.jsonl").rename(system / "x.jsonl")


def interrupted(scene: Scene) -> None:
    (scene.a / "test.jsonl.partial").touch()


DOUBTFUL = {
    "outputs-as-references": (
        assess("calibration", outputs_as_references, "--references", "{0}/nll.jsonl"),
        "hypotheses are not the references",
    ),
    "other-references": (
        assess("calibration", other_references, "--references", "{0}/nll.jsonl"),
        "ECE and NLL are of different sentences",
    ),
    "a-run-copied": (assess("table", copied_run), "a-seed1 have the same values"),
    "a-run-copied-in-the-report": (report(copied_run), "a-seed1 have the same values"),
    "a-set-copied": (assess("ood", copied_set), "ood_x.jsonl have the same values"),
    "a-set-copied-in-the-table": (assess("table", copied_set), "ood_x.jsonl have the same values"),
    "a-set-misnamed": (assess("table", misnamed), "no column shows x.jsonl"),
    "a-later-run-interrupted": (assess("errors", interrupted), "before the one that writes"),
}


@pytest.mark.parametrize("name", DOUBTFUL)
def test_doubtful_input_is_logged(
    name: str, scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """Numbers that are right, and perhaps not those that were wanted."""
    command, expected = DOUBTFUL[name]
    _, *words = command(scene)
    invoke(*words)
    assert sum(expected in message for message in caplog.messages) == 1


def test_ordinary_input_causes_no_warning(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scored_references(scene)
    for name in ASSESS:
        options = ["--references", "{0}/nll.jsonl"] if name == "calibration" else []
        invoke(*assess(name, nothing, *options)(scene)[1:])
    shutil.rmtree(scene.b)
    invoke(*assess("table", nothing, "--nbest", "mean")(scene)[1:])
    invoke(*report(nothing)(scene)[1:])
    assert caplog.messages == []


def impossible(scene: Scene) -> None:
    change(scene.a / "nll.jsonl", at(1, log_prob=-3.4028235e38))
    negative_log_likelihood(read_records(scene.a / "nll.jsonl").best())


def both_infinities(scene: Scene) -> None:
    change(
        scene.a / "test.jsonl",
        lambda lines: [
            value(1, "token", "rmi_score", [3.4e39, -3.4e39, *lines[0]["token"]["total"][2:]])(
                lines
            )
        ],
    )
    word_errors(word_scores(read_records(scene.a / "test.jsonl").best()))


def nan_written(scene: Scene) -> None:
    scores = {"log_prob": -1.0, "sequence": {"rmi": float("nan")}, "token": {"rmi": [0.5]}}
    dumps(make_record(3, 0, None, None, "c", ["c"], scores))


def reports(scene: Scene) -> None:
    from fairseq_pdd.assess import find_systems

    change(scene.b / "test.jsonl", at(3, reference="x"))
    build_report(find_systems(scene.systems), TRANSLATION, "title")


def records(number: int = 0, **changes: Any) -> Sequence[Dict[str, Any]]:
    return [{**making.output(number, ["x"], [0.1], "x", "x"), **changes}]


CALLS: "List[BadCall[Scene]]" = [
    BadCall("no probability", impossible, ["nll.jsonl", "id 0", "probability 0"]),
    BadCall("NaN is no number", nan_written, ["sentence 3", "sequence.rmi", "NaN"]),
    BadCall("other references", reports, ["b/test.jsonl", "a/test.jsonl", "id 1"]),
    BadCall("a wrong type", lambda scene: collect_records(records(tokens=3), "mine"),
            ["mine, line 1", "tokens"]),
    BadCall("a wrong number", lambda scene: collect_records(records(-1), "mine"), ["line 1", "id"]),
    BadCall("NaN in a set", lambda scene: detect(np.array([1.0, 2.0]), np.array([3.0, np.nan])),
            ["out_of_domain is NaN at index 1"]),
    BadCall("NaN of an output", lambda scene: rejection(
        np.array([0.0, 1.0]), np.array([np.nan, 1.0])), ["uncertainty is NaN at index 0"]),
    BadCall("an output too few", lambda scene: rejection(np.array([0.0, 1.0]), np.array([1.0])),
            ["'errors': 2", "'uncertainty': 1"]),
    BadCall("no word", lambda scene: reliability_diagram(np.array([]), np.array([])),
            ["'confidence': 0"]),
    BadCall("infinity of either sign in a word", both_infinities,
            ["test.jsonl: rmi_score of words is NaN"]),
    BadCall("a wrong temperature", lambda scene: combine(
        collect_records(records()), Nbest.weighted, -1.0), ["temperature -1"]),
]  # fmt: skip


@parametrize(CALLS)
def test_call(case: "BadCall[Scene]", scene: Scene) -> None:
    check_call(case, scene)
