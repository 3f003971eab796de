"""The recipes for WMT'17 and IWSLT'14: miniatures of both, and the commands of the real runs."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

import pytest
import torch

from ..plugin import commands, inprocess

WMT = commands.REPOSITORY / "examples" / "wmt17_en_de"
IWSLT = commands.REPOSITORY / "examples" / "iwslt14_de_en"
STAGES = "data members transfer cache students translate"
# options whose values are sizes, and those of the miniature's model
SIZES = {
    "--warmup-updates", "--max-tokens", "--update-freq", "--max-update", "--keep-last-epochs",
    "--save-interval-updates", "--keep-interval-updates", "--num-epoch-checkpoints",
    "--num-update-checkpoints", "--max-len-b", "--path", "--teacher-paths",
}  # fmt: skip
MODEL_SIZES = {
    f"--{side}-{size}"
    for side in ("encoder", "decoder")
    for size in ("layers", "embed-dim", "ffn-embed-dim", "attention-heads")
}


def run(recipe: Path, work: Path, **settings: Any) -> "subprocess.CompletedProcess[str]":
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "BIN": str(Path(sys.executable).parent),
        "WORK": str(work), **{name: str(value) for name, value in settings.items()},
    }  # fmt: skip
    return subprocess.run(
        ["bash", recipe / "run.sh"], env=environment, capture_output=True, text=True
    )


def done(result: "subprocess.CompletedProcess[str]") -> str:
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


def records(path: Path) -> List[Dict[str, Any]]:
    return sorted(map(json.loads, path.read_text("utf-8").splitlines()), key=lambda r: r["id"])


def lines(path: Path) -> List[str]:
    return path.read_text("utf-8").splitlines()


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wmt") / "work"
    done(run(WMT, folder, SCALE="miniature", STUDENTS="pd_send2"))
    return folder


def test_the_table_has_every_system_and_column(work: Path) -> None:
    rows = json.loads((work / "table.json").read_text())["rows"]
    assert list(rows) == ["Single", "Ensemble", "PD-SEnD²", "PD-SEnD², cached"]
    sets = ("permuted", "speech", "target", "french")
    detection = {f"ood_{name} {measure}" for name in sets for measure in ("total", "rmi")}
    for system, (row,) in rows.items():
        assert set(row) == {"BLEU", "NLL", "NLL Ens-Pred", *detection}
        assert all(0 <= row[f"ood_{name} total"] <= 100 for name in sets)
        assert row["NLL"] > 0
        # an ordinary model has no knowledge uncertainty
        assert all((row[f"ood_{name} rmi"] is None) == (system == "Single") for name in sets)
    assert "PD-SEnD²" in (work / "table.md").read_text("utf-8")
    assert "toprule" in (work / "table.tex").read_text("utf-8")
    assert (work / "report.html").read_text("utf-8").startswith("<!doctype html>")


def test_records_have_the_text_before_tokenisation_and_bpe(work: Path) -> None:
    plain = {path.stem: lines(path) for path in (work / "text" / "plain").iterdir()}
    for system in ("single-seed1", "ensemble", "pd_send2-seed1"):
        test = records(work / "records" / system / "test.jsonl")
        assert [record["reference"] for record in test] == plain["target"]
    # dashes are split, so this is no accident of text without marks
    assert any("@-@" in line and "@@" in line for line in lines(work / "text" / "test.de"))
    for name in ("target", "french"):
        found = records(work / "records" / "ensemble" / f"ood_{name}.jsonl")
        assert [record["reference"] for record in found] == [None] * len(plain[name])
    speech = records(work / "records" / "ensemble" / "ood_speech.jsonl")
    assert [record["source"] for record in speech] == plain["speech"][:-1]


def test_a_training_sentence_is_removed_from_an_out_of_domain_set(work: Path) -> None:
    leak = lines(work / "text" / "train.en")[0]
    assert leak not in lines(work / "ood" / "ood_speech.en")
    counts = json.loads((work / "ood" / "leakage.json").read_text())
    assert counts["speech"] == {"sentences": 7, "same": 1, "near": 0}
    assert counts["test"] == counts["permuted"] == {"sentences": 8, "same": 0, "near": 0}


def test_permuted_sentences_have_the_tokens_of_the_test_set(work: Path) -> None:
    sources = lines(work / "text" / "test.en")
    permuted = lines(work / "ood" / "ood_permuted.en")
    assert [sorted(line.split(" ")) for line in permuted] == [
        sorted(line.split(" ")) for line in sources
    ]
    assert all(line != source for line, source in zip(permuted, sources))


def test_members_and_students_are_means_of_their_last_checkpoints(work: Path) -> None:
    for name, files in (
        ("member2", ("checkpoint{}.pt", (1, 2))),
        ("pd_send2_cached-seed1", ("checkpoint_1_{}.pt", (1, 2))),
    ):
        paths = [work / name / files[0].format(number) for number in files[1]]
        mean, *states = map(inprocess.state, (work / "averages" / f"{name}.pt", *paths))
        assert all(state["cfg"]["common"]["fp16"] for state in states)
        first, second = (s["model"]["decoder.embed_tokens.weight"] for s in states)
        assert not torch.equal(first, second)
        average = mean["model"]["decoder.embed_tokens.weight"]
        assert torch.equal(average, (first.double() + second.double()).div(2).to(average.dtype))


def test_a_second_run_makes_only_what_is_missing(work: Path) -> None:
    missing = work / "records" / "ensemble" / "ood_french.jsonl"
    before = missing.read_text("utf-8")
    missing.unlink()
    (work / "done" / "records-ensemble").unlink()
    results = [*work.glob("*/checkpoint*.pt"), *work.glob("averages/*"), *work.rglob("*.jsonl")]
    assert len(results) > 30
    files = {path: path.stat().st_mtime_ns for path in results}
    result = run(WMT, work, SCALE="miniature", STUDENTS="pd_send2", STAGES=STAGES)
    made = {line.split("]")[0] for line in done(result).splitlines() if line.startswith("[")}
    assert made == {"[records/ensemble"}
    assert all(path.stat().st_mtime_ns == time for path, time in files.items())
    assert missing.read_text("utf-8") == before


def test_binarised_data_are_used_as_they_are(work: Path, tmp_path: Path) -> None:
    data = {"DATA": work / "bin", "CODES": work / "text" / "code", "STAGES": "data"}
    result = run(WMT, tmp_path, SCALE="miniature", **data)
    assert "[ood] permuted: 8 sentences" in done(result)
    assert not (tmp_path / "bin").exists()
    for suffix in ("bin", "idx"):
        name = f"ood_permuted.en-de.en.{suffix}"
        assert (tmp_path / "ood" / name).read_bytes() == (work / "ood" / name).read_bytes()
    assert not list((tmp_path / "ood").glob("ood_speech*"))


def test_iwslt_trains_on_text_of_its_own_form(tmp_path: Path) -> None:
    settings = {"SCALE": "miniature", "STAGES": "data members", "SEED": 2}
    done(run(IWSLT, tmp_path, **settings))
    text = (tmp_path / "ood" / "ood_target.de").read_text("utf-8")
    assert text == text.lower()
    assert "@-@" not in text
    languages = {(tmp_path / "bin" / f"dict.{name}.txt").read_bytes() for name in ("de", "en")}
    assert len(languages) == 2
    assert not (tmp_path / "member1").exists()
    state = inprocess.state(tmp_path / "averages" / "member2.pt")
    assert not state["cfg"]["common"]["fp16"]
    assert "encoder.embed_tokens.weight" in state["model"]


# ------------------------------------------------------------------------------- the real commands


def command_lines(
    recipe: Path, tmp_path: Path, gpus: Optional[int] = None, **settings: Any
) -> Dict[str, List[str]]:
    """Return the words of each job's command, by its name."""
    folder = tmp_path / "text"
    sets = (f"{name}={folder}/plain/{name}.xx" for name in ("speech", "target", "french"))
    # the script asks nvidia-smi for GPUs
    tools = tmp_path / "tools"
    tools.mkdir(exist_ok=True)
    if gpus is not None:
        smi = tools / "nvidia-smi"
        smi.write_text("#!/bin/sh\n" + "echo GPU\n" * gpus)
        smi.chmod(0o755)
    stdout = done(
        run(
            recipe, tmp_path, DRY_RUN=1, PATH=f"{tools}:{os.environ['PATH']}",
            **{"TEXT": folder, "OOD": " ".join(sets), **settings},
        )
    )  # fmt: skip
    printed = [line[1:].split("] ", 1) for line in stdout.splitlines() if line.startswith("[")]
    assert not (tmp_path / "bin").exists()
    return {name: shlex.split(command) for name, command in printed}


