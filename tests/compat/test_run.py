"""The script behind ``make test-compat``."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from . import run
from .environments import ENVIRONMENTS, QUICK


def test_this_python_is_found_and_one_that_does_not_exist_is_not() -> None:
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    found = run.find_python(version)
    assert found is not None
    assert run._version(found) == version
    assert run.find_python("3.99") is None


def test_an_interpreter_that_only_prints_an_error_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, working = tmp_path / "bin" / "python3.99", tmp_path / "versions/3.99.1/bin/python"
    for path, script in ((broken, "exit 1"), (working, "echo 3.99")):
        path.parent.mkdir(parents=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken.parent}:/bin:/usr/bin")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    assert run.find_python("3.99") == str(working)


def test_a_missing_python_is_named(tmp_path: Path) -> None:
    environment = dataclasses.replace(ENVIRONMENTS[0], python="3.99")
    row = run.Run(environment, tmp_path, tmp_path / "no.whl", "", quick=False).result()
    assert row["missing"] == "Python 3.99"


def test_the_table_is_that_of_the_recorded_runs() -> None:
    rows = json.loads(run.RESULTS.read_text())
    assert set(rows) == {environment.name for environment in ENVIRONMENTS}
    text = run.TABLE.read_text(encoding="utf-8")
    assert text.endswith(f"{run.MARK}\n\n{run.table(rows)}")
    assert not any(map(run.has_failed, rows.values()))


@pytest.mark.parametrize(
    "change",
    [
        {"stages": {}},
        {"stages": {**dict.fromkeys(run.STAGES, "passed"), "cache": "failed"}},
        {"tests": {"passed": 5, "failed": 1, "skipped": 0}},
    ],
)
def test_failures_are_seen(change: Any) -> None:
    good = {
        "stages": dict.fromkeys(run.STAGES, "passed"),
        "tests": {"passed": 5, "failed": 0, "skipped": 2},
    }
    assert not run.has_failed(good)
    assert run.has_failed({**good, **change})


def test_all_tests_that_are_named_exist() -> None:
    named = {path for environment in ENVIRONMENTS for path in environment.tests} | set(QUICK)
    assert all((run.REPOSITORY / path.replace("--ignore=", "")).exists() for path in named)
