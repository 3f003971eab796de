"""Wrong speech data ends in one line with the file and the fix, before training starts."""

import json
import sys

import numpy as np
import pytest
import soundfile
import torch

from fairseq_pdd.errors import UsageError
from fairseq_pdd.speech import inputs, manifests
from fairseq_pdd.speech.augmentation import manifest_datasets
from fairseq_pdd.speech.inputs import Expected, Utterance, check_inputs

from ..plugin import inprocess
from ..plugin.inprocess import build
from . import spoken
from .recipes import DISTIL_S2T, DISTIL_VGG, PD_SEND2


def rejected(call, *expected):
    """Return the message of a call that must fail, and check that it contains ``expected``."""
    with pytest.raises(UsageError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for part in expected:
        assert str(part) in message
    return message


def change_row(tables, split="train", row=3, **values):
    """Change a row of a manifest and return the original row."""
    path = tables / f"{split}.tsv"
    rows = spoken.read_table(path)
    old = rows[row]
    rows[row] = {**old, **values}
    spoken.write_table(path, rows)
    return old


def load(tables, split="train", *args):
    return inprocess.task_for(tables, *DISTIL_S2T, *args).load_dataset(split)


# features and audio


def test_training_does_not_start(workspace, tables, tmp_path):
    row = change_row(tables, audio="nowhere.npy")
    args = (*DISTIL_S2T, *PD_SEND2, workspace.teachers)
    rejected(
        lambda: inprocess.train(tables, tmp_path / "student", *args),
        tables / "train.tsv", row["id"], "nowhere.npy does not exist", "audio_root",
    )  # fmt: skip
    assert not list(tmp_path.glob("student/*.pt"))


@pytest.mark.parametrize(
    ("audio", "expected"),
    [
        ("gone.npy", ["gone.npy does not exist"]),
        ("gone.zip:0:100", ["gone.zip:0:100 does not exist"]),
        ("{zip}:99999999:100", ["cannot be read", "bytes"]),
        ("{zip}:7:100", ["cannot be read"]),
        ("{zip}:7", ["cannot be read"]),
        ("{folder}/noise.npy", ["noise.npy cannot be read"]),
        ("{folder}/cut.npy", ["cut.npy cannot be read", "it ends after"]),
        ("{folder}/wide.npy", ["shape [9, 17]", "frames of 16", "input_feat_per_channel"]),
        ("{folder}/flat.npy", ["shape [9]", "frames of 16"]),
        ("{folder}/none.npy", ["holds no frame"]),
        ("{folder}/objects.npy", ["Python objects"]),
        ("{folder}/speech.wma", ["fairseq reads .flac, .npy, .ogg, .wav"]),
        ("{folder}/broken.wav", ["broken.wav cannot be read"]),
        ("{folder}/complex.npy", ["complex64", "save them as float32"]),
        ("{folder}/half.npy", ["float16", "save them as float32"]),
        ("{folder}/integers.npy", ["int16", "save them as float32"]),
        ("{folder}/swapped.npy", [">f4", "save them as float32"]),
        ("{folder}/cube.npy", ["shape [9, 16, 1]", "frames of 16"]),
        ("{folder}/short.npy", ["short.npy holds 8 frames, n_frames is "]),
        ("{folder}/array.wav", ["array.wav cannot be read", "it is a .npy array"]),
        ("{folder}/tone.npy", ["tone.npy cannot be read", "it is audio"]),
        ("{folder}/array.zzz:0:700", ["parts of .zip files only"]),
        ("{zip}:-9:100", ["cannot be read"]),
    ],
)
def test_input_that_cannot_be_used(tables, tmp_path, audio, expected):
    for name, array in {
        "wide": np.zeros((9, 17)), "flat": np.zeros(9), "none": np.zeros((0, 16)),
        "objects": np.array([{}, {}], dtype=object),
        "complex": np.zeros((9, 16), dtype=np.complex64), "cube": np.zeros((9, 16, 1)),
        "half": np.zeros((9, 16), dtype=np.float16), "swapped": np.zeros((9, 16), dtype=">f4"),
        "integers": np.zeros((9, 16), dtype=np.int16), "short": np.zeros((8, 16)),
    }.items():  # fmt: skip
        np.save(tmp_path / f"{name}.npy", array)
    for name in ("array.wav", "array.zzz"):
        (tmp_path / name).write_bytes(spoken.npy(np.zeros((9, 16))))
    soundfile.write(tmp_path / "tone.wav", np.zeros(8000), spoken.RATE)
    (tmp_path / "tone.wav").rename(tmp_path / "tone.npy")
    (tmp_path / "cut.npy").write_bytes(spoken.npy(np.zeros((9, 16)))[:-5])
    for name in ("noise.npy", "broken.wav", "speech.wma"):
        (tmp_path / name).write_bytes(b"RIFF noise and nothing else")
    audio = audio.format(zip=spoken.read_table(tables / "test.tsv")[0]["audio"].split(":")[0],
                         folder=tmp_path)  # fmt: skip
    row = change_row(tables, audio=audio)
    rejected(lambda: load(tables), tables / "train.tsv", f"utterance {row['id']}: ", *expected)


@pytest.mark.parametrize(
    ("rate", "dimension", "sox", "expected"),
    [
        (16000, 80, True, None),
        (16000, None, True, None),
        (8000, 80, True, "sample rate of 8,000 Hz instead of 16,000"),
        (16000, 40, True, "computes 80 features per frame, but the model takes 40"),
        (16000, 80, False, "store features (.npy)"),
    ],
)
@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_audio(tmp_path, monkeypatch, rate, dimension, sox, expected, kind):
    utterance = spoken.SPLITS["test"][0]
    single = tmp_path / f"one.{kind}"
    soundfile.write(single, spoken.waveform(utterance, rate), rate)
    # the same between other things in an archive
    archive = tmp_path / "all.zip"
    archive.write_bytes(b"before" + single.read_bytes() + b"behind")
    monkeypatch.setattr(inputs, "_has_sox", lambda: sox)
    for path in (str(single), f"{archive}:6:{single.stat().st_size}"):
        arguments = (
            [Utterance("name", path, None)], "train.tsv",
            Expected(dimension, sample_rate=16000, through_sox=True),
        )  # fmt: skip
        if expected is None:
            check_inputs(*arguments)
        else:
            rejected(lambda: check_inputs(*arguments), "train.tsv", path, expected)  # noqa: B023


@pytest.mark.parametrize("difference", [-1, 1])
def test_rounded_number_of_frames(tables, tmp_path, difference):
    """Manifests of fairseq 0.10 were computed from rounded milliseconds."""
    np.save(tmp_path / "rounded.npy", np.ones((9, 16), dtype=np.float32))
    change_row(tables, audio=tmp_path / "rounded.npy", n_frames=9 + difference)
    load(tables)


def test_audio_without_soundfile(tmp_path, monkeypatch):
    path = tmp_path / "one.wav"
    soundfile.write(path, np.zeros(8000), spoken.RATE)
    monkeypatch.setitem(sys.modules, "soundfile", None)
    listed = [Utterance("name", str(path), None)]
    expected = Expected(80, sample_rate=16000, through_sox=False)
    rejected(
        lambda: check_inputs(listed, "train.json", expected),
        "soundfile is not installed", "pip install", "[speech]",
    )  # fmt: skip


def test_audio_that_torchaudio_cannot_read_is_reported_before_training(tables, tmp_path):
    path = tmp_path / "one.wav"
    soundfile.write(path, spoken.waveform(spoken.SPLITS["train"][0]), spoken.RATE)
    spoken.write_config(tables, input_feat_per_channel=80)
    row = spoken.read_table(tables / "train.tsv")[0]
    spoken.write_table(tables / "train.tsv", [{**row, "audio": path}])
    rejected(lambda: load(tables), path, "torchaudio.sox_effects", "store features")


# manifests


@pytest.mark.parametrize("split", ["train", "valid"])
def test_empty_transcript(workspace, tables, tmp_path, split):
    row = change_row(tables, split, tgt_text=" ")
    args = (*DISTIL_S2T, *PD_SEND2, workspace.teachers)
    rejected(
        lambda: inprocess.train(tables, tmp_path / "student", *args),
        tables / f"{split}.tsv", row["id"], "transcript is empty",
    )  # fmt: skip


def test_speech_without_transcript_can_be_recognised(tables):
    change_row(tables, "test", tgt_text="")
    load(tables, "test")


def test_missing_manifest(tables):
    rejected(lambda: load(tables, "valid2"), "valid2.tsv", tables)


@pytest.mark.parametrize("column", ["id", "audio", "n_frames", "tgt_text"])
def test_missing_column(tables, column):
    rows = spoken.read_table(tables / "train.tsv")
    spoken.write_table(
        tables / "train.tsv", [{k: v for k, v in row.items() if k != column} for row in rows]
    )
    rejected(lambda: load(tables), "train.tsv", column)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda lines: [], ["lists no utterance"]),
        (lambda lines: lines[:1], ["lists no utterance"]),
        (lambda lines: [lines[0], lines[1] + "\tmore"], ["line 2", "6 fields instead of the 5"]),
        (lambda lines: [*lines[:5], "a\tb\t3"], ["line 6", "3 fields instead of the 5"]),
        (lambda lines: [*lines[:5], lines[5] + "y" * 200_000], ["line 6", "field limit"]),
        (lambda lines: ["\ufeff" + lines[0], *lines[1:]], ["byte order mark"]),
        (lambda lines: [lines[0].replace("speaker", "id"), *lines[1:]], ["two columns 'id'"]),
        (lambda lines: [lines[0].replace("\t", ","), *lines[1:]], ["separated by tabs"]),
        *(
            (lambda lines, n=n: [lines[0], f"a\tb\t{n}\tc\td"], ["line 2", f"n_frames is '{n}'"])
            for n in ("many", "0", "-5", "7.5", "")
        ),
    ],
)
def test_table_that_fairseq_misreads(tables, change, expected):
    path = tables / "train.tsv"
    lines = change(path.read_text("utf-8").splitlines())
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    rejected(lambda: load(tables), path, *expected)


