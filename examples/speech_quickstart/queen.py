"""Speech of the game Flight of the Amazon Queen: clips and what is said in them.

The game's data file is an archive: "QTBL", a version of 6 bytes, 2 bytes of no interest, 1 byte
that tells of compression, the number of entries (all numbers are big-endian), and for each entry
its name (12 bytes), a byte, offset and size. Three kinds of entries matter:

  *.SB        a clip, MP3 in the archive that Debian has
  *.DOG       a conversation: who answers what, and all lines of it
  QUEEN2.JAS  what the hero, Joe, says of things he looks at, a line each

A line is spoken in segments, a clip each. Between them stand commands for the animation, such as
*03 or *XY00(128,112), and the n-th piece of the line has the n-th clip, counting empty pieces,
which have none. Clips are called by conversation, line, speaker and piece (06002BP1: in
conversation 6, line 2B, not Joe, first piece); openings have SSSS or XXXX in place of a line; Joe's
object lines are JOEnnnnp.
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
JOE_FIRST = 41  # the clip number of the first of those lines
BANK_HEADER = 20  # of a conversation, before what its offsets refer to
# Level count, key of its variables, key of its clips, numbers of lines of Joe and of the other, six
# numbers of no interest, three offsets: the other's lines, what follows, the openings.
TALK = struct.Struct(">5h12x3h")
LEVELS_AT, LEVEL_SIZE = 32, 96


def read_archive(data: bytes) -> dict[str, bytes]:
    """All entries of the archive by name.

    Raises:
        InputError: it is another file, or not all of it.
    """
    try:
        magic, _, compression, count = HEADER.unpack_from(data)
        entries = [ENTRY.unpack_from(data, HEADER.size + i * ENTRY.size) for i in range(count)]
    except struct.error:
        raise InputError("the archive ends within its table of contents") from None
    if magic != b"QTBL":
        raise InputError("the archive is no data file of Flight of the Amazon Queen")
    if compression != 1:
        raise InputError(f"the archive holds no MP3 clips, as Debian's does (kind {compression})")
    members = {}
    for name, offset, size in entries:
        if offset + size > len(data):
            raise InputError("the archive is cut off")
        members[name.rstrip(b"\0").decode("latin-1")] = data[offset : offset + size]
    return members


def transcripts(members: dict[str, bytes]) -> dict[str, str]:
    """Text by clip, for every clip of a conversation and of Joe's object lines that has a text."""
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
    """Text by clip of a line whose clips' names begin with `clips`."""
    pieces = zip(PIECES, COMMAND.split(line))
    return {clips + piece: text for piece, text in pieces if text.strip()}


def talk_lines(data: bytes) -> list[tuple[str, str]]:
    """The lines of a conversation, each after the beginning of its clips' names."""
    data = data[BANK_HEADER:]
    levels, _, key, joe, other, others_at, _, openings_at = TALK.unpack_from(data)
    found = []
    # A conversation that cannot be left has a negative number of levels.
    for speaker, opening, count, at in (
        ("J", "SSSS", joe, LEVELS_AT + abs(levels) * LEVEL_SIZE),
        ("P", "XXXX", other, others_at),
    ):
        for line_id, line in numbered(data, at, count):
            # Joe also speaks the opening among the other's lines: it is his when they meet again.
            name = f"{key:02d}{line_id:04X}{speaker}" if line_id else f"{key:02d}{opening}J"
            found.append((name, line))
    length = data[openings_at]
    line = data[openings_at + 1 : openings_at + 1 + length].decode("latin-1")
    found.append((f"{key:02d}XXXXP", line))
    return found


def numbered(data: bytes, at: int, count: int) -> list[tuple[int, str]]:
    """Number and text of `count` lines: 2 bytes, number, length, text, up to a multiple of 4."""
    found = []
    for _ in range(count):
        line_id, length = struct.unpack_from(">2xHB", data, at)
        found.append((line_id, data[at + 5 : at + 5 + length].decode("latin-1")))
        at += 5 + length
        at += -at % 4
    return found
