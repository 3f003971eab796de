"""Own text for the quickstart: the sets made from it, and errors."""

import hashlib
import json
import sys
from itertools import combinations
from pathlib import Path

import pytest

QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart"
sys.path.insert(0, str(QUICKSTART))

import ddtp  # noqa: E402


def sentences(split, count):
    """Make pairs that share no word with another split, with letters since numbers become 0."""
    names = [split + chr(97 + i // 26) + chr(97 + i % 26) for i in range(count)]
    return [
        (f"{name} reads {split} files quick{name}", f"{name} liest {split} Dateien schnell{name}")
        for name in names
    ]


def give(folder, name, pairs, languages=("en", "de")):
    folder.mkdir(exist_ok=True)
    for side, language in enumerate(languages):
        text = "".join(pair[side] + "\n" for pair in pairs)
        (folder / f"{name}.{language}").write_text(text, encoding="utf-8")


@pytest.fixture
def own(tmp_path):
    folder = tmp_path / "mine"
    give(folder, "train", sentences("train", 50))
    give(folder, "valid", sentences("valid", 20))
    give(folder, "test", sentences("test", 20))
    return folder


def prepare(own, *more):
    return ddtp.main(["--own", str(own), "--out", str(own.parent / "out"), *more])


def lines(path):
    return path.read_text(encoding="utf-8").splitlines()


def test_own_text_is_filtered_and_its_leaks_are_removed(own, capsys):
    train, test = sentences("train", 50), sentences("test", 20)
    same = (train[0][0].upper(), "das gleiche noch einmal")
    near = (train[1][0] + " now", "fast das gleiche noch einmal")
    give(own, "test", [*test, same, near, test[0], ("too short", "zu kurz"), ("", "")])
    give(own, "valid", [*sentences("valid", 20), test[3]])
    (own / "ood_chat.en").write_text(
        "hi there you\r\nok\r\nwell then bye\r\n", encoding="utf-8-sig"
    )
    give(own, "ood_news", [("news of today", "Nachrichten von heute")])

    assert prepare(own, "--max-eval", "15", "--max-valid", "10", "--train-pairs", "30") == 0

    out = own.parent / "out"
    manifest = json.loads((out / "manifest.json").read_text())
    counts = {name: facts["pairs"] for name, facts in manifest["sets"].items()}
    assert counts == {
        "train": 30, "valid": 10, "test": 15, "ood_permuted": 15, "ood_chat": 2, "ood_news": 1,
    }  # fmt: skip
    assert manifest["leakage"]["test"] == {
        "before": 22,
        "repeated": 0,
        "same": 1,
        "near": 1,
        "left": 0,
    }
    assert manifest["leakage"]["valid"] == {
        "before": 21,
        "repeated": 1,
        "same": 0,
        "near": 0,
        "left": 0,
    }
    no_reference = [name for name, facts in manifest["sets"].items() if not facts["reference"]]
    assert no_reference == ["ood_chat"]
    assert (
        lines(out / "ood_chat.en")
        == lines(out / "ood_chat.de")
        == ["hi there you", "well then bye"]
    )
    assert set(lines(out / "test.en")) <= {source for source, _ in test}
    assert lines(out / "ood_permuted.de") == lines(out / "test.de")
    for shuffled, original in zip(lines(out / "ood_permuted.en"), lines(out / "test.en")):
        assert shuffled != original
        assert sorted(shuffled.split()) == sorted(original.split())
    for name, other in combinations(("train", "valid", "test"), 2):
        assert not set(lines(out / f"{name}.en")) & set(lines(out / f"{other}.en"))
    assert {path.name for path in out.iterdir()} == {*manifest["files"], "manifest.json"}
    for name, digest in manifest["files"].items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
    assert str(own) not in json.dumps(manifest)
    assert "0 repeated, 1 same, 1 near of 22" in capsys.readouterr().err


def test_test_set_does_not_depend_on_the_amount_of_training_text(own):
    give(own, "test", [*sentences("test", 20), *sentences("train", 50)[:10]])
    tests = []
    for count in ("5", "50"):
        assert prepare(own, "--train-pairs", count) == 0
        tests.append(lines(own.parent / "out" / "test.en"))
    assert tests[0] == tests[1]
    assert len(tests[0]) == 20


def test_other_languages(tmp_path):
    for name in ("train", "valid", "test"):
        give(tmp_path / "mine", name, sentences(name, 20), ("pt_BR", "fi"))
    assert prepare(tmp_path / "mine", "--source-lang", "pt_BR", "--target-lang", "fi") == 0
    assert len(lines(tmp_path / "out" / "train.fi")) == 20


def test_second_run_does_nothing_until_something_changed(own, capsys):
    out = own.parent / "out"

    def stamps():
        return {path.name: path.stat().st_mtime_ns for path in out.iterdir()}

    assert prepare(own) == 0
    first = stamps()
    assert prepare(own) == 0
    assert stamps() == first
    assert "nothing to do" in capsys.readouterr().err

    def changed():
        before = stamps()
        assert prepare(own) == 0
        return stamps() != before

    kept = (out / "train.en").read_bytes()
    (out / "train.en").write_bytes(kept[:-20])
    assert changed()
    assert (out / "train.en").read_bytes() == kept
    (out / "test.de").unlink()
    assert changed()
    (out / "manifest.json").write_text("{")
    assert changed()
    assert not changed()
    give(own, "ood_news", [("news of today", "Nachrichten von heute")])
    assert changed()
    (own / "ood_news.en").unlink()
    assert changed()
    assert not list(out.glob("ood_news*"))  # a set that is gone leaves no file behind


# ----------------------------------------------------------------------------- errors


def drop_line(path):
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))