def test_table_of_another_encoding(tables):
    path = tables / "train.tsv"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], lines[3].replace(b"\t", b"\t\xe9", 1)]))
    rejected(lambda: load(tables), path, "line 4 is not UTF-8")


def test_table_with_other_line_ends_and_quotes(tables):
    path = tables / "train.tsv"
    change_row(tables, row=0, tgt_text='"bad" \'dog')
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    task = inprocess.task_for(tables, *DISTIL_S2T)
    task.load_dataset("train")
    rows = manifests.read_table(path).rows
    (manifest,) = manifest_datasets(task.dataset("train"))
    assert [row["tgt_text"] for row in rows] == manifest.tgt_texts
    assert manifest.tgt_texts[0] == '"bad" \'dog'
    assert manifest.tgt_texts[1] == spoken.SPLITS["train"][1].text


def test_missing_configuration(tables):
    rejected(lambda: load(tables, "train", "--config-yaml", "no.yaml"), tables / "no.yaml")


def test_configuration_that_is_no_mapping(tables):
    (tables / "config.yaml").write_text("- a\n- list\n")
    rejected(lambda: load(tables), tables / "config.yaml", "--config-yaml")


def test_missing_vocabulary(tables):
    (tables / "spm.txt").unlink()
    rejected(lambda: load(tables), tables / "spm.txt", "vocab_filename")


