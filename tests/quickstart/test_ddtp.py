"""Debian's text for the quickstart, on small indexes and with a fake apt; nothing is downloaded."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart"
sys.path.insert(0, str(QUICKSTART))

import apt_index  # noqa: E402
import corpus  # noqa: E402
import ddtp  # noqa: E402
import leakage  # noqa: E402
import private_apt  # noqa: E402

ENGLISH = """\
Package: frob
Description-md5: 11
Description-en: tool that frobs
 Frob is a fast tool. It needs
 no disk space at all.
 .
 Features:
  * frobs plain files
  * frobs network
    shares
 .
 The last paragraph.

Package: frob-doc
Description-md5: 22
Description-en: tool that frobs (manual)
 One paragraph here.

Package: lonely
Description-md5: 33
Description-en: not translated at all
"""
GERMAN = """\
Package: frob
Description-md5: 11
Description-de: Werkzeug, das frobbt
 Frob ist ein schnelles Werkzeug. Es braucht
 keinen Plattenplatz.
 .
 Merkmale:
  * frobbt einfache Dateien
  * frobbt Netzfreigaben
 .
 Der letzte Absatz.

Package: frob-doc
Description-md5: 22
Description-de: Werkzeug, das frobbt (Handbuch)
 Ein Absatz hier.
 .
 Ein Absatz zu viel.

Package: gone
Description-md5: 44
Description-de: ohne englisches Gegenstück
"""
PACKAGES = """\
Package: frob
Version: 1

