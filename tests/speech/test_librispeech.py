"""The recipe for LibriSpeech, from recordings to its table, on a miniature of the corpus."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from ..plugin import commands, inprocess
from . import spoken

HERE = commands.REPOSITORY / "examples" / "librispeech"


def write_part(folder: Path, utterances, kind="flac"):
    """Write a part in LibriSpeech's form: SPEAKER/CHAPTER with a list of transcripts."""
    for utterance in utterances:
        speaker, chapter, _ = utterance.name.split("-")
        place = folder / speaker / chapter
        place.mkdir(parents=True, exist_ok=True)
        soundfile.write(place / f"{utterance.name}.{kind}", spoken.waveform(utterance), spoken.RATE)
        with open(place / f"{speaker}-{chapter}.trans.txt", "a") as stream:
            stream.write(f"{utterance.name} {utterance.text.upper()}\n")


def write_other(path: Path, utterances):
    """Write a list of recordings of another kind: twice the rate, backwards."""
    lines = []
    for utterance in utterances:
        wave = spoken.waveform(utterance, 2 * spoken.RATE)[::-1]
        soundfile.write(path.parent / f"{utterance.name}.ogg", wave, 2 * spoken.RATE)
        lines.append(f"{utterance.name}.ogg\t{utterance.text[::-1]}\n")
    path.write_text("".join(lines), encoding="utf-8")


def test_from_recordings_to_the_table(tmp_path):
    corpus, work = tmp_path / "LibriSpeech", tmp_path / "work"
    splits = {"train-a": 60, "train-b": 40, "dev-clean": 12, "test-clean": 12, "test-other": 12}
    content = {n: spoken.utterances(size, i) for i, (n, size) in enumerate(splits.items(), 10)}
    for name, utterances in content.items():
        write_part(corpus / name, utterances)
    write_other(tmp_path / "ami.tsv", content["test-other"])
    model = commands.train_args(Path(), Path(), "--arch", "s2t_transformer_s")
    sizes = model[model.index("--arch") : model.index("--optimizer")]
    settings = {
        "LIBRISPEECH": corpus, "WORK": work, "OOD": f"ami={tmp_path / 'ami.tsv'}",
        "TRAIN_PARTS": "train-a train-b", "VALID_PARTS": "dev-clean", "VOCABULARY": 40,
        "MEMBERS": 2, "EVALUATED": 0, "STUDENTS": "pd_send2", "UPDATES": 4, "WARMUP": 2,
        "AVERAGE": 2,
        "MODEL": " ".join([*sizes, "--lr", "2e-3"]), "DEVICE": "--cpu", "WORKERS": 1,
        "BIN": Path(sys.executable).parent, "OMP_NUM_THREADS": 1,
    }  # fmt: skip
    environment = {**os.environ, **{name: str(value) for name, value in settings.items()}}
    result = subprocess.run(
        ["bash", HERE / "run.sh"], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]

    rows = spoken.read_table(work / "data" / "test-clean.tsv")
    expected = sorted((*u,) for u in content["test-clean"])
    assert [(row["id"], row["tgt_text"]) for row in rows] == expected
    # 25 ms windows every 10 ms
    seconds = len(spoken.waveform(spoken.Utterance(*expected[0]))) / spoken.RATE
    assert int(rows[0]["n_frames"]) == int(np.floor((seconds - 0.025) / 0.010)) + 1
    for system in ("ensemble", "pd_send2"):
        for name in ("test", "nll", "ood_test-other", "ood_ami"):
            lines = (work / "records" / system / f"{name}.jsonl").read_text("utf-8").splitlines()
            assert len(lines) == 12
    record = json.loads(lines[0])
    assert record["utterance"].startswith("ami-")
    assert record["sequence"]["mutual_information"] > 0
    assert "WER" in (work / "table.md").read_text("utf-8")
    epochs = sorted((work / "pd_send2").glob("checkpoint[0-9].pt"))[-2:]
    mean, *weights = (
        inprocess.state(path)["model"] for path in (work / "averages" / "pd_send2.pt", *epochs)
    )
    name = "decoder.embed_tokens.weight"
    assert torch.equal(mean[name], (weights[0][name] + weights[1][name]) / 2)
    assert not torch.equal(mean[name], weights[1][name])
    # a second run does no work
    again = subprocess.run(
        ["bash", HERE / "run.sh"], env=environment, capture_output=True, text=True
    )
    assert "[member1]" not in again.stdout
    assert again.returncode == 0


