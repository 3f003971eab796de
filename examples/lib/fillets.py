"""Dialogue files of the game Fish Fillets: English lines and their translations."""

from __future__ import annotations

import re

STRING = r'"((?:[^"\\]|\\.)*)"'
DIALOGUE = re.compile(
    rf"dialogId\(\s*{STRING}\s*,\s*{STRING}\s*,\s*{STRING}\s*\)\s*dialogStr\(\s*{STRING}\s*\)"
)


def dialogue(text: str) -> list[tuple[str, str, str]]:
    """Return name, English and translation of each line of a file dialogs_XX.lua."""
    return [
        (name, unescape(english), unescape(translation))
        for name, _, english, translation in DIALOGUE.findall(text)
    ]


def unescape(side: str) -> str:
    return " ".join(re.sub(r"\\(.)", lambda m: " " if m[1] in "nrt" else m[1], side).split())