def test_missing_tokenizer(tables):
    (tables / "spm.model").unlink()
    rejected(lambda: load(tables), tables / "config.yaml", "bpe_tokenizer", "spm.model")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"vocab_filename": 3}, ["vocab_filename is '3' instead of str"]),
        ({"audio_root": None}, ["audio_root is 'None' instead of str"]),
        ({"input_feat_per_channel": "16"}, ["input_feat_per_channel", "int above 0"]),
        ({"input_feat_per_channel": 0}, ["input_feat_per_channel", "int above 0"]),
        ({"input_channels": True}, ["input_channels", "int above 0"]),
        ({"use_audio_input": "no"}, ["use_audio_input is 'no' instead of bool"]),
        ({"bpe_tokenizer": None}, ["bpe_tokenizer", "instead of dict"]),
        ({"bpe_tokenizer": {"bpe": "sentence"}}, ["bpe_tokenizer", "sentence"]),
        ({spoken.TRANSFORMS: ["utterance_cmvn"]}, [spoken.TRANSFORMS, "instead of dict"]),
        ({spoken.TRANSFORMS: {"_train": ["cmvn"]}}, ["'train'", "config.yaml", "cmvn"]),
        (
            {spoken.TRANSFORMS: {"*": ["global_cmvn"]}, "global_cmvn": {"stats_npz_path": "x"}},
            ["'train'", "config.yaml", "'x'"],
        ),
        ({"speaker_set_filename": "speakers.txt"}, ["speakers.txt does not exist"]),
    ],
)
def test_wrong_configuration(tables, changes, expected):
    spoken.write_config(tables, **changes)
    rejected(lambda: load(tables), tables / "config.yaml", *expected)


