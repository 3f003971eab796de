"""Files that are no checkpoints, that are damaged, or that hold code, in every command."""

import os
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Sequence

import pytest
import torch

import fairseq_pdd

from ..plugin.commands import USER_DIR, generate_args, train_args
from ..plugin.inprocess import state
from .cases import Bad, BadCall, check, check_call, parametrize


class Code:
    """An object whose loading makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.file),)


class Scene(NamedTuple):
    """A model, and a folder for files."""

    workspace: Any
    root: Path

    @property
    def trace(self) -> Path:
        """Folder that exists if the code in a file has run."""
        return self.root / "code-was-run"


def unsafe(scene: Scene) -> Path:
    path = scene.root / "unsafe.pt"
    torch.save({**state(scene.workspace.lstm), "code": Code(scene.trace)}, path)
    return path


def cut(scene: Scene) -> Path:
    path, content = scene.root / "cut.pt", scene.workspace.lstm.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


def empty(scene: Scene) -> Path:
    path = scene.root / "empty.pt"
    path.touch()
    return path


def text(scene: Scene) -> Path:
    path = scene.root / "text.pt"
    path.write_text("a text\n" * 9)
    return path


def no_model(scene: Scene) -> Path:
    path = scene.root / "no_model.pt"
    torch.save({"weights": torch.zeros(2)}, path)
    return path


def half_a_state(scene: Scene) -> Path:
    path = scene.root / "no_model.pt"
    torch.save({k: v for k, v in state(scene.workspace.lstm).items() if k != "model"}, path)
    return path


def bare(scene: Scene) -> Path:
    """Save weights and configuration only, as averaging by hand does."""
    path = scene.root / "bare.pt"
    torch.save(
        {k: v for k, v in state(scene.workspace.lstm).items() if k in ("cfg", "model")}, path
    )
    return path


def without_a_weight(scene: Scene) -> Path:
    path, content = scene.root / "less.pt", state(scene.workspace.lstm)
    del content["model"]["decoder.fc_out.bias"]
    torch.save(content, path)
    return path


def with_another_task_state(scene: Scene) -> Path:
    path = scene.root / "list.pt"
    torch.save({**state(scene.workspace.lstm), "task_state": [1]}, path)
    return path


def without_task(scene: Scene) -> Path:
    path, content = scene.root / "no_task.pt", state(scene.workspace.lstm)
    del content["cfg"]["task"]
    torch.save(content, path)
    return path


EXPECTED: Dict[Callable[[Scene], Path], Sequence[str]] = {
    unsafe: ["unsafe.pt", "posix.mkdir", "nothing of it was run", "UNSAFE_CHECKPOINTS=1"],
    cut: ["cut.pt", "is damaged", "copy it again"],
    empty: ["empty.pt", "is damaged"],
    text: ["text.pt", "not a checkpoint"],
    no_model: ["no_model.pt", "it has no model"],
    half_a_state: ["no_model.pt", "it has no model"],
    without_a_weight: ["less.pt", "its own model configuration", "decoder.fc_out.bias"],
    with_another_task_state: ["list.pt", "'list' object has no attribute"],
    without_task: ["no_task.pt", "it has no configuration"],
    bare: ["bare.pt", "no optimizer_history and no extra_state", "all entries but last_optimizer"],
}


def generate(scene: Scene, path: Any) -> List[Any]:
    data = scene.workspace.data
    return ["fairseq-generate", *generate_args(data, path, "--user-dir", USER_DIR)]


def generate_plain_task(scene: Scene, path: Any) -> List[Any]:
    return [*generate(scene, path), "--task", "translation"]


def generate_with_two(scene: Scene, path: Any) -> List[Any]:
    return generate(scene, f"{scene.workspace.transformer}:{path}")


def interactive(scene: Scene, path: Any) -> List[Any]:
    return [
        "fairseq-interactive", scene.workspace.data, "--cpu", "--user-dir", USER_DIR,
        "--task", "distill_translation", "--path", path,
    ]  # fmt: skip


def validate(scene: Scene, path: Any) -> List[Any]:
    return [
        "fairseq-validate", scene.workspace.data, "--cpu", "--user-dir", USER_DIR,
        "--task", "translation", "--path", path, "--max-tokens", 600,
    ]  # fmt: skip


def train(scene: Scene, *args: Any) -> List[Any]:
    return [
        "fairseq-train",
        *train_args(scene.workspace.data, scene.root / "save", "--user-dir", USER_DIR, *args),
    ]


def distil(scene: Scene, *args: Any) -> List[Any]:
    return train(scene, "--task", "distill_translation", "--criterion", "pd_send2", *args)


def teacher(scene: Scene, path: Any) -> List[Any]:
    return distil(scene, "--teacher-paths", f"{scene.workspace.lstm}:{path}")


def finetune(scene: Scene, path: Any) -> List[Any]:
    teachers = ("--teacher-paths", scene.workspace.lstm)
    return distil(scene, *teachers, "--finetune-from-model", path)


def restore(scene: Scene, path: Any) -> List[Any]:
    return train(scene, "--task", "translation", "--restore-file", path)


def resume(scene: Scene, path: Path) -> List[Any]:
    (scene.root / "save").mkdir()
    path.rename(scene.root / "save" / "checkpoint_last.pt")
    return train(scene, "--task", "translation")


def transfer_set(scene: Scene, path: Any) -> List[Any]:
    return [
        "fairseq-pdd", "transfer-set", scene.workspace.data, "--path", path, "--cpu",
        "--destdir", scene.root / "transfer",
    ]  # fmt: skip


def teacher_cache(scene: Scene, path: Any) -> List[Any]:
    return [
        "fairseq-pdd", "teacher-cache", scene.workspace.data, "--cpu",
        "--path", f"{scene.workspace.lstm}:{path}", "--destdir", scene.root / "cache",
    ]  # fmt: skip


def plain(scene: Scene, path: Any, out: Any = None) -> List[Any]:
    return ["fairseq-pdd", "plain-checkpoint", path, out or scene.root / "plain.pt"]


def average(scene: Scene, *paths: Any) -> List[Any]:
    inputs = ["--inputs", *paths] if paths else []
    return ["fairseq-pdd", "average-checkpoints", *inputs, "--output", scene.root / "plain.pt"]


def average_with_two(scene: Scene, path: Any) -> List[Any]:
    return average(scene, scene.workspace.lstm, path)


COMMANDS: Dict[Callable[..., List[Any]], Sequence[Callable[[Scene], Path]]] = {
    generate: [unsafe, cut, bare, without_a_weight, with_another_task_state, without_task],
    generate_plain_task: [unsafe, half_a_state],
    generate_with_two: [cut],
    interactive: [text],
    validate: [unsafe, no_model, without_a_weight],
    teacher: [unsafe, cut, bare],
    finetune: [unsafe, empty],
    restore: [unsafe, half_a_state],
    transfer_set: [unsafe],
    teacher_cache: [unsafe],
    plain: [unsafe, cut, no_model],
    average_with_two: [unsafe, cut, no_model, without_task, bare],
}


def with_file(
    command: Callable[..., List[Any]], make: Callable[[Scene], Path]
) -> Callable[[Scene], List[Any]]:
    return lambda scene: command(scene, make(scene))


def onto_itself(scene: Scene) -> List[Any]:
    path = scene.root / "link.pt"
    path.symlink_to(scene.workspace.lstm)
    return plain(scene, scene.workspace.lstm, path)


def without_folder_rights(scene: Scene) -> List[Any]:
    return plain(scene, scene.workspace.lstm, "/proc/plain.pt")


def changed(scene: Scene, change: Callable[[Dict[str, Any]], Any]) -> Path:
    """Save a Prior Network's checkpoint as ``other.pt`` after a change of its content."""
    path, content = scene.root / "other.pt", state(scene.workspace.pd_send2)
    change(content)
    torch.save(content, path)
    return path


