"""Wrong input to fairseq-generate, fairseq-interactive and the Python API."""

import fcntl
import os
import shutil
from pathlib import Path
from typing import Any, Callable, Iterator, List, NamedTuple

import pytest
import torch
from fairseq import tasks
from omegaconf import OmegaConf

import fairseq_pdd

from ..plugin import inprocess
from ..plugin.commands import USER_DIR, generate_args
from .cases import Bad, BadCall, check, check_call, parametrize


class Scene(NamedTuple):
    """Models and data, a folder to spoil, and a student for calls."""

    workspace: Any
    root: Path
    student: Any


@pytest.fixture(scope="module")
def student(workspace: Any) -> Any:
    return fairseq_pdd.load(workspace.pd_send2)


@pytest.fixture
def scene(workspace: Any, student: Any, tmp_path: Path) -> Iterator[Scene]:
    root = tmp_path / "scene"
    root.mkdir()
    (root / "older.jsonl").write_text("older\n")
    yield Scene(workspace, root, student)
    for file in _locked:
        file.close()
    _locked.clear()


_locked: List[Any] = []


def generate(*args: Any) -> Callable[[Scene], List[Any]]:
    """Make the function that returns a command; ``{root}`` is the scene's folder."""

    def command(scene: Scene) -> List[Any]:
        own = [str(arg).format(root=scene.root) for arg in args]
        return [
            "fairseq-generate",
            *generate_args(scene.workspace.data, scene.workspace.pd_send2),
            "--user-dir", USER_DIR, *own,
        ]  # fmt: skip

    return command


def interactive(*args: Any) -> Callable[[Scene], List[Any]]:
    def command(scene: Scene) -> List[Any]:
        own = [str(arg).format(root=scene.root) for arg in args]
        return [
            "fairseq-interactive", scene.workspace.data, "--cpu", "--task", "distill_translation",
            "--path", scene.workspace.pd_send2, "--beam", 3, "--user-dir", USER_DIR, *own,
        ]  # fmt: skip

    return command


def while_locked(name: str, command: Callable[[Scene], List[Any]]) -> Callable[[Scene], List[Any]]:
    """Start the command while another process, this one, writes a file."""

    def start(scene: Scene) -> List[Any]:
        file = open(scene.root / name, "ab")  # noqa: SIM115
        _locked.append(file)
        fcntl.flock(file, fcntl.LOCK_EX)
        return command(scene)

    return start


TO_OLDER = ("--uncertainty-path", "{root}/older.jsonl")

