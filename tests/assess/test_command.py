"""``fairseq-pdd assess``, from files to tables, JSON and figures."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner, Result

from fairseq_pdd.assess import combine, rejection, sentence_errors
from fairseq_pdd.assess.quality import Metric
from fairseq_pdd.cli.main import app
from fairseq_pdd.records import read_records

from . import making


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return making.write_folder(tmp_path_factory.mktemp("command") / "records", size=30)


def run(*args: Any, code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["assess", *(str(arg) for arg in args)])
    assert result.exit_code == code, result.output
    return result


def load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def lines(path: Path) -> List[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_ood(folder: Path, tmp_path: Path) -> None:
    system, out = folder / "ensemble", tmp_path / "ood.json"
    french, permuted = system / "ood_french.jsonl", system / "ood_permuted.jsonl"
    result = run("ood", system / "test.jsonl", f"Français={french}", permuted, "--json", out,
                 "--plots", tmp_path / "plots", "--resamples", 50, "--nbest", "mean")  # fmt: skip
    assert "Français: 30 sentences against 30 in-domain ones" in result.output
    made = load(out)
    assert list(made["out_of_domain"]) == ["Français", "permuted"]
    found = made["out_of_domain"]["Français"]["measures"]
    assert set(found) == {f"{p}{m}" for p in ("", "expr.") for m in making.MEASURES}
    # by hand: the mean of two hypotheses
    values = [r["sequence"]["rmi"] for path in (system / "test.jsonl", french)
              for r in lines(path)]  # fmt: skip
    means = np.array(values).reshape(-1, 2).mean(axis=1)
    auc = roc_auc_score(np.repeat([0, 1], 30), means)
    assert found["rmi"]["roc_auc"]["value"] == pytest.approx(auc)
    assert found["rmi"]["roc_auc"]["low"] <= auc <= found["rmi"]["roc_auc"]["high"]
    assert f"{100 * auc:.1f}" in result.output
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {
        f"{kind}-{measure}.{ending}"
        for kind in ("roc", "histograms")
        for measure in ("total", "rmi")
        for ending in ("png", "svg")
    }


def test_ood_of_requested_measures_without_intervals(folder: Path) -> None:
    system = folder / "pd_send2"
    result = run("ood", system / "test.jsonl", system / "ood_french.jsonl", "--measure", "epkl",
                 "--resamples", 0)  # fmt: skip
    assert "epkl" in result.output
    assert "total" not in result.output
    assert "– " not in result.output


def test_errors(folder: Path, tmp_path: Path) -> None:
    path = folder / "pd_send2" / "test.jsonl"
    made = {}
    for definition in ("replaced", "retained"):
        options = ["--retained"] if definition == "retained" else []
        out = tmp_path / f"{definition}.json"
        run("errors", path, "--metric", "wer", "--json", out, "--plots", tmp_path, *options)
        made[definition] = load(out)
        assert made[definition]["definition"] == definition
    records = read_records(path)
    error = sentence_errors(records.best(), Metric.wer)
    for name, values in combine(records).items():
        for definition, content in made.items():
            expected = rejection(error, values, definition == "retained").prr
            assert content["measures"][name]["prr"] == pytest.approx(expected)
    curve = made["replaced"]["measures"]["total"]["curve"]
    assert curve[0] == pytest.approx(error.mean())
    assert curve[-1] == 0
    assert (tmp_path / "rejection.svg").exists()


def test_token_errors(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "words.json"
    result = run("token-errors", folder / "ensemble" / "test.jsonl", "--json", out)
    made = load(out)
    outputs = [r for r in lines(folder / "ensemble" / "test.jsonl") if r["rank"] == 0]
    words = [w for r in outputs for w in r["hypothesis"].split()]
    assert made["words"] == len(words)
    # every replaced word is "mistake"
    assert made["wrong"] == pytest.approx(words.count("mistake") / len(words))
    assert made["measures"]["score"]["nce"] is not None
    assert made["measures"]["total"]["nce"] is None
    assert made["measures"]["expr.rmi"]["roc_auc"] > 0.55
    assert "NCE calibrated" in result.output


def test_calibration(folder: Path, tmp_path: Path) -> None:
    system, out = folder / "ensemble", tmp_path / "calibration.json"
    result = run("calibration", system / "test.jsonl", "--references", system / "nll.jsonl",
                 "--ensemble-output", system / "nll_ensemble.jsonl", "--bins", 10,
                 "--json", out, "--plots", tmp_path)  # fmt: skip
    made = load(out)
    tokens = [value for r in lines(system / "nll.jsonl") for value in r["token"]["score"]]
    assert made["nll"]["references"] == pytest.approx(np.mean(tokens))
    assert f"NLL on references: {np.mean(tokens):.4f} nats per token" in result.output
    for diagram in made["reliability"].values():
        assert sum(diagram["counts"]) == made["words"]
        assert 0 < diagram["ece"] < 1
    assert set(made["reliability"]) == {"score", "expr.score"}
    assert (tmp_path / "reliability.png").exists()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two systems that scored the same references, in and out of domain, and their outputs."""
    root = tmp_path_factory.mktemp("pair")
    for number, (name, scale) in enumerate({"nll": 0.4, "nll_ood_x": 0.6}.items()):
        outputs = making.records(30, scale, seed=number, nbest=1)
        making.write(root / "ensemble" / f"{name}.jsonl", outputs)
        for kind in ("student", "single"):
            made = making.rescored(outputs, number, kind)
            making.write(root / kind / f"{name}.jsonl", made[::-1])
    for number, kind in enumerate(("ensemble", "student", "single")):
        for name, scale in {"test": 0.4, "ood_x": 0.6}.items():
            made = making.records(30, scale, seed=number, kind=kind)
            making.write(root / kind / f"{name}.jsonl", made)
    return root