def damage(content: Dict[str, Any]) -> None:
    content["model"]["decoder.embed_tokens.weight"][0, 0] = float("nan")


def average_changed(change: Callable[[Dict[str, Any]], Any]) -> Callable[[Scene], List[Any]]:
    return lambda scene: average(scene, scene.workspace.pd_send2, changed(scene, change))


DIFFERENT = ["pd_send2/checkpoint_best.pt and", "other.pt cannot be averaged", "of one training"]
AVERAGES: "List[Bad[Scene]]" = [
    Bad(
        "average architectures",
        lambda scene: average(scene, scene.workspace.transformer, scene.workspace.lstm),
        ["transformer/checkpoint_best.pt and", "architectures are transformer_iwslt_de_en and ls"],
    ),
    Bad(
        "average a plain model and a Prior Network",
        lambda scene: average(scene, scene.workspace.send, scene.workspace.pd_send2),
        ["send/checkpoint_best.pt and", "is a plain model, the second a Prior Network with"],
    ),
    Bad(
        "average Prior Networks of other offsets",
        average_changed(lambda c: c["task_state"].update(prior_network={"offset": 0.5})),
        [*DIFFERENT, "with offset 1.0, the second a Prior Network with offset 0.5"],
    ),
    Bad(
        "average model options",
        average_changed(lambda c: setattr(c["cfg"]["model"], "activation_fn", "gelu")),
        [*DIFFERENT, "option activation_fn is 'relu' and 'gelu'"],
    ),
    Bad(
        "average dictionaries",
        average_changed(lambda c: c["task_state"]["dictionaries"]["source"].update(sha256="0")),
        [*DIFFERENT, "source dictionaries differ"],
    ),
    Bad(
        "average directions",
        average_changed(lambda c: c["task_state"].update(languages=("yy", "xx"))),
        [*DIFFERENT, "translate xx to yy and yy to xx"],
    ),
    Bad(
        "average without a weight",
        average_changed(lambda c: c["model"].pop("decoder.layers.0.fc1.bias")),
        [*DIFFERENT, "decoder.layers.0.fc1.bias is of shape [64] in the first and absent"],
    ),
    Bad(
        "average with another weight",
        average_changed(lambda c: c["model"].update(more=torch.zeros(2))),
        [*DIFFERENT, "more is absent in the first and of shape [2]"],
    ),
    Bad(
        "average shapes",
        average_changed(lambda c: c["model"].update({"decoder.version": torch.zeros(2)})),
        [*DIFFERENT, "decoder.version is of shape [1] in the first and of shape [2]"],
    ),
    Bad(
        "average integers and numbers",
        average_changed(lambda c: c["model"].update({"decoder.version": torch.tensor([3])})),
        [*DIFFERENT, "decoder.version is of shape [1] in the first and of shape integers, [1]"],
    ),
    Bad("average NaN", average_changed(damage), ["other.pt is damaged", "embed_tokens.weight"]),
    Bad(
        "average no file",
        lambda scene: average_with_two(scene, scene.root / "no.pt"),
        ["cannot read", "no.pt"],
    ),
    Bad(
        "average a file twice",
        lambda scene: average_with_two(scene, scene.workspace.lstm),
        ["lstm/checkpoint_best.pt", "the same file", "give it once"],
    ),
    Bad(
        "average a folder without a number",
        lambda scene: average(scene, scene.workspace.lstm.parent),
        ["lstm is a folder", "--num-epoch-checkpoints"],
    ),
    Bad(
        "average a number of files",
        lambda scene: [
            *average(scene, scene.workspace.lstm, scene.workspace.send),
            "--num-update-checkpoints", 2,
        ],
        ["--num-update-checkpoints takes one folder", "2 are given", "--save-dir"],
    ),
    Bad(
        "average a number of one file",
        lambda scene: [*average(scene, scene.workspace.lstm), "--num-epoch-checkpoints", 1],
        ["checkpoint_best.pt is no folder", "--save-dir"],
    ),
    Bad(
        "average too few",
        lambda scene: [
            *average(scene, scene.workspace.lstm.parent),
            "--num-epoch-checkpoints", 3, "--checkpoint-upper-bound", 4,
        ],
        ["lstm has 0 checkpoints checkpointEPOCH.pt up to 4", "keep-last-epochs"],
    ),
    Bad(
        "average by epochs and updates",
        lambda scene: [
            *average(scene, scene.workspace.lstm.parent),
            "--num-epoch-checkpoints", 3, "--num-update-checkpoints", 3,
        ],
        ["--num-epoch-checkpoints or --num-update-checkpoints, not both"],
    ),
    Bad(
        "average up to a bound without a number",
        lambda scene: [*average(scene, scene.workspace.lstm), "--checkpoint-upper-bound", 4],
        ["--checkpoint-upper-bound needs --num-epoch-checkpoints"],
    ),
    Bad(
        "average onto an input",
        lambda scene: [
            *average(scene, scene.workspace.lstm, changed(scene, damage)),
            "--output", scene.root / "other.pt",
        ],
        ["cannot write", "other.pt", "the checkpoint itself"],
    ),
    Bad(
        "average into no folder",
        lambda scene: [*average(scene, scene.workspace.lstm), "--output", scene.root / "no/out.pt"],
        ["cannot write", "no/out.pt", "does not exist"],
    ),
    Bad(
        "average onto a full disk",
        lambda scene: [*average(scene, scene.workspace.lstm), "--output", "/dev/full"],
        ["cannot write /dev/full"],
    ),
]  # fmt: skip

