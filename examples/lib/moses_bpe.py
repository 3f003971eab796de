"""Text as fairseq's scripts prepare it: Moses' tokeniser, then BPE of subword-nmt."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

try:
    import sacremoses
    from subword_nmt.apply_bpe import BPE
    from subword_nmt.learn_bpe import learn_bpe
except ImportError as error:
    sys.exit(f"error: {error.name} is not installed: pip install sacremoses subword-nmt")


@dataclass(frozen=True)
class Style:
    """Settings of the tokeniser.

    Attributes:
        split_dashes: "a-b" becomes "a @-@ b" (option -a of tokenizer.perl).
        lower_case: text is in lower case.
    """

    split_dashes: bool
    lower_case: bool

    def tokenise(self, sentence: str, language: str) -> str:
        """Tokenise a sentence like fairseq's scripts do their test sets."""
        tokens: str = _tokeniser(language).tokenize(
            sentence.replace("’", "'"), aggressive_dash_splits=self.split_dashes, return_str=True
        )
        return tokens.lower() if self.lower_case else tokens


@cache
def _tokeniser(language: str) -> Any:
    return sacremoses.MosesTokenizer(lang=language)


def write_codes(sentences: Iterable[str], merges: int, path: Path) -> None:
    """Learn BPE from tokenised sentences."""
    with open(path, "w", encoding="utf-8") as stream:
        learn_bpe(io.StringIO("".join(f"{line}\n" for line in sentences)), stream, merges)


def read_codes(path: Path) -> Any:
    """Read BPE codes; the result has `process_line`, which splits the words of a sentence."""
    with open(path, encoding="utf-8") as stream:
        return BPE(stream)


def add_style_options(parser: Any) -> None:
    """Add the options of `Style` to a parser of arguments."""
    parser.add_argument("--split-dashes", action="store_true", help="'a-b' becomes 'a @-@ b'")
    parser.add_argument("--lower-case", action="store_true", help="write lower case")