@pytest.mark.parametrize(
    ("mean", "std", "expected"),
    [
        (np.zeros(80), np.ones(80), "shape [80], frames have 16 features"),
        (np.zeros(16), np.zeros(16), "a standard deviation of 0"),
        (np.full(16, np.nan), np.ones(16), "NaN"),
    ],
)
def test_statistics_that_do_not_fit(tables, mean, std, expected):
    np.savez(tables / "stats.npz", mean=mean, std=std)
    spoken.write_config(
        tables, **{spoken.TRANSFORMS: {"*": ["global_cmvn"]}},
        global_cmvn={"stats_npz_path": str(tables / "stats.npz")},
    )  # fmt: skip
    rejected(lambda: load(tables), tables / "stats.npz", tables / "config.yaml", expected)


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"", "is empty"), (b"abc\n", "is damaged"), (b"\xff 1\n", "is damaged"),
     (b"a 1\na 1\n", "Duplicate word")],
)  # fmt: skip
def test_damaged_vocabulary(tables, lists, content, expected):
    for path, call in ((tables / "spm.txt", load), (lists / "dict.txt", load_list)):
        path.write_bytes(content)
        rejected(lambda: call(path.parent), path, expected)  # noqa: B023


def test_unknown_speaker(tables):
    (tables / "speakers.txt").write_text("1\n2\n3\n")
    spoken.write_config(tables, speaker_set_filename="speakers.txt")
    rejected(lambda: load(tables), tables / "train.tsv", "speaker '4'", "speaker_set_filename")


# values


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_no_numbers(tables, tmp_path, value):
    features = np.zeros((9, 16), dtype=np.float32)
    features[4, 2] = value
    np.save(tmp_path / "bad.npy", features)
    row = change_row(tables, audio=tmp_path / "bad.npy", n_frames=9)
    task = inprocess.task_for(tables, *DISTIL_S2T)
    task.load_dataset("train")
    dataset = task.dataset("train")
    dataset[2]
    rejected(lambda: dataset[3], row["id"], tmp_path / "bad.npy", "NaN or infinite")


def test_file_that_is_removed_during_training(tables, tmp_path):
    np.save(tmp_path / "gone.npy", np.zeros((9, 16), dtype=np.float32))
    change_row(tables, audio=tmp_path / "gone.npy", n_frames=9)
    task = inprocess.task_for(tables, *DISTIL_S2T)
    task.load_dataset("train")
    (tmp_path / "gone.npy").unlink()
    rejected(lambda: task.dataset("train")[3], "'train'", tmp_path / "gone.npy", "any more")


@pytest.mark.parametrize("array", [np.ones((9, 16)), np.asfortranarray(np.ones((9, 16), "f4"))])
def test_other_layouts_of_features(tables, tmp_path, array):
    spoken.write_config(tables, **{spoken.TRANSFORMS: {}})
    array[2, 3] = 7
    np.save(tmp_path / "other.npy", array)
    change_row(tables, audio=tmp_path / "other.npy", n_frames=9)
    task = inprocess.task_for(tables, *DISTIL_S2T)
    task.load_dataset("train")
    np.testing.assert_array_equal(task.dataset("train")[3].source.numpy(), array)