CASES: "List[Bad[Scene]]" = [
    *AVERAGES,
    *(
        Bad(f"{command.__name__} {make.__name__}", with_file(command, make), EXPECTED[make])
        for command, makes in COMMANDS.items()
        for make in makes
    ),
    Bad("resume cut", with_file(resume, cut), ["checkpoint_last.pt", "is damaged"]),
    Bad("resume unsafe", with_file(resume, unsafe), ["checkpoint_last.pt", "posix.mkdir"]),
    Bad(
        "restore a checkpoint of another architecture",
        lambda scene: restore(scene, scene.workspace.lstm),
        ["training cannot start from checkpoint", "lstm/checkpoint_best.pt", "--save-dir"],
    ),
    Bad(
        "restore a checkpoint of another optimizer",
        lambda scene: [*restore(scene, scene.workspace.transformer), "--optimizer", "sgd"],
        ["transformer/checkpoint_best.pt", "Optimizer does not match", "--reset-optimizer"],
    ),
    Bad(
        "validate no file",
        lambda scene: validate(scene, scene.root / "no.pt"),
        ["checkpoint not found", "no.pt"],
    ),
    Bad(
        "plain-checkpoint of no file",
        lambda scene: plain(scene, scene.root / "no.pt"),
        ["cannot read", "no.pt"],
    ),
    Bad("plain-checkpoint onto itself", onto_itself, ["link.pt", "the checkpoint itself"]),
    Bad(
        "plain-checkpoint onto a folder",
        lambda scene: plain(scene, scene.workspace.lstm, scene.root),
        ["is a folder"],
    ),
    Bad("plain-checkpoint read-only", without_folder_rights, ["cannot write /proc/plain.pt"]),
    Bad(
        "plain-checkpoint on a full disk",
        lambda scene: plain(scene, scene.workspace.lstm, "/dev/full"),
        ["cannot write /dev/full"],
    ),
]


