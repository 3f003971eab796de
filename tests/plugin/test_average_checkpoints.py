"""``fairseq-pdd average-checkpoints``: the mean of weights, computed anew with NumPy."""

from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
import torch
from fairseq.data import Dictionary
from typer.testing import CliRunner

from fairseq_pdd.checkpoints.average import EPOCHS, UPDATES, last_checkpoints, write_average
from fairseq_pdd.cli.main import app
from fairseq_pdd.errors import UsageError
from fairseq_pdd.models.prior_network import prior_network_offset

from . import inprocess
from .inprocess import load, numbers, state
from .test_checkpoints import lines

NUMBER = 3


def average(*args: Any) -> Any:
    """Run ``fairseq-pdd average-checkpoints``."""
    return CliRunner().invoke(app, ["average-checkpoints", *map(str, args)])


def means(paths: List[Path]) -> Dict[str, np.ndarray]:
    """Compute the means of weights in float64."""
    weights = [state(path)["model"] for path in paths]
    return {
        name: np.mean([w[name].numpy().astype(np.float64) for w in weights], axis=0)
        for name in weights[0]
    }


@pytest.fixture(scope="module")
def training(workspace: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the save folder of a student with a checkpoint of each update."""
    folder = tmp_path_factory.mktemp("training")
    inprocess.train(
        workspace.data, folder, "--task", "distill_translation", "--criterion", "pd_send2",
        "--teacher-paths", workspace.teachers, "--finetune-from-model", workspace.transformer,
        "--share-decoder-input-output-embed", "--save-interval-updates", 1, "--lr", 0.05,
        updates=NUMBER + 1,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def averaged(training: Path) -> Path:
    result = average(
        "--inputs", training, "--num-update-checkpoints", NUMBER, "--output", training / "mean.pt"
    )
    assert result.exit_code == 0, result.output
    assert f"averaged {NUMBER} checkpoints" in result.output
    return training / "mean.pt"


def updates(training: Path) -> List[Path]:
    """Return the checkpoints that are averaged, the oldest first."""
    return [training / f"checkpoint_1_{number}.pt" for number in range(2, NUMBER + 2)]


def test_weights_are_the_means(training, averaged):
    expected, found = means(updates(training)), state(averaged)["model"]
    assert set(numbers(found)) == set(numbers(expected))
    for name, value in numbers(expected).items():
        np.testing.assert_array_equal(found[name].numpy(), value.astype(np.float32), name)
    # the inputs do differ
    assert not np.array_equal(
        found["decoder.embed_tokens.weight"].numpy(),
        state(updates(training)[1])["model"]["decoder.embed_tokens.weight"].numpy(),
    )


def test_all_else_is_the_last_ones_without_its_optimizer(training, averaged):
    last, found = state(updates(training)[-1]), state(averaged)
    assert set(last) - set(found) == {"last_optimizer_state"}
    assert (found["cfg"], found["args"]) == (last["cfg"], None)
    assert found["task_state"] == last["task_state"]
    assert found["optimizer_history"] == last["optimizer_history"][-1:]
    assert found["extra_state"] == {"train_iterator": last["extra_state"]["train_iterator"]}
    assert vars(found["model"]) == vars(last["model"])


def test_shared_embeddings_stay_shared(averaged):
    weights = state(averaged)["model"]
    names = ("decoder.embed_tokens.weight", "decoder.output_projection.weight")
    assert len({weights[name].untyped_storage().data_ptr() for name in names}) == 1


def test_generation_is_that_of_a_model_with_the_means(workspace, training, averaged, tmp_path):
    last = state(updates(training)[-1])
    for name, value in means(updates(training)).items():
        last["model"][name] = torch.from_numpy(np.asarray(value)).float()
    torch.save(last, tmp_path / "expected.pt")
    found, expected, newest = (
        lines(inprocess.generate(workspace.data, path, "--nbest", 2))
        for path in (averaged, tmp_path / "expected.pt", updates(training)[-1])
    )
    assert len([line for line in found if line.startswith("H-")]) == 2 * 43
    assert found == expected
    assert found != newest


def test_a_prior_network_stays_one(workspace, averaged):
    task = inprocess.task_for(workspace.data)
    assert prior_network_offset(load(averaged, task)) == 1.0


def test_it_is_a_teacher_and_a_start(workspace, averaged, tmp_path):
    inprocess.train(
        workspace.data, tmp_path, "--task", "distill_translation", "--criterion", "pd_send2",
        "--teacher-paths", f"{averaged}:{workspace.lstm}", "--finetune-from-model", averaged,
        "--share-decoder-input-output-embed", "--lr", 1e-9, updates=1,
    )  # fmt: skip
    started, mean = (state(p)["model"] for p in (tmp_path / "checkpoint_last.pt", averaged))
    for name, value in numbers(mean).items():
        torch.testing.assert_close(started[name], value, rtol=0, atol=1e-6)


@pytest.mark.parametrize("order", ["inputs first", "output first", "one by one"])
def test_inputs_are_given_in_any_form(training, tmp_path, order):
    first, second = updates(training)[:2]
    output = ["--output", tmp_path / "out.pt"]
    args = {
        "inputs first": ["--inputs", first, second, *output],
        "output first": [*output, "--inputs", first, second],
        "one by one": ["--inputs", first, *output, "--inputs", second],
    }[order]
    result = average(*args)
    assert result.exit_code == 0, result.output
    name = "decoder.embed_tokens.weight"
    expected = means([first, second])[name].astype(np.float32)
    np.testing.assert_array_equal(state(tmp_path / "out.pt")["model"][name].numpy(), expected)


def write_series(workspace: Any, folder: Path, tensors: Dict[str, List[Any]]) -> List[Path]:
    """Write checkpoints of one model that have different values of further tensors."""
    paths = []
    for i, values in enumerate(zip(*tensors.values())):
        changed = state(workspace.lstm)
        changed["model"].update(zip(tensors, values))
        paths.append(folder / f"{i}.pt")
        torch.save(changed, paths[-1])
    return paths


def test_types_are_kept_and_sums_do_not_overflow(workspace, tmp_path):
    tensors: Dict[str, List[Any]] = {
        "half": [torch.tensor([60000.0]).half(), torch.tensor([40000.0]).half()],
        "brain": [torch.tensor([3e38]).bfloat16()] * 2,
        "single": [torch.tensor([3e38])] * 2,
        "double": [torch.tensor([value], dtype=torch.float64) for value in (1, 1 + 4e-16)],
        "complex": [torch.tensor([1 + 2j]), torch.tensor([3 - 4j])],
        "mask": [torch.tensor([True, False])] * 2,
        "version": [torch.tensor([3])] * 2,
        "norm.num_batches_tracked": [torch.tensor(5), torch.tensor(8)],
    }
    write_average(write_series(workspace, tmp_path, tensors), tmp_path / "out.pt")
    found = state(tmp_path / "out.pt")["model"]
    expected = {
        name: values[1]
        for name, values in tensors.items()
        if name not in ("half", "double", "complex")
    }
    expected["half"] = torch.tensor([50000.0]).half()
    expected["double"] = torch.tensor([1 + 2.220446049250313e-16], dtype=torch.float64)
    expected["complex"] = torch.tensor([2 - 1j])
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0)


def test_tensors_that_only_the_last_shares_stay_apart(workspace, tmp_path):
    shared = torch.tensor([2.0])
    one, other = torch.tensor([4.0]), torch.tensor([6.0])
    paths = write_series(workspace, tmp_path, {"a": [one, shared], "b": [other, shared]})
    write_average(paths, tmp_path / "out.pt")
    found = state(tmp_path / "out.pt")["model"]
    assert (found["a"].item(), found["b"].item()) == (3.0, 4.0)


def test_integers_that_differ_have_no_mean(workspace, tmp_path):
    paths = write_series(workspace, tmp_path, {"codes": [torch.tensor([1]), torch.tensor([2])]})
    with pytest.raises(UsageError, match=r"0\.pt and .*1\.pt cannot be averaged: codes has no"):
        write_average(paths, tmp_path / "out.pt")


def test_dictionaries_of_speech_tasks_are_compared(workspace, tmp_path):
    paths = [tmp_path / f"{i}.pt" for i in range(3)]
    for path, word in zip(paths, ("a", "a", "b")):
        dictionary = Dictionary()
        dictionary.add_symbol(word)
        changed = {**state(workspace.lstm), "task_state": {"target_dictionary": dictionary}}
        torch.save(changed, path)
    write_average(paths[:2], tmp_path / "out.pt")
    with pytest.raises(UsageError, match=r"1\.pt and .*2\.pt .*their target dictionaries differ"):
        write_average(paths[1:], tmp_path / "out.pt")


def test_options_of_training_and_forms_of_checkpoints_may_differ(workspace, tmp_path):
    """Average a checkpoint, one of another dropout, and its plain form."""
    resumed = state(workspace.transformer)
    resumed["cfg"]["model"].dropout = 0.7
    resumed["cfg"]["optimization"]["max_update"] = 7
    torch.save(resumed, tmp_path / "resumed.pt")
    plain = ["plain-checkpoint", str(workspace.transformer), str(tmp_path / "plain.pt")]
    assert CliRunner().invoke(app, plain).exit_code == 0
    paths = [workspace.transformer, tmp_path / "resumed.pt", tmp_path / "plain.pt"]
    write_average(paths, tmp_path / "out.pt")
    before, after = (state(path)["model"] for path in (workspace.transformer, tmp_path / "out.pt"))
    for name, value in numbers(before).items():
        torch.testing.assert_close(after[name], value, rtol=1e-7, atol=0)


def test_members_of_an_ensemble_cause_a_warning(workspace, tmp_path, caplog):
    other = state(workspace.lstm)
    other["cfg"]["common"]["seed"] = 7
    torch.save(other, tmp_path / "other.pt")
    write_average([workspace.lstm, tmp_path / "other.pt"], tmp_path / "out.pt")
    assert "other.pt with 7: the mean of two trainings is of no use" in caplog.text
    caplog.clear()
    write_average([workspace.lstm, tmp_path / "out.pt"], tmp_path / "again.pt")
    assert "no use" in caplog.text
    caplog.clear()
    write_average([workspace.lstm, workspace.lstm.with_name("checkpoint_last.pt")], tmp_path / "x")
    assert not caplog.text


def test_an_older_file_survives_a_failure(workspace, tmp_path):
    path = tmp_path / "out.pt"
    path.write_text("older")
    (tmp_path / "cut.pt").write_bytes(workspace.lstm.read_bytes()[:9999])
    with pytest.raises(UsageError, match=r"cut\.pt is damaged"):
        write_average([workspace.lstm, tmp_path / "cut.pt"], path)
    assert path.read_text() == "older"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["cut.pt", "out.pt"]


@pytest.mark.parametrize(
    ("number", "series", "bound", "expected"),
    [
        (2, EPOCHS, None, ["checkpoint10.pt", "checkpoint11.pt"]),
        (3, EPOCHS, 10, ["checkpoint8.pt", "checkpoint9.pt", "checkpoint10.pt"]),
        (4, EPOCHS, 11, [f"checkpoint{n}.pt" for n in (8, 9, 10, 11)]),
        (1, UPDATES, None, ["checkpoint_9_1000.pt"]),
        (2, UPDATES, 999, ["checkpoint_8_50.pt", "checkpoint_10_900.pt"]),
        (5, EPOCHS, None, "4 checkpoints checkpointEPOCH.pt, fewer"),
        (3, UPDATES, 999, "2 checkpoints checkpoint_EPOCH_UPDATE.pt up to 999"),
    ],
)
def test_the_last_ones_of_a_folder(tmp_path, number, series, bound, expected):
    for name in (
        "8", "9", "10", "11", "_8_50", "_9_1000", "_10_900", "_best", "_last", ".best_loss_2.5",
        "12-shard0", "_avg_13",
    ):  # fmt: skip
        (tmp_path / f"checkpoint{name}.pt").touch()
    (tmp_path / "checkpoint14.pt.tmp").touch()
    (tmp_path / "mycheckpoint15.pt").touch()
    if isinstance(expected, str):
        with pytest.raises(UsageError, match=expected):
            last_checkpoints(tmp_path, number, series, bound)
    else:
        found = last_checkpoints(tmp_path, number, series, bound)
        assert found == [str(tmp_path / name) for name in expected]
