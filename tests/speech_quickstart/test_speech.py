"""Data of the speech quickstart: features, manifests, own recordings, fake Debian packages."""

import csv
import gzip
import json
import re
import subprocess
from pathlib import Path

import numpy as np
import private_apt
import pytest
import soundfile
import speech
import torch
from audio import RATE, add_noise, log_mel, telephone, waveform
from fairseq.data.audio.audio_utils import get_features_or_waveform
from fairseq.data.audio.data_cfg import S2TDataConfig
from hypothesis import given
from hypothesis import strategies as st
from manifests import COLUMNS, FeatureZip, train_subwords, write_tsv
from prompts import asterisk
from sentences import cut_text, draw_sentences, read_grammar
from utterances import Utterance, plausible, spoken
from voices import LOADER, EngineError, Engines

from .tones import tone, write_recordings

RULE = re.compile(r"<(\w+)>").findall
SIZES = {"train": 20, "valid": 3, "test": 4, "ood_other": 5}


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8") as stream:
        return list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))


# ------------------------------------------------------------------------------ words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Excuse me, Bob...", "excuse me bob"),
        ("(sigh) I'm fine.", "i'm fine"),
        ("[ascending tones]", ""),
        ("He had it, he knew", "he had it he knew"),
        ("'Quoted' words’ end", "quoted words end"),
        ("Press 1 now", ""),
        ("Où êtes-vous\u00a0?", "où êtes vous"),
        ("e\u0301te\u0301", "été"),
    ],
)
def test_spelling(text, words):
    assert spoken(text) == words


@given(st.text())
def test_spelling_a_second_time_changes_nothing(text):
    assert spoken(spoken(text)) == spoken(text)


def test_plausible_length():
    assert plausible("ten letters", 1.0, 10)
    assert not plausible("ten letters", 0.9, 10)
    assert not plausible("ten letters", 10.1, 10)
    assert not plausible("ten letters", 5.0, 10)  # most of the clip has no text
    assert not plausible("ten letters" * 3, 1.0, 10)  # the text is too long for the clip


# -------------------------------------------------------------------------- sentences

RULES = {"sentence": ["the <animal> sees <animal>s", "hello <name>"], "animal": ["cat", "dog"]}


def test_all_sentences_of_a_grammar_are_found():
    found = draw_sentences({**RULES, "name": ["bob"]}, 5, seed=1)
    pairs = {f"the {a} sees {b}s" for a in ("cat", "dog") for b in ("cat", "dog")}
    assert set(found) == {*pairs, "hello bob"}


def test_fewer_sentences_are_the_first_ones():
    rules = {**RULES, "name": ["ann", "bob", "eve"]}
    assert draw_sentences(rules, 7, seed=1)[:3] == draw_sentences(rules, 3, seed=1)
    assert draw_sentences(rules, 7, seed=1) != draw_sentences(rules, 7, seed=2)


@pytest.mark.parametrize("language", ["english", "german"])
def test_the_grammars_are_complete_and_read_as_written(language):
    rules = read_grammar(speech.HERE / f"{language}.txt", person=["bob"])
    used = {name for alternatives in rules.values() for a in alternatives for name in RULE(a)}
    assert used | {"sentence"} == set(rules)
    for sentence in draw_sentences(rules, 500, seed=1):
        assert spoken(sentence) == sentence


def test_a_text_is_cut_into_pieces_without_loss():
    text = " ".join(f"{a}{b}" for a in "abcdefgh" for b in "abcdefgh")
    pieces = cut_text(text.replace(" ", ", ", 5), 100, seed=1)
    words = sorted(word for piece in pieces for word in piece.split())
    assert len(words) > 54  # the last words may be too few for a piece
    assert words == text.split()[: len(words)]
    assert all(5 <= len(piece.split()) <= 9 for piece in pieces)
    assert set(cut_text(text, 3, seed=1)) < set(cut_text(text, 100, seed=1))


# --------------------------------------------------------------------------- features