def column(path: Path, measure: str, level: str = "sequence") -> np.ndarray:
    """Return the values of the best hypotheses, by ascending id."""
    made = sorted((r for r in lines(path) if r["rank"] == 0), key=lambda r: int(r["id"]))
    return np.hstack([r[level][measure] for r in made])


def test_faithfulness(pair: Path, tmp_path: Path) -> None:
    out = tmp_path / "faithfulness.json"
    student, ensemble = pair / "student", pair / "ensemble"
    result = run("faithfulness", student, ensemble, "--json", out, "--resamples", 50)
    made = load(out)
    assert list(made["correlations"]) == ["nll", "nll_ood_x"]
    for name, levels in made["correlations"].items():
        for level, key in (("token", "token"), ("sentence", "sequence")):
            assert list(levels[level]) == list(making.MEASURES)
            for measure, found in levels[level].items():
                x, y = (column(f / f"{name}.jsonl", measure, key) for f in (student, ensemble))
                total = column(student / f"{name}.jsonl", "total", key)
                value, low, high = found["spearman"].values()
                assert value == pytest.approx(spearmanr(x, y).statistic)
                assert low < value < high
                assert found["by_total"]["value"] == pytest.approx(spearmanr(total, y).statistic)
                assert f"{low:.2f} – {high:.2f}" in result.output
            assert levels[level]["total"]["given_total"] is None
            assert levels[level]["rmi"]["given_total"] is not None
            assert (levels[level]["rmi"]["given_total_and_length"] is None) == (level == "token")
    assert {n: f["in_domain"] for n, f in made["out_of_domain"].items()} == {
        "nll_ood_x": "nll",
        "ood_x": "test",
    }
    for name, systems in made["out_of_domain"].items():
        for folder in (student, ensemble):
            assert "total" not in systems[folder.name]
            sets = [column(folder / f"{n}.jsonl", "rmi") for n in (systems["in_domain"], name)]
            auc = roc_auc_score(np.repeat([0, 1], 30), np.concatenate(sets))
            assert systems[folder.name]["rmi"]["roc_auc"]["value"] == pytest.approx(auc)
            assert 0 < systems[folder.name]["rmi"]["residual"]["value"] < 1
            assert f"{name} against {systems['in_domain']}, {folder.name} (%)" in result.output


def test_faithfulness_of_a_single_model_is_that_of_its_total(pair: Path) -> None:
    options = ["--resamples", 0, "--measure", "rmi"]
    result = run("faithfulness", pair / "single", pair / "ensemble", *options)
    rows = [line.split("│")[1:-1] for line in result.output.splitlines() if line.startswith("│")]
    cells = [cell.strip() for cell in rows[0]]
    assert cells[:3] == ["rmi", "–", "–"]
    assert float(cells[3])
    assert cells[4] == "–"
    assert float(cells[5])


