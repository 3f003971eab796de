"""Clips of the game Flight of the Amazon Queen, and their texts.

The game's data file is an archive: "QTBL", a version of 6 bytes, 2 unused bytes, 1 byte for the
kind of compression, the number of entries (all numbers are big-endian), and for each entry its
name (12 bytes), a byte, offset and size. Three kinds of entries matter:

  *.SB        a clip, MP3 in Debian's archive
  *.DOG       a conversation: its structure, and all of its lines
  QUEEN2.JAS  lines of the hero, Joe, about objects that he looks at

A line is spoken in segments, one clip for each. Commands for the animation, such as *03 or
*XY00(128,112), separate the segments. The n-th piece of the line has the n-th clip. Empty pieces
are counted, but have no clip. The name of a clip consists of conversation, line, speaker and piece
(06002BP1: conversation 6, line 2B, not Joe, first piece). Openings have SSSS or XXXX in place of
the line. Joe's object lines are JOEnnnnp.
"""

from __future__ import annotations

import re
import struct

from utterances import InputError

HEADER = struct.Struct(">4s6s2xBH")
ENTRY = struct.Struct(">12sxII")
COMMAND = re.compile(r"\*(?:XY\d\d\(\d+,\d+\)|..)", re.DOTALL)
PIECES = "123456789ABCDEF"
JOE_LINES = "QUEEN2.JAS"
JOE_FIRST = 41  # clip number of the first line of JOE_LINES
BANK_HEADER = 20  # bytes of a conversation that its offsets do not count
# The number of levels, the keys of variables and of clips, the numbers of lines of Joe and of the
# other speaker, six unused numbers, and three offsets: the other speaker's lines, the part that
# follows, the openings.
TALK = struct.Struct(">5h12x3h")
LEVELS_AT, LEVEL_SIZE = 32, 96


def read_archive(data: bytes) -> dict[str, bytes]:
    """Return all entries of the archive by name.

    Raises:
        InputError: the data are another file, or incomplete.
    """
    try:
        magic, _, compression, count = HEADER.unpack_from(data)
        entries = [ENTRY.unpack_from(data, HEADER.size + i * ENTRY.size) for i in range(count)]
    except struct.error:
        raise InputError("the archive ends within its table of contents") from None
    if magic != b"QTBL":
        raise InputError("the archive is not a data file of Flight of the Amazon Queen")
    if compression != 1:
        raise InputError(f"the archive holds no MP3 clips, as Debian's does (kind {compression})")
    members = {}
    for name, offset, size in entries:
        if offset + size > len(data):
            raise InputError("the archive is cut off")
        members[name.rstrip(b"\0").decode("latin-1")] = data[offset : offset + size]
    return members


def transcripts(members: dict[str, bytes]) -> dict[str, str]:
    """Map the clips of conversations and of Joe's object lines to their texts.

    Clips without text are skipped.
    """
    texts: dict[str, str] = {}
    for name, data in members.items():
        if name.endswith(".DOG"):
            for clips, line in talk_lines(data):
                texts.update(segments(clips, line))
    lines = members.get(JOE_LINES, b"").decode("latin-1").split("\r\n")
    for number, line in enumerate(lines, JOE_FIRST):
        texts.update(segments(f"JOE{number:04d}", line))
    return {clip: text for clip, text in texts.items() if f"{clip}.SB" in members}


def segments(clips: str, line: str) -> dict[str, str]:
    """Map the clips of a line, whose names begin with `clips`, to their texts."""
    pieces = zip(PIECES, COMMAND.split(line))
    return {clips + piece: text for piece, text in pieces if text.strip()}


def talk_lines(data: bytes) -> list[tuple[str, str]]:
    """List the lines of a conversation, each after the prefix of its clips' names."""
    data = data[BANK_HEADER:]
    levels, _, key, joe, other, others_at, _, openings_at = TALK.unpack_from(data)
    found = []
    # A conversation that cannot be left has a negative number of levels.
    for speaker, opening, count, at in (
        ("J", "SSSS", joe, LEVELS_AT + abs(levels) * LEVEL_SIZE),
        ("P", "XXXX", other, others_at),
    ):
        for line_id, line in numbered(data, at, count):
            # The opening among the other speaker's lines is Joe's too, for a second meeting.
            name = f"{key:02d}{line_id:04X}{speaker}" if line_id else f"{key:02d}{opening}J"
            found.append((name, line))
    length = data[openings_at]
    line = data[openings_at + 1 : openings_at + 1 + length].decode("latin-1")
    found.append((f"{key:02d}XXXXP", line))
    return found


def numbered(data: bytes, at: int, count: int) -> list[tuple[int, str]]:
    """Read number and text of `count` lines.

    Each line has 2 bytes, its number, length and text, and padding to a multiple of 4 bytes.
    """
    found = []
    for _ in range(count):
        line_id, length = struct.unpack_from(">2xHB", data, at)
        found.append((line_id, data[at + 5 : at + 5 + length].decode("latin-1")))
        at += 5 + length
        at += -at % 4
    return found
