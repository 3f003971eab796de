"""Checkpoints that do not fit data or one another, and wrong options of the online teacher."""

import math
import shutil
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple

import pytest
import torch
from fairseq import tasks

import fairseq_pdd
from fairseq_pdd.checkpoints.fit import check_fit
from fairseq_pdd.errors import UsageError

from ..plugin import inprocess
from ..plugin.commands import USER_DIR, generate_args, train_args
from .cases import Bad, BadCall, check, check_call, parametrize

USE = ("--user-dir", USER_DIR, "--task", "distill_translation")


class Scene(NamedTuple):
    """Models and data to spoil."""

    workspace: Any
    root: Path

    def edited(self, path: Path, change: Callable[[Dict[str, Any]], Any]) -> Path:
        """Return a changed copy of a checkpoint, in a folder below that of ``reordered``."""
        state = torch.load(path, map_location="cpu", weights_only=True)
        change(state)
        copy = self.root / "models" / f"{path.parent.name}.pt"
        copy.parent.mkdir(exist_ok=True)
        torch.save(state, copy)
        return copy

    def reordered(self, language: str = "yy") -> Path:
        """Return a copy of the data in which two types of a dictionary are exchanged."""
        data = Path(shutil.copytree(self.workspace.data, self.root / "reordered"))
        path = data / f"dict.{language}.txt"
        lines = path.read_text("utf-8").splitlines()
        lines[3], lines[4] = lines[4], lines[3]
        path.write_text("\n".join(lines) + "\n", "utf-8")
        return data

    def two_train_sets(self) -> Path:
        """Return data with ``train1`` beside ``train``."""
        data = Path(shutil.copytree(self.workspace.data, self.root / "two"))
        for path in list(data.glob("valid.xx-yy.*")):
            shutil.copy(path, data / path.name.replace("valid", "train1", 1))
        return data

    def relative(self) -> Path:
        """Return a member that names its data relative to a folder above its file."""
        shutil.copytree(self.workspace.data, self.root / "bin")
        return self.edited(self.workspace.lstm, lambda s: s["cfg"]["task"].update(data="bin"))

    def reverse(self) -> Path:
        """Return a member that translates yy to xx."""
        languages = {"source_lang": "yy", "target_lang": "xx"}
        return self.edited(self.workspace.lstm, lambda s: s["cfg"]["task"].update(languages))

    def damaged(self, value: float = math.nan) -> Path:
        """Return a student one of whose weights is no finite number."""

        def damage(state: Dict[str, Any]) -> None:
            state["model"]["decoder.output_projection.weight"][3, 3] = value

        return self.edited(self.workspace.pd_send2, damage)


@pytest.fixture
def scene(workspace: Any, tmp_path: Path) -> Scene:
    root = tmp_path / "scene"
    root.mkdir()
    return Scene(workspace, root)


def train(scene: Scene, *args: Any, data: Any = None) -> List[Any]:
    data = data or scene.workspace.data
    return ["fairseq-train", *train_args(data, scene.root / "save", *USE, *args)]


def distil(scene: Scene, *args: Any, data: Any = None) -> List[Any]:
    return train(scene, "--criterion", "pd_send2", *args, data=data)


def with_teachers(scene: Scene, *args: Any) -> List[Any]:
    return distil(scene, "--teacher-paths", scene.workspace.teachers, *args)


def generate(scene: Scene, path: Any, *args: Any, data: Any = None) -> List[Any]:
    data = data or scene.workspace.data
    return ["fairseq-generate", *generate_args(data, path, *USE[:2], *args)]


def interactive(scene: Scene, path: Any, data: Any) -> List[Any]:
    return ["fairseq-interactive", data, "--cpu", *USE, "--path", path]


def validate(scene: Scene, path: Any, data: Any) -> List[Any]:
    options = ("--cpu", "--max-tokens", 600, "--num-workers", 0, "--criterion", "pd_send2")
    return ["fairseq-validate", data, *USE, *options, "--path", path]


OTHER = "was trained with another target dictionary"
NOT_FINITE = ["pd_send2.pt", "decoder.output_projection.weight", "not finite", "train it again"]