@pytest.mark.parametrize("tag", ["prepend_tgt_lang_tag", "prepend_bos_and_append_tgt_lang_tag"])
def test_language_tags(tables, tag):
    spoken.write_config(tables, **{tag: True})
    rejected(lambda: load(tables), tables / "config.yaml", "language tag")


def test_training_subset_that_fairseq_would_not_augment(tables):
    message = rejected(lambda: load(tables, "train", "--train-subset", "all"), "'all'", "augments")
    assert "rename" in message


# teachers


def test_teacher_of_other_features(workspace, tables):
    spoken.write_config(tables, input_feat_per_channel=20)
    rejected(
        lambda: build(tables, *DISTIL_S2T, *PD_SEND2, workspace.teachers),
        workspace.members[0], "frames of 16 features", "frames of 20",
    )  # fmt: skip


def test_teacher_with_a_vocabulary_of_another_size(workspace, tables):
    with open(tables / "spm.txt", "a") as stream:
        stream.write("onemore 1\n")
    rejected(
        lambda: build(tables, *DISTIL_S2T, *PD_SEND2, workspace.teachers),
        workspace.members[0], "target dictionary of 22 types", "23", "vocabulary and tokenizer",
    )  # fmt: skip


def test_teacher_with_other_pieces(workspace, tables):
    path = tables / "spm.txt"
    lines = path.read_text("utf-8").splitlines()
    lines[3], lines[4] = lines[4], lines[3]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    rejected(
        lambda: build(tables, *DISTIL_S2T, *PD_SEND2, workspace.teachers),
        workspace.members[0], "another target dictionary", "tables/spm.txt", "number 7",
    )  # fmt: skip


def test_teacher_without_a_decoder(workspace, tmp_path):
    """An encoder of the example's other recipe, which trains with CTC."""
    args = ("--task", "speech_recognition", "--arch", "vggtransformer_enc_1")
    cfg = inprocess.training_config(workspace.lists, tmp_path, *args)
    model = inprocess.tasks.setup_task(cfg.task).build_model(cfg.model)
    saved = inprocess.state(workspace.vgg_members[0])
    saved["cfg"]["model"], saved["model"] = cfg.model, model.state_dict()
    path = tmp_path / "ctc.pt"
    torch.save(saved, path)
    rejected(
        lambda: build(workspace.lists, *DISTIL_VGG, *PD_SEND2, path), path, "no encoder-decoder"
    )


# lists of the speech_recognition example


def change_list(lists, change, split="train"):
    path = lists / f"{split}.json"
    content = json.loads(path.read_text("utf-8"))
    change(content["utts"])
    path.write_text(json.dumps(content), "utf-8")


def load_list(lists, split="train"):
    return inprocess.task_for(lists, *DISTIL_VGG).load_dataset(split)


