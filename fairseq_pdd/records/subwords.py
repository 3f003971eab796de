"""Marks that join sub-words to words: those of SentencePiece and of subword-nmt."""

from typing import Iterable

SPACE = "▁"
"""SentencePiece's mark of the space before a word."""

CONTINUES = "@@"
"""subword-nmt's mark at the end of a piece that another one follows."""

SPECIAL = frozenset({"<s>", "</s>", "<pad>"})
"""Symbols that are no part of a text."""


def mark_of(symbols: Iterable[str]) -> str:
    """Find the mark that distinct symbols bear: that of most of them, or nothing."""
    spaces = continued = 0
    for symbol in symbols:
        spaces += symbol.startswith(SPACE)
        continued += _is_continued(symbol)
    if spaces >= continued:
        return SPACE if spaces else ""
    return CONTINUES


def without_mark(symbol: str, mark: str) -> str:
    """Return the part of a symbol that is text. A symbol ``@@`` alone is text."""
    if mark == SPACE:
        return symbol.replace(SPACE, "")
    return symbol[: -len(CONTINUES)] if mark == CONTINUES and _is_continued(symbol) else symbol


def join_symbols(symbols: Iterable[str]) -> str:
    """Write symbols as fairseq does without ``--post-process``; special ones are skipped."""
    return " ".join(symbol for symbol in symbols if symbol not in SPECIAL)


def join_words(text: str, mark: str) -> str:
    """Join the sub-words of a text that consists of symbols.

    Args:
        text: symbols, joined with blanks.
        mark: mark of its sub-words; nothing returns the text as it is.
    """
    if mark == SPACE:
        return text.replace(" ", "").replace(SPACE, " ").strip()
    if mark == CONTINUES:
        parts = (s[: -len(CONTINUES)] if _is_continued(s) else f"{s} " for s in text.split(" "))
        return "".join(parts).rstrip()
    return text


def _is_continued(symbol: str) -> bool:
    return len(symbol) > len(CONTINUES) and symbol.endswith(CONTINUES)