DATA: "List[Bad[Scene]]" = [
    Bad("generate, student",
        lambda s: generate(s, s.workspace.pd_send2, data=s.reordered()),
        ["pd_send2", OTHER, "reordered", "--tgtdict"]),
    Bad("generate, source side",
        lambda s: generate(s, s.workspace.send, data=s.reordered("xx")),
        ["send", "another source dictionary", "reordered", "--srcdict"]),
    Bad("generate, ordinary model",
        lambda s: generate(s, s.workspace.transformer, data=s.reordered()),
        ["transformer", OTHER, "symbol number 7", "--tgtdict"]),
    Bad("generate, relative data path",
        lambda s: generate(s, s.relative(), data=s.reordered()),
        ["lstm.pt", OTHER, "bin/dict.yy.txt", "symbol number 7"]),
    Bad("generate, second of an ensemble",
        lambda s: generate(
            s, f"{s.edited(s.workspace.send, forget)}:{s.workspace.pd_send2}", data=s.reordered()
        ),
        ["pd_send2/checkpoint_best.pt", OTHER]),
    Bad("interactive",
        lambda s: interactive(s, s.workspace.pd_send2, s.reordered()),
        ["pd_send2", OTHER, "--tgtdict"], stdin="baba\n"),
    Bad("validate",
        lambda s: validate(s, s.workspace.pd_send2, s.reordered()),
        ["pd_send2", OTHER, "--tgtdict"]),
    Bad("finetune",
        lambda s: train(s, "--finetune-from-model", s.workspace.send, data=s.reordered()),
        ["send", OTHER, "--tgtdict"]),
    Bad("continue once",
        lambda s: train(s, "--continue-once", s.workspace.send, data=s.reordered()),
        ["send", OTHER, "--tgtdict"]),
    Bad("two train sets",
        lambda s: distil(s, "--teacher-paths", s.workspace.teachers, data=s.two_train_sets()),
        ["'train'", "'train1'", "--upsample-primary 1"]),
    Bad("resume", lambda s: resume(s), ["save/checkpoint_last.pt", OTHER, "--tgtdict"]),
    Bad("online teacher, relative data path",
        lambda s: distil(s, "--teacher-paths", s.relative(), data=s.reordered()),
        ["lstm.pt", OTHER, "symbol number 7"]),
    Bad("teacher cache, relative data path",
        lambda s: [
            "fairseq-pdd", "teacher-cache", s.reordered(), "--path", s.relative(),
            "--destdir", s.root / "cache", "--cpu",
        ],
        ["lstm.pt", OTHER, "symbol number 7"]),
]  # fmt: skip

MEMBERS: "List[Bad[Scene]]" = [
    Bad("explicit languages, reverse member",
        lambda s: generate(s, s.reverse(), "-s", "xx", "-t", "yy"),
        ["lstm.pt translates yy to xx", "--source-lang yy --target-lang xx"]),
    Bad("one language, reverse member",
        lambda s: generate(s, s.workspace.pd_send2, "-s", "yy"),
        ["translates xx to yy", "is used yy to xx", "--source-lang xx --target-lang yy"]),
    Bad("a language that the data does not have",
        lambda s: generate(s, s.workspace.pd_send2, "-t", "zz"),
        ["no language pair with zz", "--source-lang and --target-lang"]),
    Bad("members in opposite directions",
        lambda s: generate(s, f"{s.workspace.transformer}:{s.reverse()}"),
        ["lstm.pt yy to xx", "one direction", "remove one"]),
    Bad("teachers in opposite directions",
        lambda s: distil(s, "--teacher-paths", f"{s.workspace.transformer}:{s.reverse()}"),
        ["lstm.pt yy to xx", "one direction", "remove one"]),
    Bad("teacher of the reverse direction",
        lambda s: distil(s, "--teacher-paths", s.reverse(), "-s", "xx", "-t", "yy"),
        ["lstm.pt translates yy to xx", "--source-lang yy --target-lang xx"]),
    Bad("generate, weight NaN", lambda s: generate(s, s.damaged()), NOT_FINITE),
    Bad("generate, weight inf", lambda s: generate(s, s.damaged(math.inf)), NOT_FINITE),
    Bad("interactive, weight NaN",
        lambda s: interactive(s, s.damaged(), s.workspace.data), NOT_FINITE, stdin="baba\n"),
    Bad("validate, weight NaN", lambda s: validate(s, s.damaged(), s.workspace.data), NOT_FINITE),
    Bad("finetune, weight NaN",
        lambda s: train(s, "--finetune-from-model", s.damaged()), NOT_FINITE),
    Bad("restore, weight NaN", lambda s: train(s, "--restore-file", s.damaged()), NOT_FINITE),
]  # fmt: skip

