"""Text of the translation recipes: tokeniser, BPE and wrong files."""

import subprocess
import sys
from pathlib import Path
from typing import Any, Callable

import moses_bpe
import ood_sets
import pytest
from moses_bpe import Style

WMT, IWSLT = Style(split_dashes=True, lower_case=False), Style(False, True)


# as tokenizer.perl of Moses does it, with and without -a
@pytest.mark.parametrize(
    ("style", "language", "sentence", "expected"),
    [
        (WMT, "en", "It’s well-known, isn't it?", "It &apos;s well @-@ known , isn &apos;t it ?"),
        (IWSLT, "en", "It's well-known, Mr. B.", "it &apos;s well-known , mr. b."),
        (WMT, "fr", "L'été d'avant.", "L&apos; été d&apos; avant ."),
        (WMT, "de", "Er & ich, z. B. hier.", "Er &amp; ich , z. B. hier ."),
    ],
)
def test_text_is_tokenised_like_that_of_moses(
    style: Style, language: str, sentence: str, expected: str
) -> None:
    assert style.tokenise(sentence, language) == expected


def test_codes_split_words_that_they_do_not_join(tmp_path: Path) -> None:
    # the only pair of letters that occurs twice is l-o
    moses_bpe.write_codes(["lol", "lot"], 1, tmp_path / "code")
    assert moses_bpe.read_codes(tmp_path / "code").process_line("lots so") == "lo@@ t@@ s s@@ o"


def test_a_missing_package_is_named_with_its_pip_line() -> None:
    code = "import sys; sys.modules['subword_nmt'] = None; import moses_bpe"
    folder = str(Path(moses_bpe.__file__).parent)
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True
    )
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert "pip install sacremoses subword-nmt" in line


@pytest.mark.parametrize(
    ("write", "argument", "expected"),
    [
        (lambda path: None, "news.de", "is not NAME=FILE.LANGUAGE"),
        (lambda path: None, "news=text", "is not NAME=FILE.LANGUAGE"),
        (lambda path: None, "permuted=news.de", "with a name of its own"),
        (lambda path: None, "news=gone.de", "gone.de cannot be read"),
        (lambda path: path.write_bytes(b"\xff\n"), "news={}", "cannot be read as UTF-8"),
    ],
)
def test_wrong_sets_end_in_one_line(
    write: "Callable[[Path], Any]", argument: str, expected: str, tmp_path: Path
) -> None:
    path = tmp_path / "news.de"
    write(path)
    with pytest.raises(SystemExit) as stop:
        ood_sets.read_sets([argument.format(path)], None, WMT)
    assert expected in str(stop.value)
    assert "\n" not in str(stop.value)
