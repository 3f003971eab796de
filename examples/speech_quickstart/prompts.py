"""Human speech: prompts of the telephone system Asterisk."""

from __future__ import annotations

import gzip
import re

from utterances import Utterance

PROMPT = re.compile(r"([^;:\s]+):\s*(.+)")


def asterisk(texts: dict[str, bytes], sounds: dict[str, bytes], speaker: str) -> list[Utterance]:
    """Pair the prompts with their texts.

    Args:
        texts: lists of prompts, files core-sounds-XX.txt.gz of lines "name: text".
        sounds: WAV files at .../sounds/VOICE/name.wav.
        speaker: name of the speaker of all prompts.
    """
    text_of: dict[str, str] = {}
    for data in texts.values():
        for line in gzip.decompress(data).decode("utf-8", "replace").splitlines():
            if match := PROMPT.match(line):
                text_of[match[1]] = match[2]
    found = []
    for path, data in sorted(sounds.items()):
        name = path.partition("/sounds/")[2].partition("/")[2].removesuffix(".wav")
        if name in text_of:
            found.append(Utterance(name.replace("/", "-"), data, text_of[name], speaker))
    return found