OPTIONS: "List[Bad[Scene]]" = [
    Bad("no teacher", distil, ["--teacher-paths a.pt:b.pt"]),
    Bad("empty teacher paths", lambda s: distil(s, "--teacher-paths", ""),
        ["--teacher-paths is empty"]),
    Bad("empty teacher cache", lambda s: distil(s, "--teacher-cache", ""),
        ["--teacher-cache is empty"]),
    Bad("a colon too many", lambda s: distil(s, "--teacher-paths", f"{s.workspace.lstm}:"),
        ["not found: ''", "--teacher-paths"]),
    Bad("teacher is a folder",
        lambda s: distil(s, "--teacher-paths", s.workspace.lstm.parent),
        ["lstm is a folder", "checkpoint_best.pt", "--teacher-paths"]),
    Bad("teacher pattern",
        lambda s: distil(s, "--teacher-paths", s.workspace.root / "*" / "checkpoint_best.pt"),
        ["*/checkpoint_best.pt", "without patterns"]),
    Bad("model is a folder",
        lambda s: generate(s, s.workspace.send.parent),
        ["send is a folder", "checkpoint_best.pt", "--path"]),
    Bad("model is missing", lambda s: generate(s, s.root / "no.pt"), ["no.pt", "--path"]),
    Bad("model to finetune is missing",
        lambda s: train(s, "--finetune-from-model", s.root / "no.pt"),
        ["no.pt", "--finetune-from-model"]),
    Bad("model to continue is missing",
        lambda s: train(s, "--continue-once", s.root / "no.pt"),
        ["no.pt", "--continue-once"]),
    Bad("teachers without distillation",
        lambda s: train(s, "--teacher-paths", s.workspace.teachers),
        ["criterion cross_entropy does not distil", "--teacher-paths has no effect"]),
    Bad("a cache without distillation",
        lambda s: train(s, "--teacher-cache", s.root / "no", "--criterion", "cross_entropy"),
        ["criterion cross_entropy does not distil", "--teacher-cache has no effect"]),
    Bad("a student that is not autoregressive",
        lambda s: [*with_teachers(s), "--arch", "nonautoregressive_transformer"],
        ["NATransformerModel is not autoregressive", "--arch"]),
    Bad("teacher in the save folder", lambda s: in_save_folder(s),
        ["would overwrite its teacher", "save/checkpoint_best.pt", "--save-dir"]),
    Bad("both teachers", lambda s: with_teachers(s, "--teacher-cache", s.root),
        ["--teacher-paths or --teacher-cache"]),
    Bad("teacher cache is a file",
        lambda s: distil(s, "--teacher-cache", s.workspace.lstm), ["checkpoint_best.pt"]),
    Bad("offset NaN", lambda s: with_teachers(s, "--offset", "nan"), ["--offset", "nan"]),
    Bad("metric that send does not have",
        lambda s: with_teachers(
            s, "--criterion", "send", "--best-checkpoint-metric", "spearman_rmi"
        ),
        ["spearman_rmi", "criterion send", "spearman_total"]),
    Bad("misspelt metric", lambda s: with_teachers(s, "--best-checkpoint-metric", "nll-loss"),
        ["nll-loss", "nll_loss"]),
    Bad("BLEU without --eval-bleu", lambda s: with_teachers(s, "--best-checkpoint-metric", "bleu"),
        ["bleu", "give --eval-bleu"]),
    Bad("metric to be maximised",
        lambda s: with_teachers(s, "--best-checkpoint-metric", "spearman_rmi"),
        ["spearman_rmi", "add --maximize-best-checkpoint-metric"]),
    Bad("metric to be minimised",
        lambda s: with_teachers(s, "--maximize-best-checkpoint-metric"),
        ["loss", "remove --maximize-best-checkpoint-metric"]),
]  # fmt: skip


