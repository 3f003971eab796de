"""The image example from its first to its last stage, with hardly any training."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "image_classification" / "run.sh"
SYSTEMS = {"single", "end", "pd_end2", "end2", "ensemble", "proxy"}


def run(data: Path, work: Path) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "SCALE": "smoke", "DATA": str(data), "WORK": str(work)}
    # the script's default is .venv; the tests may run in another environment
    environment["BIN"] = str(Path(sys.executable).parent)
    return subprocess.run(
        ["bash", str(SCRIPT)], env=environment, capture_output=True, text=True, timeout=600
    )


@pytest.fixture(scope="module")
def finished(fashion_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    work = tmp_path_factory.mktemp("images") / "work"
    result = run(fashion_folder, work)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return work, result


def test_every_system_is_measured_on_every_set(finished: Any) -> None:
    work, _ = finished
    rows = json.loads((work / "results.json").read_text())
    sets = {row["set"] for row in rows}
    assert len(sets) == 9
    assert {(row["system"], row["set"]) for row in rows} == {(s, t) for s in SYSTEMS for t in sets}
    for row in rows:
        # ordinary models have no knowledge uncertainty; the test set is not detected against itself
        is_measured = row["set"] != "test" and row["system"] not in ("single", "end")
        assert ("auc_knowledge" in row) == is_measured
        assert ("accuracy" in row) == (row["set"] not in ("new classes", "digits"))


def test_the_report_has_the_tables_and_the_sweep(finished: Any) -> None:
    work, result = finished
    report = (work / "report.md").read_text()
    assert report in result.stdout
    for line in ("PD-EnD²", "EnD² (Dir-NLL)", "Proxy", "K = 10"):
        assert line in report
    for picture in ("severity.png", "classes.png"):
        assert (work / picture).read_bytes().startswith(b"\x89PNG")


def test_a_failed_command_is_named_with_its_log(finished: Any, fashion_folder: Path) -> None:
    work, _ = finished
    broken = work.parent / "broken"
    subprocess.run(["cp", "-r", str(work), str(broken)], check=True)
    (broken / "students" / "11" / "end.pt").write_bytes(b"damaged")
    (broken / "results.json").unlink()  # without it, nothing was made of the student
    result = run(fashion_folder, broken)
    assert result.returncode != 0
    assert "end.pt is damaged" in result.stderr
    log = broken / "logs" / "results.json.log"
    assert f"error: 'results.json' failed; all of its output is in {log}" in result.stderr


def test_other_images_are_refused(finished: Any, fashion_folder: Path, tmp_path: Path) -> None:
    work, _ = finished
    data = tmp_path / "fashion"
    subprocess.run(["cp", "-r", str(fashion_folder), str(data)], check=True)
    images = data / "FashionMNIST" / "raw" / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-1] + b"\0")
    result = run(data, work)
    assert result.returncode == 1
    assert f"{work}/members/1 was made before" in result.stderr
    assert "Traceback" not in result.stderr
