"""Wrong audio, features, manifests and configurations of the speech tasks."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple

import numpy as np
import pytest
import soundfile

from fairseq_pdd.speech.examples import import_speech_recognition

from ..plugin import inprocess
from ..plugin.commands import USER_DIR, generate_args, train_args
from ..speech import spoken
from ..speech.recipes import DISTIL_S2T, DISTIL_VGG, PD_SEND2
from .cases import Bad, check, parametrize

# these tests name vggtransformer in arguments of functions, not of the process
import_speech_recognition()


class Scene(NamedTuple):
    """Data to spoil, and models of one update each."""

    root: Path
    tables: Path
    lists: Path
    member: Path
    vgg_member: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    root = tmp_path_factory.mktemp("speech")
    spoken.write_tables(root / "tables")
    spoken.write_lists(root / "lists")
    members = []
    for data, recipe in (("tables", DISTIL_S2T), ("lists", DISTIL_VGG)):
        member = root / f"member-{data}"
        args = (*recipe, "--criterion", "label_smoothed_cross_entropy")
        inprocess.train(root / data, member, *args, updates=1)
        members.append(member / "checkpoint_last.pt")
    return Scene(root, root / "tables", root / "lists", *members)


@pytest.fixture
def scene(made: Scene, tmp_path: Path) -> Scene:
    root = tmp_path / "scene"
    shutil.copytree(made.tables, root / "tables", ignore=shutil.ignore_patterns("*.zip"))
    shutil.copytree(made.lists, root / "lists", ignore=shutil.ignore_patterns("audio"))
    return made._replace(root=root, tables=root / "tables", lists=root / "lists")


def distil(scene: Scene, *args: Any) -> List[Any]:
    """Return a command that distils from tables."""
    recipe = ("--user-dir", USER_DIR, *DISTIL_S2T, *PD_SEND2, scene.member)
    return ["fairseq-train", *train_args(scene.tables, scene.root / "s", *recipe, *args, updates=9)]


def distil_lists(scene: Scene, *args: Any) -> List[Any]:
    """Return a command that distils from lists."""
    recipe = ("--user-dir", USER_DIR, *DISTIL_VGG, *PD_SEND2, scene.vgg_member)
    return ["fairseq-train", *train_args(scene.lists, scene.root / "s", *recipe, *args, updates=9)]


def generate(scene: Scene, *args: Any) -> List[Any]:
    """Return a command that transcribes the test set of the tables."""
    task = ("--user-dir", USER_DIR, "--task", "distill_speech_to_text")
    return ["fairseq-generate", *generate_args(scene.tables, scene.member, *task, *args)]


def generate_lists(scene: Scene, *args: Any) -> List[Any]:
    """Return a command that transcribes the test set of the lists."""
    task = ("--user-dir", USER_DIR, "--task", "distill_speech_recognition")
    return ["fairseq-generate", *generate_args(scene.lists, scene.vgg_member, *task, *args)]


def transfer(data: str, member: str) -> Callable[..., List[Any]]:
    """Return a function that gives a command that builds a transfer set."""

    def command(scene: Scene, *args: Any) -> List[Any]:
        return [
            "fairseq-pdd", "transfer-set", getattr(scene, data), "--path", getattr(scene, member),
            "--destdir", scene.root / "set", *args,
        ]  # fmt: skip

    return command


transfer_tables, transfer_lists = transfer("tables", "member"), transfer("lists", "vgg_member")


def lines(file: str, change: Callable[[List[str]], List[str]]) -> Callable[[Scene], None]:
    """Change the lines of a file."""

    def spoil(scene: Scene) -> None:
        path = scene.root / file
        changed = change(path.read_text("utf-8").splitlines())
        path.write_text("".join(f"{line}\n" for line in changed), "utf-8")

    return spoil


def features(array: Any, split: str, **values: Any) -> Callable[[Scene], None]:
    """Store other features for the third utterance of a table."""

    def spoil(scene: Scene) -> None:
        file = scene.root / "third.npy"
        np.save(file, array)
        rows = spoken.read_table(scene.tables / f"{split}.tsv")
        rows[2] = {**rows[2], "audio": str(file), "n_frames": str(len(array)), **values}
        spoken.write_table(scene.tables / f"{split}.tsv", rows)

    return spoil


def audio(samples: Any, split: str, subtype: str = "PCM_16") -> Callable[[Scene], None]:
    """Store other audio for the third utterance of a list."""

    def spoil(scene: Scene) -> None:
        file = scene.root / "third.wav"
        soundfile.write(file, samples, spoken.RATE, subtype=subtype)
        length = int(1000 * len(samples) / spoken.RATE)
        entry("input", split, path=str(file), length_ms=max(length, 30))(scene)

    return spoil


def cut_flac(scene: Scene) -> None:
    """Store audio whose end is missing for the third utterance of the training list."""
    file = scene.root / "third.flac"
    soundfile.write(file, np.random.default_rng(0).normal(scale=0.1, size=8000), spoken.RATE)
    file.write_bytes(file.read_bytes()[:9000])
    entry("input", "train", path=str(file), length_ms=500)(scene)


def entry(part: str, split: str, **values: Any) -> Callable[[Scene], None]:
    """Change the third utterance of a list."""

    def spoil(scene: Scene) -> None:
        path = scene.lists / f"{split}.json"
        content: Dict[str, Any] = json.loads(path.read_text("utf-8"))
        third = list(content["utts"].values())[2]
        third[part].update(values)
        path.write_text(json.dumps(content), "utf-8")

    return spoil


def config(**changes: Any) -> Callable[[Scene], None]:
    """Change the config yaml."""

    def spoil(scene: Scene) -> None:
        spoken.write_config(scene.tables, **changes)

    return spoil


def bad(
    name: str,
    command: Callable[..., List[Any]],
    spoil: Callable[[Scene], None],
    *expected: str,
    args: Any = (),
    **settings: Any,
) -> "Bad[Scene]":
    """Make a case of a command and of what is done to its data."""

    def spoiled(scene: Scene) -> List[Any]:
        spoil(scene)
        return command(scene, *args)

    return Bad(name, spoiled, expected, **settings)


def nothing(scene: Scene) -> None:
    """Leave the data as they are."""


NAN = np.full((90, spoken.BINS), np.nan, dtype=np.float32)
LONG = "y" * 200_000

CASES: "List[Bad[Scene]]" = [
    bad(
        "complex features", distil, features(NAN.astype(complex), "train"),
        "train.tsv: utterance 3-1-0002", "third.npy", "complex128", "float32",
    ),
    bad(
        "features of half precision", generate, features(np.zeros((9, 16), "f2"), "test"),
        "test.tsv: utterance 3-3-0002", "float16", "save them as float32",
    ),
    bad(
        "no frame", distil, features(np.zeros((0, 16), "f4"), "valid", n_frames=7),
        "valid.tsv: utterance 3-2-0002", "third.npy holds no frame", "remove",
    ),
    bad(
        "n_frames of another file", distil, features(np.zeros((9, 16), "f4"), "train", n_frames=7),
        "utterance 3-1-0002", "holds 9 frames, n_frames is 7",
    ),
    bad(
        "features that are NaN, read in a worker", distil, features(NAN, "train"),
        "utterance 3-1-0002", "third.npy", "NaN or infinite", "create it again or remove",
        args=("--num-workers", 1), works=True,
    ),
    bad(
        "features that are NaN, read in a thread", distil, features(NAN, "valid"),
        "utterance 3-2-0002", "third.npy", "NaN or infinite",
        args=("--num-workers", 0, "--data-buffer-size", 2), works=True,
    ),
    bad(
        "features that are NaN, in generation", generate, features(NAN, "test"),
        "utterance 3-3-0002", "third.npy", "NaN or infinite", works=True,
    ),
    bad(
        "features that are NaN, in a transfer set", transfer_tables, features(NAN, "train"),
        "utterance 3-1-0002", "third.npy", "NaN or infinite", works=True,
        args=("--", "--cpu"),
    ),
    bad(
        "a tab too many", distil, lines("tables/train.tsv", lambda x: [*x[:4], x[4] + "\tx"]),
        "train.tsv, line 5", "6 fields instead of the 5",
    ),
    bad(
        "a tab too few, in a transfer set", transfer_tables,
        lines("tables/train.tsv", lambda x: [*x[:4], x[4].replace("\t", " ", 1)]),
        "train.tsv, line 5", "4 fields instead of the 5", "add or remove tabs",
    ),
    bad(
        "a long field", generate,
        lines("tables/test.tsv", lambda x: [*x[:7], x[7].replace("\t", f"{LONG}\t", 1)]),
        "test.tsv, line 8", f"({csv.field_size_limit()})",
    ),
    bad(
        "a long field, in a transfer set", transfer_tables,
        lines("tables/train.tsv", lambda x: [*x[:7], x[7] + LONG]), "train.tsv, line 8", "131072",
    ),
    bad(
        "an empty transcript that a transfer set shall hold", transfer_tables,
        features(np.zeros((9, 16), "f4"), "train", tgt_text=" "),
        "train.tsv", "3-1-0002", "transcript is empty", "--targets ensemble",
        args=("--targets", "both"),
    ),
    bad(
        "a header alone", distil, lines("tables/valid.tsv", lambda x: x[:1]),
        "valid.tsv", "lists no utterance",
    ),
    bad("no such joined subset", generate, nothing, "test9.tsv", "does not exist",
        args=("--gen-subset", "test,test9")),
    bad(
        "a transform of another name", distil, config(**{spoken.TRANSFORMS: {"*": ["cmvn"]}}),
        "config.yaml", "'cmvn'",
    ),
    bad(
        "a number as text in the configuration", generate, config(input_feat_per_channel="16"),
        "config.yaml", "input_feat_per_channel", "int above 0",
    ),
    bad(
        "a tokenizer that does not exist", distil,
        config(bpe_tokenizer={"bpe": "sentencepiece", "sentencepiece_model": "no.model"}),
        "config.yaml", "bpe_tokenizer", "no.model",
    ),
    bad(
        "a file that fairseq-interactive is given", lambda scene: [
            "fairseq-interactive", scene.tables, "--cpu", "--user-dir", USER_DIR, "--task",
            "distill_speech_to_text", "--path", scene.member,
        ],
        nothing, "line 1", "nowhere.npy does not exist", stdin="nowhere.npy\n", works=True,
    ),
    bad("stereo", distil_lists, audio(np.zeros((8000, 2)), "train"),
        "train.json: utterance 3-1-0002", "third.wav", "2 channels", "convert"),
    bad("audio of less than a frame", distil_lists, audio(np.zeros(399), "valid"),
        "valid.json: utterance 3-2-0002", "third.wav", "shorter than one frame", "remove"),
    bad(
        "samples that are NaN", generate_lists, audio(np.full(8000, np.nan), "test", "FLOAT"),
        "utterance 3-3-0002", "third.wav", "NaN or infinite", works=True,
    ),
    bad("a cut recording", distil_lists, cut_flac,
        "utterance 3-1-0002", "third.flac cannot be decoded", "create it again", works=True),
    bad("features that a transform adds", distil,
        config(**{spoken.TRANSFORMS: {"*": ["delta_deltas"]}}), "config.yaml", "delta_deltas"),
    bad("a token of no type", distil_lists, entry("output", "train", tokenid="7, 99"),
        "train.json: utterance 3-1-0002", "tokenid 99", "22 types"),
    bad("a token list, in a transfer set", transfer_lists, entry("output", "train", tokenid=[7]),
        "train.json: utterance 3-1-0002", "'tokenid'", "asr_prep_json.py"),
    bad("a cut list", transfer_lists, lines("lists/train.json", lambda x: [x[0][:900]]),
        "train.json, line", "cut"),
    bad("a damaged dictionary", generate_lists, lines("lists/dict.txt", lambda x: [*x[:3], "x"]),
        "dict.txt is damaged", "prepare-librispeech.sh"),
]  # fmt: skip


@parametrize(CASES)
def test_command(case: "Bad[Scene]", scene: Scene, tmp_path: Path) -> None:
    check(case, scene, tmp_path, scene.root)
