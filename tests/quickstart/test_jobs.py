"""The jobs of the examples' run scripts: what is skipped, refused and made again."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
SCRIPT = """
set -euo pipefail
cd "$REPOSITORY"
JOBS=2
. examples/lib/jobs.sh
job model '^seen' "$WORK/text" bash -c "$COMMAND" train "$WORK" ${MACHINE:-}
background records/a '' "$WORK/text:$WORK/model" cp -n "$WORK/model" "$WORK/records/a"
background records/b '' "$WORK/model" cp -n "$WORK/model" "$WORK/records/b"
finish
echo finished
"""
# like a training, it continues what it finds
TRAIN = 'cat "$1/text/"* >> "$1/model"; echo "seen: $(wc -l < "$1/model") lines"; echo ignored'


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "a folder"
    (folder / "text").mkdir(parents=True)
    (folder / "records").mkdir()
    (folder / "text" / "train.xx").write_text("one\n")
    return folder


def run(work: Path, **settings: str) -> "subprocess.CompletedProcess[str]":
    environment = {"PATH": "/usr/bin:/bin", "REPOSITORY": str(REPOSITORY), "WORK": str(work)}
    return subprocess.run(
        ["bash", "-c", SCRIPT],
        env={**environment, "COMMAND": TRAIN, **settings},
        capture_output=True,
        text=True,
        timeout=60,
    )


def results(work: Path) -> "dict[str, Any]":
    return {name: (work / name).read_text() for name in ("model", "records/a", "records/b")}


def made(text: str) -> "dict[str, str]":
    return {"model": text, "records/a": text, "records/b": text}


def test_a_finished_run_repeats_nothing(work: Path) -> None:
    first = run(work)
    assert first.returncode == 0, first.stderr
    assert "[model] seen: 1 lines\n" in first.stdout
    assert "ignored" not in first.stdout
    again = run(work)
    assert again.returncode == 0, again.stderr
    assert again.stdout.strip() == "finished"
    assert results(work) == made("one\n")


def test_a_run_in_a_folder_that_was_moved_repeats_nothing(work: Path) -> None:
    run(work)
    moved = work.rename(work.with_name("moved"))
    assert run(moved).stdout.strip() == "finished"


def test_another_machine_repeats_nothing(work: Path) -> None:
    run(work, MACHINE="--workers 2 --num-workers 0 --cpu --fp16-no-flatten-grads")
    assert run(work, MACHINE="--workers 8").stdout.strip() == "finished"
    assert run(work).stdout.strip() == "finished"


@pytest.mark.parametrize(
    ("change", "settings", "named"),
    [
        (lambda work: (work / "text" / "train.xx").write_text("two\n"), {}, "WORK/text/train.xx"),
        (lambda work: (work / "text" / "more.xx").write_text("two\n"), {}, "WORK/text/more.xx"),
        (lambda work: None, {"COMMAND": TRAIN + " # "}, "its command"),
    ],
)
def test_what_was_made_of_other_inputs_is_refused(
    work: Path, change: Any, settings: "dict[str, str]", named: str
) -> None:
    run(work)
    change(work)
    result = run(work, **settings)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {work}/model was made before {named} changed: set another WORK")
    assert results(work) == made("one\n")


def test_each_result_of_a_model_that_was_made_again_is_refused(work: Path) -> None:
    run(work)
    (work / "model").write_text("another\n")
    result = run(work)
    assert result.returncode == 1
    assert sorted(line.split(" was made")[0] for line in result.stderr.splitlines()) == [
        f"error: {work}/records/{name}" for name in "ab"
    ]


def test_an_interrupted_training_on_other_text_is_not_continued(work: Path) -> None:
    run(work)
    (work / "done" / "model").unlink()  # as if it had been interrupted
    (work / "text" / "train.xx").write_text("two\n")
    assert run(work).returncode == 1
    assert results(work) == made("one\n")


def test_remake_makes_everything_again_and_keeps_what_was(work: Path) -> None:
    run(work)
    (work / "text" / "train.xx").write_text("two\n")
    result = run(work, REMAKE="1")
    assert result.returncode == 0, result.stderr
    assert results(work) == made("two\n")
    kept = sorted((work / "replaced").iterdir())
    assert [path.name.partition(".")[0] for path in kept] == ["model", "records-a", "records-b"]
    assert [path.read_text() for path in kept] == ["one\n"] * 3
    assert run(work).stdout.strip() == "finished"


def test_a_job_that_fails_while_it_is_made_again_is_not_finished(work: Path) -> None:
    run(work)
    (work / "model").unlink()
    failing = {"COMMAND": 'echo half > "$1/model"; echo an Error; false'}
    assert run(work, **failing).returncode == 1
    assert not (work / "done" / "model").exists()


def test_a_failed_command_is_named_with_its_log(work: Path) -> None:
    result = run(work, COMMAND="echo an Error; false")
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        "an Error",
        f"error: 'model' failed; all of its output is in {work}/logs/model.log",
    ]


def test_missing_input_is_named(work: Path) -> None:
    result = run(work, COMMAND="true")
    assert result.returncode == 1
    assert f"error: {work}/model is missing" in result.stderr
