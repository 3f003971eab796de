"""The speech quickstart from its first to its last stage, on tones and with hardly any training."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .tones import write_recordings

REPOSITORY = Path(__file__).parents[2]
RUN = REPOSITORY / "examples" / "speech_quickstart" / "run.sh"
OOD_SETS = ("ood_noise10", "ood_noise0", "ood_telephone")
MEASURES = ("total", "rmi", "mutual_information", "epkl")


def run(own: Path, work: Path) -> "subprocess.CompletedProcess[str]":
    environment = {
        **os.environ,
        "SCALE": "smoke",
        "COMPARE": "1",
        "OWN": str(own),
        "WORK": str(work),
    }
    # the script's default is .venv; the tests may run in another environment
    environment["BIN"] = str(Path(sys.executable).parent)
    return subprocess.run(
        ["bash", str(RUN)], env=environment, capture_output=True, text=True, timeout=900
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("speech_quickstart")
    own = write_recordings(root / "own", {"train": 24, "valid": 4, "test": 4})
    result = run(own, root / "work")
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return root, result


def test_every_system_has_every_column(finished: Any) -> None:
    root, _ = finished
    measured = json.loads((root / "work" / "table.json").read_text())
    del measured["agreement"]
    runs = {"single": 2, "ensemble": 1, "send": 1, "pd_send2": 1, "pd_send2_train": 1}
    assert {system: len(rows) for system, rows in measured.items()} == runs
    words = {"wrong words", *(f"wrong words {name}" for name in ("score", *MEASURES))}
    sets = {f"{name} {measure}" for name in OOD_SETS for measure in MEASURES}
    for system, rows in measured.items():
        for row in rows:
            assert set(row) == {"WER", "NLL", *words, *sets}
            assert row["NLL"] > 0
            assert 0 < row["wrong words"] <= 100  # hardly any training
            assert 0 <= row["ood_noise0 total"] <= 100
            for name in MEASURES[1:]:
                # an ordinary model has no knowledge uncertainty
                absent = system in ("single", "send")
                assert (row[f"ood_noise0 {name}"] is None) == absent


def test_students_are_compared_with_their_ensemble_on_the_same_outputs(finished: Any) -> None:
    root, _ = finished
    rows = json.loads((root / "work" / "table.json").read_text())["agreement"]
    assert rows.keys() == {
        "Ensemble: I ~ total",
        "SEnD: total ~ ensemble's I",
        *(
            f"PD-SEnD²{which}: {quantity}"
            for which in ("", ", train only")
            for quantity in ("I ~ ensemble's", "total ~ ensemble's I", "I ~ total")
        ),
    }
    for (run,) in rows.values():
        assert run.keys() == {"nll", *(f"nll_{name}" for name in OOD_SETS)}
        assert all(value is None or -1 <= value <= 1 for value in run.values())


def test_the_table_is_printed_and_written(finished: Any) -> None:
    root, result = finished
    table = (root / "work" / "table.md").read_text()
    assert table in result.stdout
    assert "PD-SEnD²: I " in table
    assert (root / "work" / "ood.png").read_bytes().startswith(b"\x89PNG")


def test_students_are_plain_models_without_ctc(finished: Any) -> None:
    import torch

    import fairseq_pdd.tasks  # noqa: F401  (lets torch.load read argparse.Namespace)

    root, _ = finished
    state = {
        name: torch.load(root / "work" / name / "checkpoint_best.pt", weights_only=True)["model"]
        for name in ("member1", "pd_send2-seed1")
    }
    removed = state["member1"].keys() - state["pd_send2-seed1"].keys()
    assert removed == {"encoder.ctc_proj.weight", "encoder.ctc_proj.bias"}
    assert state["pd_send2-seed1"].keys() <= state["member1"].keys()


def test_a_second_run_repeats_nothing(finished: Any) -> None:
    root, _ = finished
    files = [*(root / "work" / "logs").iterdir(), root / "work" / "data" / "features.zip"]
    before = [path.stat().st_mtime_ns for path in files]
    result = run(root / "own" / "list.tsv", root / "work")
    assert result.returncode == 0, result.stderr[-3000:]
    assert [path.stat().st_mtime_ns for path in files] == before


def test_missing_data_are_reported_in_one_line(tmp_path: Path) -> None:
    result = run(tmp_path / "nowhere.tsv", tmp_path / "work")
    assert result.returncode == 2
    assert "nowhere.tsv cannot be read" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