@pytest.fixture
def scene(workspace: Any, tmp_path: Path) -> Scene:
    root = tmp_path / "scene"
    root.mkdir()
    return Scene(workspace, root)


@parametrize(CASES)
def test_command(case: "Bad[Scene]", scene: Scene, tmp_path: Path) -> None:
    check(case, scene, tmp_path, scene.root)
    assert not scene.trace.exists()
    assert not (scene.root / "plain.pt").exists()


def load_first(make: Callable[[Scene], Path]) -> Callable[[Scene], Any]:
    return lambda scene: fairseq_pdd.load(make(scene), scene.workspace.data)


def load_second(make: Callable[[Scene], Path]) -> Callable[[Scene], Any]:
    def call(scene: Scene) -> Any:
        return fairseq_pdd.load([scene.workspace.transformer, make(scene)], scene.workspace.data)

    return call


CALLS: "List[BadCall[Scene]]" = [
    BadCall(f"{load.__name__} {make.__name__}", load(make), EXPECTED[make])
    for load in (load_first, load_second)
    for make in EXPECTED
    # load() does not need all entries that fairseq's commands need
    if make not in (bare, with_another_task_state)
]


@parametrize(CALLS)
def test_call(case: "BadCall[Scene]", scene: Scene) -> None:
    check_call(case, scene)
    assert not scene.trace.exists()