CASES: "List[Bad[Scene]]" = [
    Bad("an empty path", generate("--uncertainty-path", ""), ["--uncertainty-path is empty"]),
    Bad(
        "records of nothing",
        generate("--uncertainty-path", "u", "--no-uncertainty"),
        ["--uncertainty-path u", "--no-uncertainty"],
    ),
    Bad("a folder", generate("--uncertainty-path", "{root}"), ["is a folder", "give a file"]),
    Bad(
        "a file as the folder",
        generate("--uncertainty-path", "{root}/older.jsonl/u.jsonl"),
        ["cannot write", "older.jsonl/u.jsonl"],
    ),
    Bad(
        "a full disk",
        generate("--uncertainty-path", "/dev/full", "--batch-size", 1),
        ["cannot write /dev/full", "No space left"],
        works=True,
    ),
    Bad(
        "the file of the command's own output",
        generate("--uncertainty-path", "/dev/stdout"),
        ["/dev/stdout", "the command's own output"],
    ),
    Bad(
        "the same command twice",
        while_locked("older.jsonl.partial", generate(*TO_OLDER)),
        ["older.jsonl", "another process is writing it"],
    ),
    Bad(
        "dropout in the search",
        generate("--retain-dropout", "--results-path", "{root}/new"),
        ["--retain-dropout", "remove it"],
    ),
    *(
        Bad(
            f"more shards than batches, {option}",
            generate("--num-shards", 50, "--shard-id", 49, option, *value),
            ["batches for 50 processes", "--num-shards", "--max-tokens"],
        )
        for option, *value in (("--uncertainty-path", "{root}/new"), ("--no-uncertainty",))
    ),
    Bad("bpe without codes", generate("--bpe", "subword_nmt"), ["--bpe subword_nmt", "bpe_codes"]),
    Bad(
        "a bpe file that does not exist",
        interactive("--bpe", "sentencepiece", "--sentencepiece-model", "/no/spm.model"),
        ["--bpe sentencepiece", "/no/spm.model"],
        stdin="a\n",
    ),
    Bad(
        "the Dirichlet of an ordinary model in fairseq-generate",
        lambda s: [
            *generate("--measures-dirichlet", "shifted")(s),
            "--path",
            s.workspace.lstm,
        ],
        ["--measures-dirichlet shifted has no effect", "no Prior Network"],
    ),
    Bad("no beam", generate("--beam", 0), ["--beam is 0"]),
    Bad("a negative beam of interactive", interactive("--beam", -1), ["--beam is -1"], stdin="a\n"),
    Bad("no outputs", generate("--nbest", 0), ["--nbest is 0"]),
    Bad(
        "groups that do not divide --beam",
        generate("--beam", 4, "--diverse-beam-groups", 3),
        ["fairseq's search refuses", "divisible"],
    ),
    Bad("a temperature that is 0", generate("--temperature", 0), ["--temperature must be greater"]),
    Bad(
        "a least length above the greatest",
        generate("--min-len", 500, *TO_OLDER),
        ["fairseq's search refuses", "min_len"],
    ),
    Bad(
        "constraints of binarised data",
        generate("--constraints"),
        ["--constraints", "-interactive"],
    ),
    Bad(
        "shards by two pairs of options",
        generate("--num-shards", 2, "--distributed-world-size", 2),
        ["--num-shards and --distributed-world-size"],
    ),
    Bad(
        "a shard's number without the number of all",
        generate("--shard-id", 1),
        ["--shard-id 1 needs --num-shards"],
    ),
    Bad("a shard beyond the last", generate("--num-shards", 2, "--shard-id", 2), ["from 0 to 1"]),
    Bad(
        "shards that overwrite fairseq's file",
        generate("--num-shards", 2, "--results-path", "{root}/results"),
        ["--results-path", "results: each shard would overwrite", "--uncertainty-path"],
    ),
    Bad(
        "shards of lines",
        interactive("--num-shards", 2),
        ["--num-shards and --shard-id have no effect"],
        stdin="a\n",
    ),
    Bad(
        "more processes than batches",
        generate("--distributed-world-size", 99, "--distributed-rank", 98),
        ["99 processes", "--distributed-world-size"],
    ),
    Bad(
        "a sentence above the models' limit",
        generate("--max-source-positions", 3, *TO_OLDER),
        [
            "sentence ",
            "too long: its length (4, 4)",
            "limit (3, 1024)",
            "--skip-invalid-size-inputs-valid-test",
        ],
    ),
    Bad(
        "a sentence above --max-tokens",
        generate("--max-tokens", 2, *TO_OLDER),
        ["sentence ", "tokens, more than --max-tokens 2"],
    ),
    Bad(
        "an empty path of interactive",
        interactive("--uncertainty-path", ""),
        ["--uncertainty-path is empty"],
        stdin="lafi\n",
    ),
    Bad(
        "a folder for interactive",
        interactive("--uncertainty-path", "{root}"),
        ["is a folder"],
    ),
    Bad(
        "a full disk for interactive",
        interactive("--uncertainty-path", "/dev/full"),
        ["cannot write /dev/full", "No space left"],
        stdin="lafi\n",
        works=True,
    ),
    Bad(
        "interactive twice",
        while_locked("older.jsonl", interactive(*TO_OLDER)),
        ["older.jsonl", "another process is writing it"],
        stdin="lafi\n",
    ),
    Bad(
        "dropout in interactive",
        interactive("--retain-dropout"),
        ["--retain-dropout", "remove it"],
        stdin="lafi\n",
    ),
    Bad(
        "replaced unknown words",
        interactive("--replace-unk"),
        ["--replace-unk", "remove it"],
        stdin="lafi\n",
    ),
    Bad(
        "a long first line",
        interactive("--max-source-positions", 3, *TO_OLDER),
        ["sentence 0 is too long"],
        stdin="baba defi kugo lafi\nlafi\n",
    ),
    Bad(
        "a long third line",
        interactive("--max-source-positions", 3),
        ["sentence 2 is too long"],
        stdin="lafi\n\nbaba defi kugo lafi\n",
        works=True,
    ),
    Bad(
        "a line above --max-tokens",
        interactive("--max-tokens", 3, "--buffer-size", 1),
        ["sentence 1 has 5 tokens, more than --max-tokens 3"],
        stdin="lafi\nbaba defi kugo lafi\n",
        works=True,
    ),
]


@parametrize(CASES)
def test_command(case: "Bad[Scene]", scene: Scene, tmp_path: Path) -> None:
    check(case, scene, tmp_path, scene.root)


def translate(*args: Any, **options: Any) -> Callable[[Scene], Any]:
    return lambda scene: scene.student.translate(*args, **options)


