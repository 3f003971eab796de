"""``distill_speech_recognition``: fairseq's example with another reader of audio and a teacher."""

import json
import subprocess
import sys

import jiwer
import numpy as np
import pytest
import soundfile
import torch
from torchaudio.compliance import kaldi

from fairseq_pdd.errors import UsageError
from fairseq_pdd.speech import examples

from ..plugin import commands, inprocess, naive
from ..plugin.inprocess import batch, build, load
from . import spoken
from .recipes import DISTIL_VGG, PD_SEND2, VGG

ADADELTA = (
    "--optimizer", "adadelta", "--lr", 1.0, "--adadelta-eps", 1e-8, "--adadelta-rho", 0.95,
    "--clip-norm", 10.0,
)  # fmt: skip


def test_features_are_the_log_mel_energies_of_the_example(workspace):
    task = inprocess.task_for(workspace.lists, *DISTIL_VGG)
    task.load_dataset("test")
    dataset = task.dataset("test")
    listed = json.loads((workspace.lists / "test.json").read_text("utf-8"))["utts"]
    for index in (0, len(dataset) - 1):
        features, target = dataset[index]["data"]
        entry = listed[dataset.ids[index]]
        samples, _ = soundfile.read(entry["input"]["path"], dtype="float64")
        expected = kaldi.fbank(torch.tensor(2**15 * samples)[None], num_mel_bins=80).numpy()
        expected = (expected - expected.mean(0)) / expected.std(0, ddof=1)
        np.testing.assert_allclose(features.numpy(), expected, atol=2e-3)
        assert abs(len(features) - dataset.num_tokens(index)) <= 1
        assert task.target_dictionary.string(target, "sentencepiece") == entry["output"]["text"]


@pytest.mark.parametrize("optimizer", [ADADELTA, ()])
def test_training(workspace, tmp_path, optimizer):
    args = (*DISTIL_VGG, *PD_SEND2, workspace.vgg_teachers, *optimizer)
    logs = inprocess.train(workspace.lists, tmp_path, *args, updates=14)
    losses = [float(epoch["valid_loss"]) for epoch in logs.valid]
    assert losses[-1] < losses[0]
    saved = inprocess.state(tmp_path / "checkpoint_last.pt")
    assert saved["task_state"]["prior_network"] == {"offset": 1.0}


def test_loss_of_a_batch(workspace):
    args = (*DISTIL_VGG, *PD_SEND2, workspace.vgg_teachers)
    task, student, criterion = build(workspace.lists, *args)
    sample = batch(task, "valid", range(4))
    _, _, log = criterion(student.eval(), sample)
    members = [load(path) for path in workspace.vgg_members]
    total = 0.0
    with torch.no_grad():
        logits = student(**sample["net_input"])[0].double()
        probs = [m(**sample["net_input"])[0].double().softmax(-1) for m in members]
    mask = sample["target"].ne(naive.PAD)
    for z, *each in zip(logits[mask], *(p[mask] for p in probs)):
        total += naive.loss("pd_send2", z, torch.stack(each), offset=1.0).item()
    assert float(log["loss"]) == pytest.approx(total, rel=1e-4)


def test_generation(workspace, tmp_path):
    file = tmp_path / "out.jsonl"
    output = inprocess.generate(
        workspace.lists, workspace.vgg_pd_send2, "--task", "distill_speech_recognition",
        "--uncertainty-path", file, "--scoring", "wer", "--post-process", "sentencepiece",
        "--max-len-b", 20, "--batch-size", 1,
    )  # fmt: skip
    records = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    names = {u.name: u.text for u in spoken.SPLITS["test"]}
    assert {r["utterance"]: r["reference"] for r in records} == names
    wer = jiwer.wer([r["reference"] for r in records], [r["hypothesis"] for r in records])
    (line,) = [line for line in output if line.startswith("Generate test")]
    assert float(line.split("WER: ")[1]) == pytest.approx(100 * wer, abs=0.01)

    task = inprocess.task_for(workspace.lists, *DISTIL_VGG)
    student = load(workspace.vgg_pd_send2).double()
    task.load_dataset("test")
    for record in records[:3]:
        assert record["source"] is None
        source = task.dataset("test")[record["id"]]["data"][0].double()
        target = torch.tensor([task.target_dictionary.index(t) for t in record["tokens"]])
        inputs = naive.net_input(source, target)
        with torch.no_grad():
            logits = student(**inputs)[0][0]
        _, means = naive.columns(naive.student_scores(logits, target))
        for name, value in means.items():
            assert record["sequence"][name] == pytest.approx(value, rel=2e-3, abs=2e-4), name


def test_the_real_commands(workspace, tmp_path):
    """Members train with the paper's architecture, optimiser and criterion, given by name."""
    # Without a worker fairseq computes features ahead in a thread, in which the process can abort
    # when it is done.
    args = (*DISTIL_VGG, *ADADELTA, "--criterion", "cross_entropy_acc", "--num-workers", 1)
    commands.train(workspace.lists, tmp_path, *args, updates=1)
    assert inprocess.state(tmp_path / "checkpoint_last.pt")["cfg"]["model"]._name == VGG[1]


def test_other_examples_stay_importable(tmp_path):
    for name in ("mine", "speech_recognition", "translation"):
        (tmp_path / "examples" / name).mkdir(parents=True)
        (tmp_path / "examples" / name / "__init__.py").write_text("value = 7\n")
    script = (
        "from examples import mine; from fairseq_pdd.speech import examples; "
        "examples.import_speech_recognition(); from examples import translation; "
        "assert mine.value == translation.value == 7; "
        "from fairseq.models import ARCH_MODEL_REGISTRY; "
        "assert 'vggtransformer_2' in ARCH_MODEL_REGISTRY"
    )
    path = {"PYTHONPATH": f"{tmp_path}:{commands.REPOSITORY}", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, "-c", script], env=path, cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "has no examples/speech_recognition.*distill_speech_to_text"),
        ("import no_such_module", "cannot be imported: ModuleNotFoundError.*no_such_module"),
    ],
)
def test_examples_that_are_absent_or_broken(tmp_path, monkeypatch, content, expected):
    (tmp_path / "fairseq").mkdir()
    if content is not None:
        folder = tmp_path / "examples" / "speech_recognition"
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(content)
    monkeypatch.setattr(examples.fairseq, "__file__", str(tmp_path / "fairseq" / "__init__.py"))
    for name in [n for n in sys.modules if n.partition(".")[0] == "examples"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(UsageError, match=expected):
        examples.import_speech_recognition()
    monkeypatch.delitem(sys.modules, "examples", raising=False)


def test_encoders_without_decoder_are_refused(workspace):
    args = ("--task", "distill_speech_recognition", "--arch", "vggtransformer_enc_1")
    with pytest.raises(UsageError, match=r"no encoder-decoder.*vggtransformer_1"):
        build(workspace.lists, *args, *PD_SEND2, workspace.vgg_teachers)