def options(words: List[str]) -> Dict[str, List[str]]:
    """Return the words behind each option; those before the first one belong to ''."""
    found: Dict[str, List[str]] = {"": []}
    name = ""
    for word in words:
        if word.startswith("--") and len(word) > 2:
            name = word
            found[name] = []
        else:
            found[name].append(word)
    return found


@pytest.mark.parametrize("recipe", [WMT, IWSLT], ids=["wmt", "iwslt"])
@pytest.mark.parametrize("gpus", [None, 2])
def test_the_miniature_has_all_options_of_the_real_run(
    recipe: Path, gpus: Optional[int], tmp_path: Path
) -> None:
    if gpus is None and shutil.which("nvidia-smi"):
        pytest.skip("there is a GPU here, so commands have no --cpu")
    real = command_lines(recipe, tmp_path, gpus)
    small = command_lines(recipe, tmp_path, gpus, SCALE="miniature")
    assert set(small) < set(real)
    assert {"bin", "ood", "cache", "transfer_train", "records/ensemble", "table"} < set(small)
    # what the miniature has less of: seeds
    extra = {
        name.partition("member")[1] or name.partition("seed")[1] for name in {*real} - {*small}
    }
    assert extra <= {"member", "seed"}
    for name, command in small.items():
        mine, theirs = options(command), options(real[name])
        if name.rpartition("/")[0] != "averages" and "--arch" in mine:
            assert set(mine) - set(theirs) == MODEL_SIZES
        assert set(theirs) == set(mine) - MODEL_SIZES
        for option, value in theirs.items():
            assert mine[option] == value or option in SIZES, (name, option)