@pytest.mark.parametrize(
    ("damage", "more", "expected"),
    [
        (lambda own: (own / "valid.de").unlink(), (), "valid.de is missing"),
        (lambda own: drop_line(own / "test.en"), (), "test.en has 19 lines and"),
        (lambda own: (own / "train.en").write_text(" \n\n"), (), "train.en is empty"),
        (lambda own: (own / "train.de").write_bytes(b"ok\n\xff\n"), (), "not UTF-8 (line 2)"),
        (
            lambda own: give(own, "test", [("a b", "c d")]),
            (),
            "test has no translated pair of 3 to 14 words",
        ),
        (lambda own: give(own, "test", sentences("train", 9)), (), "nothing of test is held out"),
        (lambda own: give(own, "test", [("a a a", "b b b")]), (), "ood_permuted has no sentence"),
        (lambda own: give(own, "ood_x", [("a", "b")]), (), "ood_x has no sentence"),
        (lambda own: give(own, "ood_permuted", [("a", "b")]), (), "another name"),
        (lambda own: give(own, "ood_x", [("a b c", "")]), (), "ood_x.de is empty"),
        (lambda own: None, ("--own", "/no/such/folder"), "/no/such/folder is no folder"),
        (lambda own: None, ("--source-lang", "fr"), "train.fr is missing"),
        (lambda own: None, ("--source-lang", "de"), "language are both de"),
        (lambda own: (own.parent / "out").write_text(""), (), "cannot be made: File exists"),
    ],
)
def test_bad_own_text_gives_one_line_and_no_output(own, capsys, damage, more, expected):
    damage(own)
    assert prepare(own, *more) == 2
    message = capsys.readouterr().err
    assert expected in message
    assert message.count("\n") == 1
    assert not list((own.parent).glob("out/*"))


def test_the_input_folder_as_output_is_refused(own, capsys):
    assert ddtp.main(["--own", str(own), "--out", str(own)]) == 2
    assert "write to another folder" in capsys.readouterr().err


def test_languages_without_own_text_are_refused(tmp_path, capsys):
    assert ddtp.main(["--out", str(tmp_path / "out"), "--source-lang", "fr"]) == 2
    assert "go with --own" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--max-words=2", "--max-eval=0", "--train-pairs=x"])
def test_numbers_out_of_range_are_refused(option):
    with pytest.raises(SystemExit) as stop:
        ddtp.main(["--out", "out", option])
    assert stop.value.code == 2