def score(*args: Any) -> Callable[[Scene], Any]:
    return lambda scene: scene.student.score(*args)


def load(**options: Any) -> Callable[[Scene], Any]:
    return lambda scene: fairseq_pdd.load(scene.workspace.pd_send2, **options)


def spoiled(spoil: Callable[[Any], None]) -> Callable[[Scene], Any]:
    """Load an ensemble whose second checkpoint was changed."""

    def call(scene: Scene) -> Any:
        state = torch.load(scene.workspace.lstm, weights_only=False)
        spoil(state)
        path = scene.root / "second.pt"
        torch.save(state, path)
        return fairseq_pdd.load([scene.workspace.transformer, path])

    return call


def with_nan(state: Any) -> None:
    state["model"]["decoder.fc_out.bias"][3] = torch.nan


class Strange:
    """A type that no checkpoint holds."""


def with_strange_type(state: Any) -> None:
    state["extra_state"]["strange"] = Strange()


def cut(scene: Scene) -> Any:
    path = scene.root / "second.pt"
    path.write_bytes(scene.workspace.lstm.read_bytes()[:5000])
    return fairseq_pdd.load([scene.workspace.transformer, path])


def other_order(scene: Scene) -> Any:
    """Load with target symbols in another order."""
    data = scene.root / "data"
    shutil.copytree(scene.workspace.data, data)
    lines = (data / "dict.yy.txt").read_text("utf-8").splitlines(keepends=True)
    (data / "dict.yy.txt").write_text("".join(lines[::-1]), encoding="utf-8")
    return fairseq_pdd.load(scene.workspace.transformer, data)


def overflowing(scene: Scene) -> Any:
    """Translate with weights that became NaN in this process."""
    model = fairseq_pdd.load(scene.workspace.pd_send2)
    torch.nn.init.constant_(next(model.models[0].decoder.parameters()), torch.nan)
    return model.translate(["lafi"])


def untrained(scene: Scene, *args: Any) -> Path:
    """Save an untrained model of a task."""
    cfg = inprocess.training_config(scene.root, scene.root, *args)
    model = tasks.setup_task(cfg.task).build_model(cfg.model)
    path = scene.root / "untrained.pt"
    state = {
        "args": None,
        "cfg": OmegaConf.to_container(cfg, resolve=True, enum_to_str=True),
        "model": model.state_dict(),
        "optimizer_history": [
            {
                "criterion_name": "X",
                "optimizer_name": "X",
                "lr_scheduler_state": {},
                "num_updates": 0,
            }
        ],
        "extra_state": {},
        "task_state": {},
    }
    torch.save(state, path)
    return path


def speech(scene: Scene) -> Path:
    shutil.copy(scene.workspace.data / "dict.yy.txt", scene.root / "dict.txt")
    (scene.root / "config.yaml").write_text("vocab_filename: dict.txt\n")
    return untrained(scene, "--task", "speech_to_text", "--arch", "s2t_transformer_s")


LONG = " ".join(["baba"] * 2000)