def test_waveform_is_mono_at_one_rate(tmp_path):
    left = tone("abcdefg")
    path = tmp_path / "x.wav"
    soundfile.write(path, np.stack([left, 0 * left], axis=1), 11025)
    samples = waveform(Utterance("x", path, ""))
    assert samples.dim() == 1
    assert abs(len(samples) / RATE - len(left) / 11025) < 0.01
    assert abs(samples.square().mean().sqrt() - np.sqrt(np.mean(left**2)) / 2) < 0.01
    in_memory = waveform(Utterance("x", path.read_bytes(), ""))
    assert torch.equal(samples, in_memory)


def test_a_higher_tone_is_in_a_higher_mel_bin():
    low = log_mel(torch.from_numpy(tone("aaaa")).float())
    high = log_mel(torch.from_numpy(tone("gggg")).float())
    assert low.shape[1] == 40
    assert low.mean(axis=0).argmax() < high.mean(axis=0).argmax()


def test_loudness_adds_a_constant():
    samples = torch.randn(4000, generator=torch.Generator().manual_seed(0)) * 0.1
    difference = log_mel(2 * samples) - log_mel(samples)
    np.testing.assert_allclose(difference, np.log(4), atol=1e-3)


@pytest.mark.parametrize("decibels", [0.0, 5.0, 20.0])
def test_noise_has_the_given_ratio_and_depends_on_the_name_only(decibels):
    samples = torch.sin(torch.arange(80000) / 7)
    noise = add_noise(samples, "x", decibels) - samples
    ratio = 10 * torch.log10(samples.square().mean() / noise.square().mean())
    assert abs(ratio - decibels) < 1e-3
    assert torch.equal(add_noise(samples, "x", decibels) - samples, noise)
    assert not torch.equal(add_noise(samples, "y", decibels) - samples, noise)


def test_pink_noise_has_the_same_power_in_every_octave():
    samples = torch.ones(2**16)
    noise = add_noise(samples, "x", 10.0, pink=True) - samples
    assert abs(noise.square().mean() - 0.1) < 1e-3
    power = torch.fft.rfft(noise).abs().square()
    octaves = torch.stack([power[2**k : 2 ** (k + 1)].sum() for k in range(8, 15)])
    assert (octaves / octaves.mean() - 1).abs().max() < 0.2
    white = torch.fft.rfft(add_noise(samples, "x", 10.0) - samples).abs().square()
    assert white[2**14 :].sum() / white[2**8 : 2**9].sum() > 30


@pytest.mark.parametrize("speed", speech.BEYOND_SPEEDS)
def test_speed_changes_duration_and_pitch(tmp_path, speed):
    time = np.arange(RATE) / RATE
    soundfile.write(tmp_path / "x.wav", 0.5 * np.sin(2 * np.pi * 500 * time), RATE)
    samples = waveform(Utterance("x", tmp_path / "x.wav", "", speed=speed))
    assert abs(len(samples) - RATE / speed) <= 1
    loudest = torch.fft.rfft(samples).abs().argmax() * RATE / len(samples)
    assert abs(loudest - 500 * speed) < 2