def test_scored_outputs_need_no_column(
    pair: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(pair / "student", tmp_path / "student")
    run("table", tmp_path)
    assert "no column shows" not in caplog.text
    shutil.copy(pair / "student" / "nll.jsonl", tmp_path / "student" / "other.jsonl")
    run("table", tmp_path)
    assert "no column shows other.jsonl" in caplog.text


def test_table(folder: Path, tmp_path: Path) -> None:
    out = [tmp_path / name for name in ("t.md", "t.tex", "t.json")]
    result = run("table", folder, "--kind", "speech", "--markdown", out[0], "--latex", out[1],
                 "--json", out[2])  # fmt: skip
    assert "WER" in result.output
    made = load(out[2])
    assert {name: len(rows) for name, rows in made["rows"].items()} == {
        "ensemble": 1,
        "pd_send2": 1,
        "single": 2,
    }
    assert out[0].read_text().startswith("| ")
    assert r"\begin{tabular}" in out[1].read_text()


def test_table_of_selected_rows_and_columns(folder: Path) -> None:
    result = run("table", folder, "--system", "Student [ours]=pd_send2", "--metric", "chrf",
                 "--measure", "epkl", "--nbest", "weighted", "--temperature", 0.5)  # fmt: skip
    assert "Student [ours]" in result.output
    assert "chrF" in result.output
    assert "french epkl" in result.output
    assert "ensemble" not in result.output.split("- chrF")[0]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["ood", "{e}/test.jsonl", "{e}/none.jsonl"], "none.jsonl does not exist"),
        (["ood", "{e}/test.jsonl", "{e}/nll.jsonl", "{s}/nll.jsonl"], "are both called 'nll'"),
        (["ood", "{e}/test.jsonl", "{s}/ood_french.jsonl"], "are they of one system?"),
        (["ood", "{e}/test.jsonl", "{e}/nll.jsonl", "--measure", "x"], "no measure 'x'"),
        (["ood", "{s}/test.jsonl", "{s}/nll.jsonl", "--measure", "rmi"], "the model has no rmi"),
        (["errors", "{e}/test.jsonl", "--json", "{e}/test.jsonl/x.json"], "cannot write"),
        (["errors", "{e}/test.jsonl", "--plots", "{e}/test.jsonl"], "cannot write"),
        (["table", "{e}"], "has no records: <system>/test.jsonl is expected there"),
        (["faithfulness", "{s}", "{e}"], "nll.jsonl have different outputs, first of id 0"),
        (["faithfulness", "{s}/..", "{e}/.."], "has no outputs that both systems scored"),
        (["faithfulness", "{s}/test.jsonl", "{e}"], "test.jsonl is no folder"),
        (["faithfulness", "{s}", "{e}", "--json", "{e}/nll.jsonl"], "holds the records"),
    ],
)
def test_bad_input_is_one_line(folder: Path, args: "list[str]", message: str) -> None:
    paths = {"e": folder / "ensemble", "s": folder / "single-seed1"}
    result = CliRunner().invoke(app, ["assess", *(arg.format(**paths) for arg in args)])
    assert result.exit_code != 0
    error = str(result.exception)
    assert message in error or message in result.output
    assert "\n" not in error


def test_help_explains_every_command() -> None:
    commands = {"ood", "errors", "token-errors", "calibration", "faithfulness", "table"}
    assert commands <= set(run("--help").output.split())
    assert "bootstrap" in run("ood", "--help").output
    assert "PRR" in run("errors", "--help").output


def test_the_real_command_warns_and_fails_without_a_traceback(folder: Path, tmp_path: Path) -> None:
    text = (folder / "ensemble" / "test.jsonl").read_text().splitlines(keepends=True)
    inside, outside = tmp_path / "test.jsonl", tmp_path / "ood.jsonl"
    inside.write_text("".join(text[4:]))  # without ids 0 and 1
    outside.write_text(text[0] + text[0])
    command = [sys.executable, "-c", "from fairseq_pdd.cli.main import app; app()"]
    finished = subprocess.run(
        [*command, "assess", "ood", str(inside), str(outside)], capture_output=True, text=True
    )
    assert finished.returncode == 1
    warning, error = finished.stderr.splitlines()
    assert "lacks 2 of the ids up to 29, the first of them 0" in warning
    assert "ood.jsonl, line 2, repeats id 0, rank 0" in error


def test_a_measure_may_have_any_name(tmp_path: Path) -> None:
    """Names of measures are no paths."""
    for name in ("test", "ood_x"):
        made = making.records(6, 0.3, seed=len(name), kind="student")
        for line in made:
            line["sequence"]["../a/b"] = line["sequence"].pop("epkl")
        making.write(tmp_path / f"{name}.jsonl", made)
    paths = [tmp_path / f"{name}.jsonl" for name in ("test", "ood_x")]
    run("ood", *paths, "--measure", "../a/b", "--resamples", 0, "--plots", tmp_path / "p" / "q")
    assert sorted(path.name for path in (tmp_path / "p").rglob("*.svg")) == [
        "histograms-..%2Fa%2Fb.svg",
        "roc-..%2Fa%2Fb.svg",
    ]


def test_measures_are_given_once(folder: Path) -> None:
    options = ["--measure", "epkl", "--measure", "epkl"]
    out = run("table", folder, "--system", "pd_send2", *options).output
    assert out.count("french epkl") == 1
    out = run("errors", folder / "pd_send2" / "test.jsonl", *options).output
    assert out.count("epkl") == 1