def forget(state: Dict[str, Any]) -> None:
    """Make a student like those of older versions, whose data is not found."""
    state["task_state"] = {"prior_network": None}
    state["cfg"]["task"]["data"] = "/no/such/folder"


def resume(scene: Scene) -> List[Any]:
    (scene.root / "save").mkdir()
    shutil.copy(scene.workspace.send, scene.root / "save" / "checkpoint_last.pt")
    return train(scene, data=scene.reordered())


def in_save_folder(scene: Scene) -> List[Any]:
    path = scene.root / "save" / "checkpoint_best.pt"
    path.parent.mkdir()
    shutil.copy(scene.workspace.lstm, path)
    return distil(scene, "--teacher-paths", path)


@parametrize(DATA + MEMBERS + OPTIONS)
def test_command(case: "Bad[Scene]", scene: Scene, tmp_path: Path) -> None:
    check(case, scene, tmp_path, scene.root)


def fit(path: Path, data: Path) -> None:
    """Do what functions of the package do with a checkpoint that is to be used with data."""
    check_fit(str(path), inprocess.task_for(data))


def load_as_fairseq(path: Path, data: Path) -> None:
    """Load like fairseq's own Python interface, which knows no data but its task's."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    cfg = inprocess.training_config(data, "unused", *USE[2:])
    tasks.setup_task(cfg.task).load_state_dict(state["task_state"])


CALLS: "List[BadCall[Scene]]" = [
    BadCall("no checkpoint", lambda s: fairseq_pdd.load(s.root / "no.pt"), ["no.pt", "not found"]),
    BadCall("load, other dictionary",
            lambda s: fairseq_pdd.load(s.workspace.pd_send2, s.reordered()), ["pd_send2", OTHER]),
    BadCall("load, other dictionary, relative data path",
            lambda s: fairseq_pdd.load(s.relative(), s.reordered()), ["lstm.pt", OTHER]),
    BadCall("load, weight NaN", lambda s: fairseq_pdd.load(s.damaged()), NOT_FINITE),
    BadCall("load, opposite directions",
            lambda s: fairseq_pdd.load([s.workspace.transformer, s.reverse()]), ["lstm.pt"]),
    BadCall("fit, other dictionary",
            lambda s: fit(s.workspace.pd_send2, s.reordered()), ["pd_send2", OTHER]),
    BadCall("fit, weight NaN", lambda s: fit(s.damaged(), s.workspace.data), NOT_FINITE),
    BadCall("task state of another dictionary",
            lambda s: load_as_fairseq(s.workspace.pd_send2, s.reordered()), ["checkpoint", OTHER]),
]  # fmt: skip


@parametrize(CALLS)
def test_call(case: "BadCall[Scene]", scene: Scene) -> None:
    check_call(case, scene)


def test_a_training_may_start_from_a_model_of_the_opposite_direction(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    data = Path(shutil.copytree(scene.workspace.data, scene.root / "joined"))
    shutil.copy(data / "dict.yy.txt", data / "dict.xx.txt")
    languages = {"source_lang": "yy", "target_lang": "xx", "data": str(data)}
    reverse = scene.edited(scene.workspace.lstm, lambda s: s["cfg"]["task"].update(languages))
    args = (*USE[2:], "--arch", "lstm", "-s", "xx", "-t", "yy")
    inprocess.build(data, *args, "--finetune-from-model", reverse)
    assert "lstm.pt translates yy to xx" in caplog.text
    with pytest.raises(UsageError, match=r"lstm\.pt translates yy to xx"):
        inprocess.build(data, *args, "--restore-file", reverse)


def test_a_missing_file_to_restore_causes_a_warning(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    inprocess.build(scene.workspace.data, *USE[2:], "--restore-file", scene.root / "no.pt")
    assert "no.pt does not exist: training starts from the beginning" in caplog.text


def test_a_validation_on_the_test_set_writes_no_records(scene: Scene) -> None:
    records = scene.root / "records.jsonl"
    task, _, _ = inprocess.build(scene.workspace.data, *USE[2:], "--uncertainty-path", records)
    task.load_dataset("test")
    # more processes than batches, which fairseq-generate would be refused
    iterator = task.get_batch_iterator(task.dataset("test"), max_tokens=600, num_shards=99)
    assert len(iterator.frozen_batches) < 99
    assert not list(scene.root.iterdir())