def test_the_values_are_those_of_the_paper(tmp_path: Path) -> None:
    jobs = command_lines(WMT, tmp_path, 8)
    member, student = options(jobs["member10"]), options(jobs["pd_send2-seed5"])
    for trained in (member, student):
        assert trained["--arch"] == ["transformer_wmt_en_de_big"]
        assert trained["--distributed-world-size"] == ["8"]
        assert "--fp16" in trained
        assert "--cpu" not in trained
    expected = {"--max-update": "193000", "--max-tokens": "4096", "--update-freq": "1"}
    assert {name: member[name] for name in expected} == {k: [v] for k, v in expected.items()}
    expected = {"--max-update": "20000", "--max-tokens": "1024", "--update-freq": "4"}
    assert {name: student[name] for name in expected} == {k: [v] for k, v in expected.items()}
    assert student["--teacher-paths"][0].count("averages/member") == 10
    assert options(jobs["pd_send2_cached-seed5"])["--teacher-cache"] == [f"{tmp_path}/cache"]
    assert options(jobs["transfer_train"])["--beam"] == ["5"]
    assert "member11" not in jobs
    assert "send-seed6" not in jobs


@pytest.mark.parametrize(("gpus", "frequencies"), [(1, (8, 32)), (3, (3, 11)), (16, (1, 2))])
def test_batches_have_the_same_size_for_any_number_of_gpus(
    gpus: int, frequencies: Any, tmp_path: Path
) -> None:
    jobs = command_lines(WMT, tmp_path, gpus)
    found = [options(jobs[name])["--update-freq"] for name in ("member1", "send-seed1")]
    assert found == [[str(frequency)] for frequency in frequencies]


def test_an_array_job_has_one_seed(tmp_path: Path) -> None:
    assert set(command_lines(WMT, tmp_path, STAGES="members", SEED=10)) == {
        "member10", "averages/member10.pt",
    }  # fmt: skip
    # there are five seeds of students
    assert not command_lines(WMT, tmp_path, STAGES="students", SEED=6)
    one = command_lines(WMT, tmp_path, STAGES="students", SEED=5, TEACHERS="cached")
    trained = {name for name in one if not name.startswith("averages/")}
    assert trained == {"send_cached-seed5", "pd_send2_cached-seed5"}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "set TEXT to"),
        ({"DATA": "/nowhere"}, "set CODES to"),
        ({"TEXT": "/nowhere"}, "error: /nowhere/train.en is missing"),
        ({"STAGES": "all", "TEXT": "/nowhere"}, "error: STAGES has no stage 'all'"),
        ({"SCALE": "small"}, "error: SCALE must be full or miniature, not 'small'"),
        ({"TEACHERS": "none", "STAGES": "students", "TEXT": "/nowhere"}, "not 'none'"),
    ],
)
def test_wrong_settings_end_in_one_line(
    settings: Dict[str, str], expected: str, tmp_path: Path
) -> None:
    result = run(WMT, tmp_path, **settings)
    assert result.returncode != 0
    (line,) = result.stderr.splitlines()
    assert expected in line
