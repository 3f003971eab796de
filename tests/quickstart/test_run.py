"""Quickstart and study from their first to their last stage, with hardly any training.

The study runs the quickstart's stages first, so that one run serves the tests of both.
"""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
RUN = REPOSITORY / "examples" / "quickstart" / "run.sh"
STUDY = REPOSITORY / "examples" / "study" / "run.sh"
SETTINGS = {
    "SCALE": "smoke", "SEEDS": "1", "STUDENTS": "send pd_send2 pd_send2_authors",
    "CACHED": "pd_send2", "PLUGIN": "examples/study/study_plugin",
}  # fmt: skip
COLUMNS = {"BLEU", "NLL", "NLL Ens-Pred", "ood_permuted total", "ood_permuted rmi"}


def write_text(folder: Path) -> None:
    folder.mkdir()
    rng = random.Random(0)
    words = [a + b + c for a in "bdfgklmn" for b in "aeiou" for c in "rstz"]
    for split, size in (("train", 400), ("valid", 40), ("test", 40)):
        sources = [" ".join(rng.choices(words, k=rng.randint(3, 8))) for _ in range(size)]
        (folder / f"{split}.en").write_text("".join(f"{s}\n" for s in sources))
        targets = (" ".join(w[::-1] for w in s.split()) for s in sources)
        (folder / f"{split}.de").write_text("".join(f"{t}\n" for t in targets))


def run(own: Path, work: Path, script: Path = RUN) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, **SETTINGS, "OWN": str(own), "WORK": str(work)}
    # the script's default is .venv; the tests may run in another environment
    environment["BIN"] = str(Path(sys.executable).parent)
    return subprocess.run(
        ["bash", str(script)], env=environment, capture_output=True, text=True, timeout=900
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("quickstart")
    write_text(root / "own")
    result = run(root / "own", root / "work", STUDY)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return root, result


def test_every_system_has_every_column(finished: Any) -> None:
    root, _ = finished
    measured = json.loads((root / "work" / "table.json").read_text())
    assert set(measured) == {"single", "ensemble", "send", "pd_send2"}
    for system, rows in measured.items():
        for row in rows:
            assert set(row) == COLUMNS
            knowledge = row["ood_permuted rmi"]
            # an ordinary model has no knowledge uncertainty
            assert (knowledge is None) == (system in ("single", "send"))
            assert row["NLL"] > 0
            assert 0 <= row["ood_permuted total"] <= 100


def test_the_table_is_printed_and_written(finished: Any) -> None:
    root, result = finished
    table = (root / "work" / "table.md").read_text()
    assert table in result.stdout
    assert "PD-SEnD²" in table
    assert "|version:" in table  # sacreBLEU's signature
    assert (root / "work" / "ood.png").read_bytes().startswith(b"\x89PNG")


def test_a_second_run_repeats_nothing(finished: Any) -> None:
    root, _ = finished
    logs = sorted((root / "work" / "logs").iterdir())
    before = [path.stat().st_mtime_ns for path in logs]
    result = run(root / "own", root / "work")
    assert result.returncode == 0, result.stderr[-3000:]
    assert [path.stat().st_mtime_ns for path in logs] == before


def test_a_failed_command_is_named_with_its_log(finished: Any, tmp_path: Path) -> None:
    root, _ = finished
    work = tmp_path / "work"
    subprocess.run(["cp", "-r", str(root / "work"), str(work)], check=True)
    (work / "done" / "member1").unlink()
    (work / "member1" / "checkpoint_last.pt").write_bytes(b"damaged")
    result = run(root / "own", work)
    assert result.returncode != 0
    assert f"error: 'member1' failed; all of its output is in {work}/logs/member1.log" in (
        result.stderr
    )


def test_other_lines_of_own_text_are_refused(finished: Any, tmp_path: Path) -> None:
    root, _ = finished
    subprocess.run(["cp", "-r", str(root / "work"), str(root / "own"), str(tmp_path)], check=True)
    work, own = tmp_path / "work", tmp_path / "own"
    for path in own.glob("train.*"):
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    result = run(own, work)
    assert result.returncode == 1
    assert f"error: {work}/spm was made before WORK/text/manifest.json changed" in result.stderr
    # the text as it was before: everything is up to date again
    assert run(root / "own", work).returncode == 0


def test_a_member_that_was_trained_again_is_refused(finished: Any, tmp_path: Path) -> None:
    root, _ = finished
    work = tmp_path / "work"
    subprocess.run(["cp", "-r", str(root / "work"), str(work)], check=True)
    member = work / "member2" / "checkpoint_best.pt"
    member.write_bytes((work / "member1" / "checkpoint_best.pt").read_bytes())
    result = run(root / "own", work)
    assert result.returncode == 1
    changed = "was made before WORK/member2/checkpoint_best.pt changed"
    assert f"error: {work}/transfer {changed}" in result.stderr


def test_missing_data_are_reported_in_one_line(tmp_path: Path) -> None:
    result = run(tmp_path / "nowhere", tmp_path / "work")
    assert result.returncode == 2
    assert "nowhere" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


def test_the_study_compares_systems(finished: Any) -> None:
    root, _ = finished
    numbers = json.loads((root / "work" / "study.json").read_text())
    single, ensemble, proxy = (numbers["table"][n][0] for n in ("Single", "Ensemble", "Proxy"))
    # the proxy predicts like the ensemble: the same outputs and the same total uncertainty
    for key in ("BLEU", "NLL", "NLL Ens-Pred", "ood_permuted total"):
        assert proxy[key] == pytest.approx(ensemble[key], rel=1e-4)
    assert single["ood_permuted rmi"] is None
    names = ("PD-SEnD²", "PD-SEnD², authors' loss", "PD-SEnD², authors' loss and measures")
    (ours,), (theirs,), (measured,) = (numbers["table"][name] for name in names)
    assert ours["NLL"] != theirs["NLL"]
    # other measures of the same outputs
    assert measured["BLEU"] == theirs["BLEU"]
    assert measured["ood_permuted epkl"] != theirs["ood_permuted epkl"]


def test_the_study_compares_measures_on_the_same_outputs(finished: Any) -> None:
    root, _ = finished
    numbers = json.loads((root / "work" / "study.json").read_text())
    assert set(numbers["faithfulness"]) == {"test", "permuted"}
    rows = {(r["system"], r["quantity"]): r["runs"] for r in numbers["faithfulness"]["permuted"]}
    assert rows["SEnD", "RMI ~ ensemble's"] == [None]
    assert all(-1 <= rows["PD-SEnD²", key][0] <= 1 for key in ("RMI ~ ensemble's", "RMI ~ total"))
    assert 0 <= rows["Ensemble", "AUC without total"][0] <= 1
    assert set(numbers["precision_rank_correlation"]) == {"PD-SEnD²", "authors' loss"}
    assert (root / "work" / "precision.png").read_bytes().startswith(b"\x89PNG")
    assert "## Faithfulness, permuted" in (root / "work" / "study.md").read_text()