@pytest.mark.parametrize(("hertz", "gain"), [(100, 0), (500, 1), (2000, 1), (3900, 0)])
def test_a_telephone_has_its_band_only(hertz, gain):
    samples = torch.sin(2 * np.pi * hertz * torch.arange(RATE) / RATE).float()
    filtered = telephone(samples)[RATE // 4 :]
    assert abs(filtered.square().mean().sqrt() * 2**0.5 - gain) < 0.02


def test_fairseq_reads_the_features_in_the_zip(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {f"é{i}": rng.normal(size=(i + 3, 4)).astype("float32") for i in range(5)}
    with FeatureZip(tmp_path) as features:
        places = {name: features.add(name, array) for name, array in arrays.items()}
        assert not (tmp_path / "features.zip").exists()
    for name, place in places.items():
        found = get_features_or_waveform(str(tmp_path / place))
        np.testing.assert_array_equal(found, arrays[name])


def test_an_interrupted_zip_leaves_nothing(tmp_path):
    def interrupted() -> None:
        with FeatureZip(tmp_path) as features:
            features.add("x", np.zeros((3, 4)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(tmp_path.iterdir())


def test_the_subwords_are_written_as_a_fairseq_dictionary(tmp_path):
    train_subwords(["face the cafe", "a fade", "deaf"] * 5, tmp_path, 30)
    lines = (tmp_path / "dict.txt").read_text(encoding="utf-8").splitlines()
    assert all(line.endswith(" 1") for line in lines)
    assert "▁" in "".join(lines)
    assert not {"<unk> 1", "<s> 1", "</s> 1"} & set(lines)


def test_tsv_has_fairseqs_columns(tmp_path):
    values = ("a", "x.zip:0:1", 7, 'say "x" \\', "joe")
    write_tsv(tmp_path / "a.tsv", [dict(zip(COLUMNS, values))])
    assert rows(tmp_path / "a.tsv") == [dict(zip(COLUMNS, map(str, values)))]


# --------------------------------------------------------------------- own recordings


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    root = tmp_path_factory.mktemp("speech")
    path = write_recordings(root / "own", SIZES)
    assert speech.main(["--out", str(root / "out"), "--own", str(path), "--vocabulary", "30"]) == 0
    return root


def test_all_sets_of_own_recordings(prepared):
    out = prepared / "out"
    manifest = json.loads((out / "manifest.json").read_text())
    sizes = {name: facts["utterances"] for name, facts in manifest["sets"].items()}
    # some are too short at a higher speed
    assert 15 <= sizes[speech.BEYOND] <= SIZES["train"]
    changed = {**dict.fromkeys(speech.CHANGES, 4), speech.BEYOND: sizes[speech.BEYOND]}
    assert sizes == {**SIZES, **changed}
    config = S2TDataConfig(out / "config.yaml")
    assert config.input_feat_per_channel == 40
    for name, size in sizes.items():
        entries = rows(out / f"{name}.tsv")
        assert len(entries) == size
        for row in entries:
            features = get_features_or_waveform(str(Path(config.audio_root) / row["audio"]))
            assert features.shape == (int(row["n_frames"]), 40)


@pytest.mark.parametrize("name", speech.CHANGES)
def test_changed_sets_are_the_test_set_with_other_audio(prepared, name):
    test, changed = (rows(prepared / "out" / f"{n}.tsv") for n in ("test", name))
    columns = ("n_frames", "tgt_text", "speaker")
    assert [[r[c] for c in columns] for r in test] == [[r[c] for c in columns] for r in changed]
    for first, second in zip(test, changed):
        original, other = (
            get_features_or_waveform(str(prepared / "out" / r["audio"])) for r in (first, second)
        )
        assert np.abs(original - other).max() > 0.1


def test_beyond_is_the_training_set_with_other_audio(prepared):
    train, beyond = (rows(prepared / "out" / f"{name}.tsv") for name in ("train", speech.BEYOND))
    original = {row["id"].removeprefix("train-"): row for row in train}
    frames = set()
    for row in beyond:
        source = original[row["id"].removeprefix(f"{speech.BEYOND}-beyond-")]
        assert row["tgt_text"] == source["tgt_text"]
        frames.add(round(int(row["n_frames"]) / int(source["n_frames"]), 1))
        first, second = (
            get_features_or_waveform(str(prepared / "out" / r["audio"])) for r in (row, source)
        )
        assert first.shape != second.shape or np.abs(first - second).max() > 1
    assert min(frames) < 0.9 < 1.0 < 1.1 < max(frames)
    assert 1.0 in frames


def test_a_second_run_does_nothing(prepared, capsys):
    before = (prepared / "out" / "features.zip").stat().st_mtime_ns
    options = ["--out", str(prepared / "out"), "--own", str(prepared / "own" / "list.tsv")]
    assert speech.main([*options, "--vocabulary", "30"]) == 0
    assert "nothing to do" in capsys.readouterr().err
    assert (prepared / "out" / "features.zip").stat().st_mtime_ns == before


def test_a_changed_recording_is_prepared_anew(tmp_path, capsys):
    path = write_recordings(tmp_path / "own", SIZES)
    options = ["--out", str(tmp_path / "out"), "--own", str(path), "--vocabulary", "30"]
    assert speech.main(options) == 0
    before = (tmp_path / "out" / "features.zip").read_bytes()
    samples, rate = soundfile.read(tmp_path / "own" / "train0.wav")
    soundfile.write(tmp_path / "own" / "train0.wav", samples[::-1], rate)
    assert speech.main(options) == 0
    assert "nothing to do" not in capsys.readouterr().err
    assert (tmp_path / "out" / "features.zip").read_bytes() != before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("set\taudio", "set\tfile"), "no column audio"),
        (lambda text: text.replace("valid\t", "dev\t"), "line 22: set 'dev' is none of"),
        (lambda text: text.replace("ood_other\t", "ood_noise0\t"), "line 29: ood_noise0 is made"),
        (lambda text: text.replace("test0.wav", "gone.wav"), "gone.wav is missing"),
        (lambda text: text + "train\ttrain0.wav\t...\n", "line 34: no words"),
        (lambda text: text + "train\ttrain0.wav\n", "line 34: no words"),
        (lambda text: text.replace("valid\t", "train\t"), "no utterance for valid"),
        (lambda text: text + "train\ttrain0.wav\tgood\twords\n", "line 34 has more tabs"),
        (lambda text: text + "train\ttrain0.wav\t" + "y" * 200_000, "line 34: field larger"),
    ],
)
def test_the_error_for_a_wrong_list_names_file_and_line(
    prepared, tmp_path, capsys, change, message
):
    path = prepared / "own" / "wrong.tsv"
    path.write_text(change((prepared / "own" / "list.tsv").read_text()))
    assert speech.main(["--out", str(tmp_path / "out"), "--own", str(path)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert str(path) in error
    assert message in error
    assert not (tmp_path / "out").exists()


def test_the_error_for_unreadable_audio_names_the_file(tmp_path, capsys):
    path = write_recordings(tmp_path / "own", SIZES)
    (tmp_path / "own" / "test1.wav").write_text("no audio")
    assert speech.main(["--out", str(tmp_path / "out"), "--own", str(path)]) == 2
    assert "test1.wav cannot be read as audio" in capsys.readouterr().err.splitlines()[-1]
    assert not list((tmp_path / "out").iterdir())


def test_the_error_for_samples_that_are_no_numbers_names_the_file(tmp_path, capsys):
    path = write_recordings(tmp_path / "own", SIZES)
    soundfile.write(tmp_path / "own" / "test1.wav", np.full(RATE, np.nan), RATE, subtype="FLOAT")
    assert speech.main(["--out", str(tmp_path / "out"), "--own", str(path)]) == 2
    assert "test1.wav has samples that are NaN" in capsys.readouterr().err.splitlines()[-1]


def test_the_error_for_a_missing_list_names_the_file(tmp_path, capsys):
    options = ["--out", str(tmp_path / "out"), "--own", str(tmp_path / "nowhere.tsv")]
    assert speech.main(options) == 2
    assert "nowhere.tsv cannot be read" in capsys.readouterr().err


def test_a_set_of_too_long_clips_only_is_an_error(tmp_path, capsys):
    path = write_recordings(tmp_path / "own", SIZES)
    options = ["--out", str(tmp_path / "out"), "--own", str(path), "--max-seconds", "0.5"]
    assert speech.main(options) == 2
    assert "train has no utterance" in capsys.readouterr().err.splitlines()[-1]


# --------------------------------------------------------------- fake Debian packages


def test_prompts_are_paired_with_their_texts():
    texts = {"x/core-sounds-fr.txt.gz": gzip.compress(b"; Sons\n\nnon: Non.\na/b: Ah: oui.\n")}
    sounds = {
        "./usr/share/asterisk/sounds/fr/non.wav": b"1",
        "./usr/share/asterisk/sounds/fr/a/b.wav": b"2",
        "./usr/share/asterisk/sounds/fr/other.wav": b"3",
    }
    assert asterisk(texts, sounds, "june") == [
        Utterance("a-b", b"2", "Ah: oui.", "june"),
        Utterance("non", b"1", "Non.", "june"),
    ]


def fake_tool(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def wav(text: str) -> bytes:
    path = Path(f"{text}.wav")
    soundfile.write(path, tone(text), 8000)
    return path.read_bytes()


def fake_loader(root: Path, script: str) -> None:
    """Make a program that replaces the loader of the engines' packages."""
    path = root / LOADER
    path.parent.mkdir(parents=True)
    fake_tool(path.parent, path.name, script)


def test_all_sets_are_made_from_fake_packages(tmp_path, capsys, monkeypatch):
    """All steps from packages to manifests run; shell scripts replace apt and the engines."""
    monkeypatch.chdir(tmp_path)
    wav("face the cafe face the cafe")
    calls = tmp_path / "calls"
    fake_loader(
        tmp_path / "root",
        f'shift 2; echo "$@" >> {calls}; cat "{tmp_path}/face the cafe face the cafe.wav"',
    )
    files = {
        "miscfiles": {
            "x/propernames.gz": gzip.compress(b"Alice\nBob\nCarol\n"),
            "x/us-constitution.gz": gzip.compress(b"We the People of the United States, " * 9),
        }
    }
    prompt = wav("bad face bad face")
    for code in ("en", "fr"):
        listed = gzip.compress(b"bad: bad face bad face\n")
        files[f"asterisk-core-sounds-{code}"] = {f"x/core-sounds-{code}.txt.gz": listed}
        files[f"asterisk-core-sounds-{code}-wav"] = {f"x/sounds/{code}/bad.wav": prompt}
    for package, members in files.items():
        for name, data in members.items():
            path = tmp_path / package / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        subprocess.run(["tar", "-C", package, "-cf", f"{package}.tar", "x"], check=True)
    tools = tmp_path / "tools"
    fake_tool(
        tools,
        "apt-get",
        'case "$3" in update) touch lists/x_main_binary-amd64_Packages;; '
        "install) for name in flite libc6; do echo $name > cache/archives/${name}_1.deb; done;; "
        f"download) cp {tmp_path}/$4.tar $4_1_all.deb;; esac",
    )
    fake_tool(
        tools,
        "dpkg-deb",
        f'case "$1" in --extract) cp -r {tmp_path}/root/. "$3";; *) cat "$2";; esac',
    )
    fake_tool(tools, "apt-helper", "true")
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    monkeypatch.setattr(private_apt, "APT_HELPER", str(tools / "apt-helper"))
    options = ["--max-train", "12", "--max-eval", "4", "--vocabulary", "30"]

    assert speech.main(["--out", "out", *options]) == 0

    # flite and the five packages of files; not the C library
    assert capsys.readouterr().err.count("WARNING") == 6
    sets = {path.stem: rows(path) for path in Path("out").glob("*.tsv")}
    texts = {name: [row["tgt_text"] for row in entries] for name, entries in sets.items()}
    assert len(texts["train"]) == 12
    in_domain = [text for name in speech.SPLITS for text in texts[name]]
    assert len(in_domain) == len(set(in_domain))  # no sentence is in two sets
    assert set(texts[speech.BEYOND]) <= set(texts["train"])
    for name in ("ood_voices", *speech.CHANGES):
        assert sorted(texts[name]) == sorted(texts["test"])
    assert set(texts["ood_human"]) == set(texts["ood_french"]) == {"bad face bad face"}
    of_law = {word for text in texts["ood_law"] for word in text.split()}
    assert of_law == {"we", "the", "people", "of", "united", "states"}
    assert {row["speaker"] for row in sets["train"]} == {"kal16", "awb", "rms", "slt"}
    assert {row["speaker"] for row in sets["ood_german"]} == {"de", "de+f3", "de+m3", "de+f5"}
    lines = calls.read_text().splitlines()
    programs = [Path(line.split()[0]).name for line in lines]
    # train 12, valid 4, test 4, law 4; voices and German 4 each
    assert (programs.count("flite"), programs.count("espeak-ng")) == (24, 8)


def test_the_error_of_an_engine_names_program_and_folder(tmp_path):
    fake_loader(tmp_path, "exit 1")
    with pytest.raises(EngineError, match=f"flite cannot be run.*{tmp_path}"):
        Engines(tmp_path).flite("hello", "slt", 1.0)


def test_without_apt_the_error_names_the_fix(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert speech.main(["--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert "apt-get is not installed" in message
    assert "--own" in message