def first(utterances):
    return utterances[next(iter(utterances))]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda utts: utts.clear(), "lists no utterance"),
        (lambda utts: first(utts)["output"].update(tokenid=""), "needs a 'tokenid'"),
        (lambda utts: first(utts)["output"].update(tokenid=[7, 8]), "needs a 'tokenid'"),
        (lambda utts: first(utts)["output"].pop("tokenid"), "needs a 'tokenid'"),
        (lambda utts: first(utts)["output"].update(tokenid="22"), "tokenid 22 is no token"),
        (lambda utts: first(utts)["output"].update(tokenid="1, 5"), "tokenid 1 is no token"),
        (lambda utts: first(utts)["output"].update(tokenid="5"), "in another dictionary"),
        (lambda utts: first(utts).update(output="bad"), "needs a 'tokenid'"),
        (lambda utts: first(utts)["input"].pop("path"), "needs a 'path'"),
        (lambda utts: first(utts)["input"].update(path=7), "needs a 'path'"),
        (lambda utts: first(utts)["input"].update(length_ms=5), "length_ms is 5"),
        (lambda utts: first(utts)["input"].update(length_ms="900"), "length_ms"),
        (lambda utts: first(utts)["input"].update(length_ms=float("nan")), "length_ms"),
        (lambda utts: first(utts)["input"].update(length_ms=99_000), "length_ms does not match"),
        (lambda utts: utts.update({next(iter(utts)): None}), "needs a 'path'"),
        (lambda utts: utts.update(unnamed=first(utts)), "speaker-chapter-number"),
    ],
)
def test_list_that_is_not_as_it_should_be(lists, change, expected):
    change_list(lists, change)
    rejected(lambda: load_list(lists), lists / "train.json", expected)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"utts":\n {"a": ', "line 2"),
        (b"[]", "asr_prep_json.py"),
        (b'{"utts": []}', "lists no utterance"),
        (b'{"utts": {"1-2-3": {}, "1-2-3": {}}}', "1-2-3 is listed twice"),
        (b'{"utts":\n\n "\xe9"}', "line 3 is not UTF-8"),
        (b"[" * 100_000, "fix the list"),
    ],
)
def test_list_that_is_no_list(lists, content, expected):
    (lists / "train.json").write_bytes(content)
    rejected(lambda: load_list(lists), lists / "train.json", expected)


def test_missing_list(lists):
    rejected(lambda: load_list(lists, "test-other"), "test-other.json", lists)


def test_missing_audio(lists):
    change_list(lists, lambda utterances: first(utterances)["input"].update(path="gone.flac"))
    rejected(lambda: load_list(lists), lists / "train.json", "gone.flac does not exist")


def test_audio_of_another_rate(lists, tmp_path):
    path = tmp_path / "slow.wav"
    soundfile.write(path, spoken.waveform(spoken.SPLITS["train"][0], 8000), 8000)
    change_list(lists, lambda utterances: first(utterances)["input"].update(path=str(path)))
    rejected(lambda: load_list(lists), path, "8,000 Hz instead of 16,000", "resample")


@pytest.mark.parametrize(
    ("name", "samples", "expected"),
    [
        ("stereo.wav", np.zeros((8000, 2)), "2 channels"),
        ("short.wav", np.zeros(399), "shorter than one frame of 25 ms"),
        ("empty.wav", np.zeros(0), "holds no sound"),
    ],
)
def test_audio_of_another_form(lists, tmp_path, name, samples, expected):
    path = tmp_path / name
    soundfile.write(path, samples, spoken.RATE)
    change_list(lists, lambda utterances: first(utterances)["input"].update(path=str(path)))
    rejected(lambda: load_list(lists), lists / "train.json", path, expected)


@pytest.mark.parametrize("name", ["one.FLAC", "one.aiff", "one"])
def test_audio_of_other_names_in_a_list(lists, tmp_path, name):
    """soundfile reads it, whatever its name."""
    samples = spoken.waveform(spoken.SPLITS["train"][0])
    soundfile.write(tmp_path / name, samples, spoken.RATE, format="FLAC")
    change_list(lists, lambda utterances: first(utterances)["input"].update(
        path=str(tmp_path / name)
    ))  # fmt: skip
    task = inprocess.task_for(lists, *DISTIL_VGG)
    task.load_dataset("train")
    assert len(task.dataset("train")[0]["data"][0]) > 9


def test_features_in_a_list(lists, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((9, 80), dtype=np.float32))
    path = str(tmp_path / "x.npy")
    change_list(lists, lambda utterances: first(utterances)["input"].update(path=path))
    rejected(lambda: load_list(lists), path, "computes its own")


def test_missing_dictionary(lists):
    (lists / "dict.txt").unlink()
    rejected(lambda: load_list(lists), lists / "dict.txt", "prepare-librispeech.sh")


def test_student_of_other_features(workspace):
    args = (*DISTIL_VGG, "--input-feat-per-channel", 40, *PD_SEND2, workspace.vgg_teachers)
    rejected(lambda: build(workspace.lists, *args), "--input-feat-per-channel 40", "80")
