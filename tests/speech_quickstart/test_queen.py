"""The reader of the game's archive, on small archives made from the description of the format."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from queen import read_archive, segments, talk_lines, transcripts
from utterances import InputError


def archive(members: dict[str, bytes], compression: int = 1) -> bytes:
    count = len(members)
    header = b"QTBL" + b"CEM10\0" + b"\0\0" + bytes([compression]) + struct.pack(">H", count)
    offset = len(header) + 21 * count
    entries = b""
    for name, data in members.items():
        entries += name.encode().ljust(12, b"\0") + b"\1" + struct.pack(">II", offset, len(data))
        offset += len(data)
    return header + entries + b"".join(members.values())


def conversation(
    key: int, joe: dict[int, str], other: dict[int, str], opening: str, levels: int = 1
) -> bytes:
    """Make a conversation that has nothing but its lines."""

    def lines(numbered: dict[int, str], at: int) -> bytes:
        data = b""
        for number, text in numbered.items():
            data += struct.pack(">HHB", 0, number, len(text)) + text.encode("latin-1")
            data += b"\0" * (-(at + len(data)) % 4)
        return data

    start = 32 + abs(levels) * 96
    joe_lines = lines(joe, start)
    other_at = start + len(joe_lines)
    other_lines = lines(other, other_at)
    middle_at = other_at + len(other_lines)
    openings_at = middle_at + 8
    header = struct.pack(">5h", levels, 99, key, len(joe), len(other)) + bytes(12)
    header += struct.pack(">3h", other_at, middle_at, openings_at)
    body = header.ljust(start, b"\0") + joe_lines + other_lines + bytes(8)
    return b"\0" * 20 + body + bytes([len(opening)]) + opening.encode("latin-1")


def test_members_by_name():
    members = {"A.SB": b"clip", "LONGNAME.DOG": b"", "B.SB": bytes(range(256))}
    assert read_archive(archive(members)) == members


@given(st.dictionaries(st.text("AB01.", min_size=1, max_size=12), st.binary(max_size=40)))
def test_any_archive_is_read_back(members):
    assert read_archive(archive(members)) == members


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "table of contents"),
        (archive({"A.SB": b"clip"})[:30], "table of contents"),
        (archive({"A.SB": b"clip"})[:-1], "cut off"),
        (b"RIFF" + archive({"A.SB": b"clip"})[4:], "not a data file"),
        (archive({"A.SB": b"clip"}, compression=2), "no MP3"),
    ],
)
def test_other_or_incomplete_data_are_refused(data, message):
    with pytest.raises(InputError, match=message):
        read_archive(data)


@pytest.mark.parametrize("levels", [1, 3, -2])
def test_lines_of_a_conversation(levels):
    joe = {0: "Hi.*03", 0x1E: "What is it?*02", 7: "Odd*01 and*02 even"}
    data = conversation(6, joe, {0: "Hi again.*02", 0x1E: "A thing."}, "You again?", levels)
    assert talk_lines(data) == [
        ("06SSSSJ", "Hi.*03"),
        ("06001EJ", "What is it?*02"),
        ("060007J", "Odd*01 and*02 even"),
        ("06XXXXJ", "Hi again.*02"),
        ("06001EP", "A thing."),
        ("06XXXXP", "You again?"),
    ]


def test_empty_pieces_are_counted():
    assert segments("060007P", "*XY00(128,112)*FLWhat?*00*01 No.*02") == {
        "060007P3": "What?",
        "060007P5": " No.",
    }


def test_only_clips_in_the_archive_have_transcripts():
    members = {
        "BOB.DOG": conversation(12, {5: "One*01Two*02"}, {5: "Yes."}, "Well?"),
        "QUEEN2.JAS": b"It looks nice*03\r\nc2c.CUT\r\nTsk*03Tsk tsk*24",
        "120005J2.SB": b"",
        "120005P1.SB": b"",
        "12XXXXP1.SB": b"",
        "JOE00411.SB": b"",
        "JOE00432.SB": b"",
    }
    assert transcripts(members) == {
        "120005J2": "Two",
        "120005P1": "Yes.",
        "12XXXXP1": "Well?",
        "JOE00411": "It looks nice",
        "JOE00432": "Tsk tsk",
    }
