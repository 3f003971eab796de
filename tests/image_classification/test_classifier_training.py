import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import classifiers
import pytest
import torch
import train_classifier
from criteria import CRITERIA
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from fairseq_pdd.core import EnsembleStatistics, reverse_kl_proxy_dirichlet
from fairseq_pdd.errors import UsageError

from . import linear_training

EXAMPLE = Path(train_classifier.__file__).parent


def weights(folder: Path) -> Dict[str, Tensor]:
    return {
        f"{name}.{key}": value
        for name in linear_training.CRITERIA
        for key, value in classifiers.read(folder / f"{name}.pt").items()
        if isinstance(value, Tensor)
    }


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    linear_training.train(16, folder)
    return folder


def test_two_processes_equal_one_with_twice_the_batch(alone: Path, tmp_path: Path) -> None:
    worker = Path(linear_training.__file__)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    search = os.pathsep.join([str(EXAMPLE), str(EXAMPLE.parents[1])])
    subprocess.run(
        [*torchrun, "--standalone", str(worker), "8", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": search, "OMP_NUM_THREADS": "1"},
        check=True,
        timeout=300,
    )
    torch.testing.assert_close(weights(tmp_path), weights(alone))


def test_training_is_sgd_on_the_mean_loss(alone: Path) -> None:
    """The loop repeats it: momentum, weight decay, warm-up and steps of the learning rate."""
    inputs, _ = linear_training.images(alone).tensors
    torch.manual_seed(1)
    model = linear_training.linear(linear_training.CLASSES)
    parameters = list(model.parameters())
    velocity = [torch.zeros_like(p) for p in parameters]
    for epoch in range(4):
        order = torch.randperm(64, generator=torch.Generator().manual_seed(1 + epoch))
        for step, batch in enumerate(order.split(16)):
            statistics = EnsembleStatistics()
            for member in linear_training.members():
                statistics.update(member(inputs[batch]).log_softmax(-1))
            mean, inverse = statistics.mean_probs, statistics.inverse_precision
            loss = reverse_kl_proxy_dirichlet(model(inputs[batch]), mean, inverse).mean()
            gradients = torch.autograd.grad(loss, parameters)
            done = 4 * epoch + step
            rate = 2.0 * 16 / 256 * min(1, (done + 1) / 5) * 0.1 ** (epoch // 2)
            with torch.no_grad():
                for p, v, gradient in zip(parameters, velocity, gradients):
                    v.mul_(0.9).add_(gradient + 1e-4 * p)
                    p.sub_(rate * v)
    for p, (_, trained) in zip(parameters, classifiers.read(alone / "pd_end2.pt").items()):
        torch.testing.assert_close(p.detach(), trained)


def test_an_interrupted_training_gives_the_same_result(
    alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_epoch = train_classifier.run_epoch
    titles: List[str] = []

    def interrupted(*args: Any) -> Dict[str, float]:
        titles.append(args[-1])
        if len(titles) == 3:
            raise KeyboardInterrupt
        return run_epoch(*args)

    monkeypatch.setattr(train_classifier, "run_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        linear_training.train(16, tmp_path)
    assert not (tmp_path / "end.pt").exists()
    linear_training.train(16, tmp_path)
    assert titles == ["epoch 1", "epoch 2", "epoch 3", "epoch 3", "epoch 4"]
    torch.testing.assert_close(weights(tmp_path), weights(alone), rtol=0, atol=0)
    assert not (tmp_path / "checkpoint.pt").exists()


@pytest.mark.parametrize("name", CRITERIA)
def test_every_criterion_learns(name: str) -> None:
    """The loss falls from that of zero logits, and the prediction becomes the label."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([0, 1])
    statistics = EnsembleStatistics()
    for _ in range(3):
        # confident in the label, with disagreement
        logits = torch.randn(2, 4, generator=generator) + 3 * torch.eye(2, 4)
        statistics.update(logits.log_softmax(-1))
    z = torch.zeros(2, 4, requires_grad=True)
    criterion = CRITERIA[name]

    def loss() -> Tensor:
        if criterion.from_labels is not None:
            return criterion.from_labels(z, labels)
        assert criterion.from_teacher is not None
        return criterion.from_teacher(z, statistics)

    first = loss()
    assert first.shape == (2,)
    optimizer = torch.optim.Adam([z], 0.05)
    for _ in range(200):
        optimizer.zero_grad()
        loss().sum().backward()
        optimizer.step()
    assert (loss() < first).all()
    assert z.argmax(-1).tolist() == [0, 1]


def test_residual_branches_start_at_zero() -> None:
    for name, build in classifiers.ARCHITECTURES.items():
        if name == "linear":
            continue
        blocks = [m for m in build(7).modules() if isinstance(m, (BasicBlock, Bottleneck))]
        assert blocks
        for block in blocks:
            last = block.bn3 if hasattr(block, "bn3") else block.bn2
            assert isinstance(last, nn.BatchNorm2d)
            assert not last.weight.any()


def command(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["train_classifier.py", *map(str, words)])
    train_classifier.main()


def test_the_error_for_a_student_without_teacher_names_the_option(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wanted = ["--criteria", "end", "pd_end2", "--out", tmp_path / "out"]
    with pytest.raises(UsageError, match=r"end, pd_end2 learn from an ensemble.*--teacher"):
        command(monkeypatch, tmp_path, "--config", "smoke", *wanted)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        (b"no checkpoint", "is damaged or no checkpoint"),
        ({"weight": torch.zeros(2)}, "is no resnet8 of 8 classes"),
    ],
)
def test_the_error_names_a_wrong_member(
    content: Any, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    member = tmp_path / "member.pt"
    if isinstance(content, bytes):
        member.write_bytes(content)
    elif content is not None:
        torch.save(content, member)
    with pytest.raises(UsageError, match=f"member.pt {message}"):
        command(
            monkeypatch,
            *(tmp_path, "--config", "smoke", "--criteria", "end", "--out", tmp_path / "out"),
            *("--teacher", member),
        )


def test_students_of_other_members_are_refused(
    fashion_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    member, out = tmp_path / "member.pt", tmp_path / "out"
    classifiers.save(classifiers.ARCHITECTURES["resnet8"](8).state_dict(), member)
    words = (fashion_folder, "--config", "smoke", "--criteria", "end", "--teacher", member)
    command(monkeypatch, *words, "--out", out)
    student = (out / "end.pt").read_bytes()
    command(monkeypatch, *words, "--out", out)  # trained already
    classifiers.save(classifiers.ARCHITECTURES["resnet8"](8).state_dict(), member)
    with pytest.raises(UsageError, match="out holds a training with another --teacher: give"):
        command(monkeypatch, *words, "--out", out)
    with pytest.raises(UsageError, match="out holds a training with another --seed, --teacher"):
        command(monkeypatch, *words, "--out", out, "--seed", 2)
    assert (out / "end.pt").read_bytes() == student


@pytest.mark.parametrize(
    ("script", "words", "named"),
    [
        ("train_classifier.py", ("nowhere", "--config", "smoke", "--out", "out"), "nowhere has no"),
        ("evaluate_classifiers.py", ("nowhere", "run", "--config", "smoke"), "run has no members"),
        ("report_classifiers.py", ("run",), "cannot read run/results.json"),
        ("class_sweep.py", ("1000000", "--out", "glyphs.json"), "classes of glyphs to learn"),
    ],
)
def test_bad_input_of_a_script_ends_in_one_line(
    script: str,
    words: Any,
    named: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [script, *words])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # restored after the test
    with pytest.raises(UsageError) as error:
        runpy.run_path(str(EXAMPLE / script), run_name="__main__")
    sys.excepthook(error.type, error.value, error.tb)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("fairseq_pdd: error: ")
    assert named in line


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    classifiers.save({"epochs": 1, "learners": {"end": {}}}, tmp_path / "checkpoint.pt")
    with pytest.raises(UsageError, match=r"checkpoint\.pt belongs to other --criteria"):
        linear_training.train(16, tmp_path)


def test_fewer_images_than_a_batch_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="fewer images than a batch of 65"):
        linear_training.train(65, tmp_path)