CALLS: "List[BadCall[Scene]]" = [
    BadCall("one string", translate("lafi"), ["sources", "list of sentences"]),
    BadCall("bytes", translate(b"lafi"), ["sources", "bytes"]),
    BadCall("no list", translate(None), ["sources", "NoneType"]),
    BadCall("a mapping", translate({"a": "lafi"}), ["sources", "list of sentences", "dict"]),
    BadCall("sets, which have no order", score({"lafi"}, {"ifal"}), ["sources", "set"]),
    BadCall("a sentence that is None", translate(["lafi", None]), ["sources[1]", "NoneType"]),
    BadCall("a sentence of bytes", translate([b"lafi"]), ["sources[0]", "bytes"]),
    BadCall("a number", translate(["a", "b", 3]), ["sources[2]", "int"]),
    BadCall(
        "a long sentence",
        translate(["lafi", LONG]),
        ["sources[1]", "'baba baba", "2,001 tokens", "600"],
    ),
    BadCall("a misspelt option", translate(["lafi"], beem=2), ["no option beem"]),
    BadCall("nbest", translate(["lafi"], nbest=2), ["nbest", "n_best()"]),
    BadCall("dropout", translate(["lafi"], retain_dropout=True), ["retain_dropout"]),
    BadCall("a language model", translate(["lafi"], lm_path="lm.pt"), ["lm_path"]),
    BadCall("a prefix", translate(["lafi"], prefix_size=1), ["prefix_size"]),
    BadCall("references", translate(["lafi"], score_reference=True), ["score()"]),
    BadCall("replaced words", translate(["lafi"], replace_unk="x"), ["replace_unk"]),
    BadCall("alignments", translate(["lafi"], print_alignment="hard"), ["print_alignment"]),
    BadCall("no beam", translate(["lafi"], beam=0), ["beam is 0"]),
    BadCall("a beam of text", translate(["lafi"], beam="3"), ["beam is '3'"]),
    BadCall("a penalty of text", translate(["lafi"], lenpen="1"), ["lenpen is '1'"]),
    BadCall("a temperature of 0", translate(["lafi"], temperature=0), ["temperature"]),
    BadCall(
        "an infinite penalty", translate(["lafi"], lenpen=float("inf")), ["lenpen is inf", "finite"]
    ),
    BadCall(
        "top k above the vocabulary",
        translate(["lafi"], sampling=True, sampling_topk=1000),
        ["sampling_topk is 1000", "56 types"],
    ),
    BadCall(
        "text to generate()",
        lambda scene: scene.student.generate(["lafi"]),
        ["encode()", "translate()"],
    ),
    BadCall("outputs that are no numbers", overflowing, ["not numbers", "float32"]),
    BadCall("top k without sampling", translate(["lafi"], sampling_topk=3), ["sampling"]),
    BadCall(
        "groups that do not divide the beam",
        translate(["lafi"], beam=4, diverse_beam_groups=3),
        ["divisible"],
    ),
    BadCall(
        "an option that fairseq's own function ignores",
        lambda scene: scene.student.sample(["lafi"], lm_path="lm.pt"),
        ["lm_path"],
    ),
    BadCall("targets of another number", score(["lafi"], []), ["1 sources, but 0 targets"]),
    BadCall("a long target", score(["lafi"], [LONG]), ["targets[0]", "2,001", "1,024"]),
    BadCall("a target that is None", score(["lafi"], [None]), ["targets[0]", "NoneType"]),
    BadCall("beam to load", load(beam=2), ["beam", "translate()"]),
    BadCall("half precision to load", load(fp16=True), ["fp16", ".half()"]),
    BadCall("dropout to load", load(retain_dropout=True), ["retain_dropout"]),
    BadCall("a path to load", load(uncertainty_path="u.jsonl"), ["uncertainty_path"]),
    BadCall("max_tokens of text", load(max_tokens="x"), ["max_tokens is 'x'"]),
    BadCall("an unknown Dirichlet", load(measures_dirichlet="shiftd"), ["shiftd"]),
    BadCall(
        "the Dirichlet of an ordinary model",
        lambda s: fairseq_pdd.load(s.workspace.lstm, measures_dirichlet="shifted"),
        ["measures_dirichlet", "no Prior Network"],
    ),
    BadCall("a misspelt bpe", load(bpe="sentencpiece"), ["sentencpiece", "sentencepiece"]),
    BadCall("bpe without its model", load(bpe="sentencepiece"), ["sentencepiece_model"]),
    BadCall(
        "a bpe file that does not exist",
        load(bpe="sentencepiece", sentencepiece_model="/no/spm.model"),
        ["sentencepiece", "/no/spm.model"],
    ),
    BadCall("a configuration as bpe", load(bpe={"_name": "characters"}), ["bpe", "'_name'"]),
    BadCall("codes without bpe", load(bpe_codes="codes"), ["no option bpe_codes"]),
    BadCall("a misspelt tokenizer", load(tokenizer="mosses"), ["mosses", "moses"]),
    BadCall("no checkpoints", lambda s: fairseq_pdd.load(None), ["NoneType"]),
    BadCall("a checkpoint of None", lambda s: fairseq_pdd.load([None]), ["NoneType"]),
    BadCall("a folder of checkpoints", lambda s: fairseq_pdd.load(s.root), ["is a folder"]),
    BadCall("a weight that is no number", spoiled(with_nan), ["second.pt", "decoder.fc_out.bias"]),
    BadCall("a strange type", spoiled(with_strange_type), ["second.pt", "Strange"]),
    BadCall("half a file", cut, ["second.pt", "damaged"]),
    BadCall("symbols in another order", other_order, ["target dictionary"]),
    BadCall(
        "text to a speech model",
        lambda s: fairseq_pdd.load(speech(s)).translate(["lafi"]),
        ["speech", "fairseq-generate"],
    ),
    BadCall(
        "text and speech together",
        lambda s: fairseq_pdd.load([s.workspace.lstm, speech(s)]),
        ["untrained.pt", "distill_speech_to_text", "distill_translation"],
    ),
]


@parametrize(CALLS)
def test_call(case: "BadCall[Scene]", scene: Scene) -> None:
    check_call(case, scene)
    assert os.listdir(scene.root)