@pytest.fixture(scope="module")
def prepare():
    spec = importlib.util.spec_from_file_location("prepare", HERE / "prepare.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(prepare, monkeypatch, corpus, data, *args):
    """Run prepare.py in this process; return its error, if any."""
    arguments = [corpus, data, "--train", "train", "--held-out", "dev", "--vocabulary", 30,
                 "--workers", 1, *args]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["prepare.py", *map(str, arguments)])
    try:
        prepare.main()
    except SystemExit as end:
        return end.code
    return None


@pytest.fixture
def corpus(tmp_path):
    folder = tmp_path / "LibriSpeech"
    for seed, (name, size) in enumerate({"train": 30, "dev": 3}.items(), 40):
        write_part(folder / name, spoken.utterances(size, seed))
    return folder


def with_audio(name, samples):
    """Return a function that writes a recording, and a list of it."""

    def write(path):
        soundfile.write(path.parent / name, samples, spoken.RATE, subtype="FLOAT")
        path.write_text(f"{name}\tgood words\n")

    return write


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (lambda path: path.write_bytes(b"a.wav\t\xff\n"), "is not UTF-8"),
        (lambda path: path.write_text("a.wav good words\n"), "o.tsv:1 must be"),
        (lambda path: path.write_text("a.wav\tgood\twords\n"), "o.tsv:1 needs one"),
        (lambda path: path.write_text("a.wav\t \n"), "o.tsv:1 needs one transcript"),
        (lambda path: path.write_text("gone.wav\tgood\n"), "gone.wav does not exist"),
        (with_audio("nan.wav", np.full(8000, np.nan)), "nan.wav has samples that are NaN"),
        (with_audio("short.wav", np.zeros(300)), "short.wav is shorter than one frame"),
        (with_audio("long.wav", np.zeros(800)), None),
    ],
)
def test_wrong_lists_and_audio(prepare, corpus, tmp_path, monkeypatch, write, expected):
    write(tmp_path / "o.tsv")
    error = run(
        prepare, monkeypatch, corpus, tmp_path / "data", "--list", f"o={tmp_path / 'o.tsv'}"
    )
    if expected is None:
        assert error is None
    else:
        assert expected in error
        assert "\n" not in error
        assert not (tmp_path / "data" / "o.tsv").exists()


def test_wrong_transcripts(prepare, corpus, tmp_path, monkeypatch):
    (path,) = corpus.glob("dev/1/*/*.trans.txt")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0] + "x" * 200_000, *lines[1:]]))
    assert f"{path}:1 has a transcript of 200," in run(prepare, monkeypatch, corpus, tmp_path / "d")
    assert "NAME=FILE" in run(prepare, monkeypatch, corpus, tmp_path / "d", "--list", "o.tsv")


def test_finished_parts_are_those_of_the_corpus(prepare, corpus, tmp_path, monkeypatch):
    data = tmp_path / "data"
    assert run(prepare, monkeypatch, corpus, data) is None
    before = (data / "train.zip").stat().st_mtime_ns
    assert run(prepare, monkeypatch, corpus, data) is None
    assert (data / "train.zip").stat().st_mtime_ns == before
    path = next(corpus.glob("train/1/*/*.trans.txt"))
    path.write_text(path.read_text().replace(" ", " new ", 1))
    error = run(prepare, monkeypatch, corpus, data)
    assert f"{data / 'train.tsv'} lists other utterances" in error
    assert (data / "train.zip").stat().st_mtime_ns == before


def test_what_is_missing_is_named(tmp_path):
    command = [sys.executable, HERE / "prepare.py", tmp_path, tmp_path / "data"]
    result = subprocess.run(
        [*command, "--train", "train-x", "--held-out", "dev-x", "--list", "ami=none.tsv"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 1
    (line,) = [ln for ln in result.stderr.splitlines() if ln.startswith("error: ")]
    assert all(name in line for name in ("train-x", "dev-x", "none.tsv", "does not exist"))