Package: frob-doc
Source: frob (1-2)
Version: 1
Description-md5: 22
"""


# ---------------------------------------------------------------------------- parsing


def test_description_is_split_into_short_line_paragraphs_and_list_items():
    table = apt_index.parse_translations(ENGLISH, "en")
    assert list(table) == [("frob", "11"), ("frob-doc", "22"), ("lonely", "33")]
    description = apt_index.parse_description(table["frob", "11"])
    assert description.short == "tool that frobs"
    assert description.paragraphs == (
        ("Frob is a fast tool. It needs no disk space at all.",),
        ("Features:", "frobs plain files", "frobs network shares"),
        ("The last paragraph.",),
    )
    assert apt_index.parse_description(table["lonely", "33"]).paragraphs == ()


def test_source_package_is_the_name_unless_stated():
    assert apt_index.parse_sources(PACKAGES) == {"frob": "frob", "frob-doc": "frob"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n\n",
        "Package: x",
        "Package: x\nDescription-md5: 1\nDescrip",
        "Package: x\nDescription-md5:\nDescription-de: kein md5",
        "Description-md5: 1\nDescription-de: kein Paket",
        " continuation of nothing\n:\n::\nno colon",
        "Package: x\nDescription-md5: 1\nDescription-fr: langue étrangère",
        "Package:\nSource:\n",
    ],
)
def test_incomplete_stanzas_are_skipped(text):
    assert apt_index.parse_translations(text, "de") == {}
    assert all(name and source for name, source in apt_index.parse_sources(text).items())


def test_index_may_end_anywhere():
    for end in range(len(GERMAN)):
        table = apt_index.parse_translations(GERMAN[:end], "de")
        for pairs in ddtp.group_by_split(
            apt_index.parse_translations(ENGLISH, "en"), table, {}
        ).values():
            assert all(isinstance(side, str) for pair in pairs for side in pair)


@given(st.text(alphabet="Package:Dscrition-md5e \n.*\t\0é"))
@settings(max_examples=200)
def test_any_text_parses(text):
    for value in apt_index.parse_translations(text, "de").values():
        apt_index.parse_description(value)
    apt_index.parse_description(text)
    apt_index.parse_sources(text)


def test_apts_first_error_is_reported_in_one_line():
    messages = b"Reading...\nW: slow mirror\nE: Unable to lock\nE: second"
    assert private_apt.first_error(messages) == "apt reports: E: Unable to lock"
    assert private_apt.first_error(b"") == "apt gives no reason"


def test_dialogue_pairs_sentences_and_undoes_escapes():
    text = """
        dialogId("a-1", "font_small", "He cried \\"no\\". Did he?")
        dialogStr("Er rief »nein«. Tat er das?")
        dialogId("a-2", "font_small", "This line has no translation.")
        dialogId("a-3", "font_big", "Two\\nlines here. And more.")
        dialogStr("Ein Satz")
    """
    assert ddtp.parse_dialogue(text) == [
        ('He cried "no".', "Er rief »nein«."),
        ("Did he?", "Tat er das?"),
        ("Two lines here. And more.", "Ein Satz"),
    ]


# -------------------------------------------------------------------------- alignment


def test_alignment_joins_on_md5_and_keeps_the_parts_with_equal_counts():
    groups = ddtp.group_by_split(
        apt_index.parse_translations(ENGLISH, "en"),
        apt_index.parse_translations(GERMAN, "de"),
        apt_index.parse_sources(PACKAGES),
    )
    assert groups[ddtp.split_of("frob")] == [
        ("tool that frobs", "Werkzeug, das frobbt"),
        ("Frob is a fast tool.", "Frob ist ein schnelles Werkzeug."),
        ("It needs no disk space at all.", "Es braucht keinen Plattenplatz."),
        ("Features:", "Merkmale:"),
        ("frobs plain files", "frobbt einfache Dateien"),
        ("frobs network shares", "frobbt Netzfreigaben"),
        ("The last paragraph.", "Der letzte Absatz."),
        # The paragraphs of the second package differ in number: the short line only.
        ("tool that frobs (manual)", "Werkzeug, das frobbt (Handbuch)"),
    ]
    assert sum(map(len, groups.values())) == 8
    reordered = "\n\n".join(reversed(GERMAN.split("\n\n")))
    assert groups == ddtp.group_by_split(
        apt_index.parse_translations(ENGLISH, "en"),
        apt_index.parse_translations(reordered, "de"),
        apt_index.parse_sources(PACKAGES),
    )


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (["One. Two."], ["Eins. Zwei."], [("One.", "Eins."), ("Two.", "Zwei.")]),
        (["One. Two."], ["Eins und zwei."], [("One. Two.", "Eins und zwei.")]),
        (["See e.g. this. Now."], ["So z.B. dies."], [("See e.g. this. Now.", "So z.B. dies.")]),
        (["a:", "b", "c"], ["x:", "y z"], [("a: b c", "x: y z")]),
    ],
)
def test_unequal_counts_stay_in_one_piece(left, right, expected):
    assert ddtp.align_blocks(left, right) == expected


def test_split_follows_the_hash_of_the_source_package():
    names = [f"package-{i}" for i in range(3000)]
    for name in names:
        bucket = int(hashlib.sha256(name.encode()).hexdigest(), 16) % 100
        expected = "test" if bucket in range(4) else "valid" if bucket in range(4, 8) else "train"
        assert ddtp.split_of(name) == expected
    splits = [ddtp.split_of(name) for name in names]
    assert 80 < splits.count("test") < 160
    assert 80 < splits.count("valid") < 160


# ---------------------------------------------------------------------------- leakage


def brute_force_leaks(held_out, train, threshold):
    """Find leaks by their definition, comparing every pair."""

    def letters_and_zeros(sentence):
        out = ""
        for char in sentence.lower():
            if not (char.isdigit() and out.endswith("0")):
                out += "0" if char.isdigit() else char
        return out.split()

    def trigrams(sentence):
        # The alphabet of the test has "." as its only punctuation.
        words = " ".join(letters_and_zeros(sentence)).replace(".", " ").split()
        if 0 < len(words) < 3:
            return {tuple(words)}
        return {tuple(words[i : i + 3]) for i in range(len(words) - 2)}

    leaks = {}
    for i, sentence in enumerate(held_out):
        for other in train:
            left, right = trigrams(sentence), trigrams(other)
            if letters_and_zeros(sentence) == letters_and_zeros(other):
                leaks[i] = "same"
            elif left | right and len(left & right) / len(left | right) > threshold:
                leaks.setdefault(i, "near")
    return leaks


WORDS = st.sampled_from(["a", "A", "b", "c", "12", "7", "x1", "b.", "."])
SENTENCES = st.lists(st.lists(WORDS, max_size=9).map(" ".join), max_size=12)


@given(SENTENCES, SENTENCES, st.sampled_from([0.0, 0.25, 0.5, 0.75]))
@settings(max_examples=300)
def test_leaks_equal_those_of_brute_force(held_out, train, threshold):
    found = leakage.find_leaks(held_out, train, threshold)
    assert found == brute_force_leaks(held_out, train, threshold)


def test_leaks_of_an_example():
    train = ["Version 3.11 of the Frob tool", "one two three four five six"]
    held_out = [
        "version 2.4 of the frob TOOL",
        "one two three four five seven",  # 3 of 5 trigrams shared
        "one two three four nine ten",  # 2 of 6
        "something else entirely",
    ]
    assert leakage.find_leaks(held_out, train) == {0: "same", 1: "near"}
    assert leakage.find_leaks([], train) == {}
    assert leakage.find_leaks(held_out, []) == {}


# --------------------------------------------------------------------- sets and files


@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=6).map(" ".join))
def test_permutation_keeps_the_words_and_differs(sentence):
    shuffled = corpus.permute(sentence)
    if shuffled is None:
        assert len(set(sentence.split())) < 2
    else:
        assert shuffled != sentence
        assert sorted(shuffled.split()) == sorted(sentence.split())
        assert shuffled == corpus.permute(sentence)


def test_samples_are_ordered_and_nested():
    pairs = [(f"source {i}", f"target {i}") for i in range(100)]
    small, large = corpus.sample(pairs, 10), corpus.sample(pairs, 30)
    assert len(small) == 10
    assert set(small) < set(large)
    assert large == sorted(large, key=pairs.index)
    assert corpus.sample(pairs, None) == corpus.sample(pairs, 100) == pairs


def test_word_limit_is_for_both_sides_and_untranslated_pairs_are_removed():
    long = "one two three four five"
    pairs = [
        ("a b c", "x y z"),
        ("a b", "x y z"),
        ("a b c", long),
        (long, "x y z"),
        ("A b c", "a B C"),
    ]
    assert corpus.fitting(pairs, 4) == [("a b c", "x y z")]


# ------------------------------------------------------------------------------ fake apt


def lines(path):
    return path.read_text(encoding="utf-8").splitlines()


def fake_tool(folder, name, script):
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(0o755)
    return path


def run_script(tmp_path, path):
    return subprocess.run(
        [sys.executable, str(QUICKSTART / "ddtp.py"), "--out", str(tmp_path / "out")],
        env={"PATH": str(path)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_apt_the_error_names_the_fix(tmp_path):
    result = run_script(tmp_path, tmp_path / "no-tools")
    assert result.returncode == 2
    assert "apt-get is not installed" in result.stderr
    assert "--own" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (
            "echo 'E: The list of sources could not be read.' >&2; exit 100",
            "update failed; apt reports: E:",
        ),
        (
            "echo 'W: Failed to fetch http://x' >&2",
            "no translations into en, de, fr; apt reports: W:",
        ),
    ],
)
def test_failure_of_apt_is_reported(tmp_path, capsys, monkeypatch, script, expected):
    tools = tmp_path / "tools"
    for name in ("apt-get", "dpkg-deb", "apt-helper"):
        fake_tool(tools, name, script)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    monkeypatch.setattr(private_apt, "APT_HELPER", str(tools / "apt-helper"))
    assert ddtp.main(["--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert expected in message
    assert "--own" in message
    assert not list((tmp_path / "out").iterdir())


def test_all_sets_are_made_with_a_fake_apt(tmp_path, capsys, monkeypatch):
    """All steps from indexes to files run; shell scripts replace apt."""
    english, other, packages = [], {"de": [], "fr": []}, []
    for number in range(200):
        # Letters, since the check for leakage replaces all numbers by 0.
        name = "".join("abcdefghij"[int(digit)] for digit in f"{number:03}")
        english.append(
            f"Package: {name}\nDescription-md5: {number}\n"
            f"Description-en: {name} tool does{name}\n The {name} of{name} is{name}.\n"
        )
        for code in ("de", "fr"):
            other[code].append(
                f"Package: {name}\nDescription-md5: {number}\n"
                f"Description-{code}: {code}{name} a b\n {code}{name} c d.\n"
            )
        packages.append(f"Package: {name}\n")
    indexes = tmp_path / "indexes"
    indexes.mkdir()
    prefix = "mirror_dists_stable_main_"
    for kind, stanzas in (
        ("i18n_Translation-en", english),
        ("i18n_Translation-de", other["de"]),
        ("i18n_Translation-fr", other["fr"]),
        ("binary-amd64_Packages", packages),
    ):
        (indexes / (prefix + kind)).write_text("\n".join(stanzas))
    # A suite without translations changes nothing.
    (indexes / "mirror_dists_stable-security_main_binary-amd64_Packages").write_text("x")
    game = tmp_path / "x" / "script" / "room"
    game.mkdir(parents=True)
    (game / "dialogs_de.lua").write_text(
        'dialogId("k", "f", "What is this thing?")\ndialogStr("Was ist dieses Ding?")\n'
    )
    subprocess.run(["tar", "-C", tmp_path, "-cf", tmp_path / "game.tar", "x"], check=True)
    tools = tmp_path / "tools"
    fake_tool(
        tools,
        "apt-get",
        f'case "$3" in update) cp {indexes}/* lists/;; download) echo deb > $4_1_all.deb;; esac',
    )
    fake_tool(tools, "dpkg-deb", f"cat {tmp_path}/game.tar")
    fake_tool(tools, "apt-helper", 'cat "$4"')
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    monkeypatch.setattr(private_apt, "APT_HELPER", str(tools / "apt-helper"))

    assert ddtp.main(["--out", str(tmp_path / "out")]) == 0

    out = tmp_path / "out"
    messages = capsys.readouterr().err
    assert messages.count("WARNING") == 5  # four indexes and the package, all fakes
    manifest = json.loads((out / "manifest.json").read_text())
    assert set(manifest["indexes"]) == {
        "stable_main_i18n_Translation-en",
        "stable_main_i18n_Translation-de",
        "stable_main_i18n_Translation-fr",
        "stable_main_binary-amd64_Packages",
        "fillets-ng-data_1_all.deb",
    }
    counts = {name: facts["pairs"] for name, facts in manifest["sets"].items()}
    assert counts["train"] + counts["valid"] + counts["test"] == 400
    assert counts["test"] == counts["ood_german"] == counts["ood_french"] == counts["ood_permuted"]
    assert lines(out / "ood_speech.en") == ["What is this thing?"]
    assert lines(out / "ood_speech.de") == ["Was ist dieses Ding?"]
    assert lines(out / "ood_german.en") == lines(out / "ood_german.de") == lines(out / "test.de")
    assert all(line.startswith("fr") for line in lines(out / "ood_french.en"))
    assert set(lines(out / "ood_french.de")) == set(lines(out / "test.en"))
    first_words = {line.split()[0] for line in lines(out / "test.en") if "tool" in line}
    assert all(ddtp.split_of(name) == "test" for name in first_words)
    assert ddtp.main(["--out", str(out)]) == 0
    assert "nothing to do" in capsys.readouterr().err
