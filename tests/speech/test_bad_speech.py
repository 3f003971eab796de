"""Wrong speech data ends in one line with the file and the fix, before training starts."""

import json

import numpy as np
import pytest
import soundfile
import torch

from fairseq_pdd.errors import UsageError
from fairseq_pdd.speech import inputs
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
    ],
)
def test_input_that_cannot_be_used(tables, tmp_path, audio, expected):
    for name, array in {
        "wide": np.zeros((9, 17)), "flat": np.zeros(9), "none": np.zeros((0, 16)),
        "objects": np.array([{}, {}], dtype=object),
    }.items():  # fmt: skip
        np.save(tmp_path / f"{name}.npy", array)
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


def test_number_that_is_not_a_number(tables):
    change_row(tables, n_frames="many")
    rejected(lambda: load(tables), "'train'", tables, "many")


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
    rejected(lambda: load(tables), "'train'", "spm.model")


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
    "change",
    [
        lambda utterances: utterances.clear(),
        lambda utterances: first(utterances)["output"].update(tokenid=""),
        lambda utterances: first(utterances)["output"].pop("tokenid"),
        lambda utterances: first(utterances)["input"].pop("path"),
        lambda utterances: first(utterances)["input"].update(length_ms=5),
        lambda utterances: utterances.update(unnamed=first(utterances)),
    ],
)
def test_list_that_is_not_as_it_should_be(lists, change):
    change_list(lists, change)
    rejected(lambda: load_list(lists), lists / "train.json", "asr_prep_json.py", "length_ms")


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


def test_missing_dictionary(lists):
    (lists / "dict.txt").unlink()
    rejected(lambda: load_list(lists), lists / "dict.txt", "prepare-librispeech.sh")


def test_student_of_other_features(workspace):
    args = (*DISTIL_VGG, "--input-feat-per-channel", 40, *PD_SEND2, workspace.vgg_teachers)
    rejected(lambda: build(workspace.lists, *args), "--input-feat-per-channel 40", "80")
