"""The record format: fields, numbers, text, and files that are complete or absent."""

import json
import math
import os
import stat

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairseq_pdd.errors import UsageError
from fairseq_pdd.records import (
    FIELDS,
    JOINT_ESTIMATES,
    MEASURES,
    JsonLinesWriter,
    StdoutWriter,
    StreamWriter,
    collect_records,
    dumps,
    make_record,
)

SCORES = {"log_prob": -1.5, "sequence": {"total": 0.5}, "token": {"total": [0.25, 0.75]}}


def record(**changes):
    made = make_record(3, 1, "a b", "c", "d", ["d", "</s>"], SCORES)
    return {**made, **changes}


def test_fields_and_their_order():
    assert (*MEASURES, *JOINT_ESTIMATES) == FIELDS
    assert json.loads(dumps(record())) == {
        "id": 3,
        "rank": 1,
        "source": "a b",
        "reference": "c",
        "hypothesis": "d",
        "tokens": ["d", "</s>"],
        **SCORES,
    }
    assert list(record()) == [
        "id", "rank", "source", "reference", "hypothesis", "tokens", "log_prob", "sequence",
        "token",
    ]  # fmt: skip


@pytest.mark.parametrize("value", [math.inf, 1e300, 3.5e38])
def test_what_exceeds_float32_is_the_largest_number_and_comes_back_infinite(value):
    largest = 3.4028235e38
    values = np.array([1.0, value])
    sequence = {"epkl": value, "rmi": None}
    scores = {"log_prob": -value, "sequence": sequence, "token": {"epkl": values, "rmi": None}}
    line = dumps(record(**scores))
    loaded = json.loads(line, parse_constant=pytest.fail)
    assert loaded["log_prob"] == -largest
    assert loaded["sequence"] == {"epkl": largest, "rmi": None}
    assert loaded["token"] == {"epkl": [1.0, largest], "rmi": None}
    found = collect_records([{**loaded, "rank": 0}])
    assert found.log_probs[""].tolist() == [-math.inf]
    assert found.measures["epkl"].tolist() == [math.inf]
    assert found.tokens.measures["epkl"].tolist() == [1.0, math.inf]
    assert found.absent == ["rmi"]


NAN = np.float32([0.5, math.nan])


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"log_prob": math.nan}, "log_prob"),
        ({"sequence": {"rmi": math.nan}}, "sequence.rmi"),
        ({"token": {"epkl": NAN}}, "token.epkl"),
        ({"token": {"epkl": [0.5, math.nan]}}, "token.epkl"),
        ({"expr": {**SCORES, "token": {"total": NAN}}}, "expr.token.total"),
    ],
)
def test_nan_cannot_be_written(tmp_path, changes, name):
    path = tmp_path / "out.jsonl"
    message = rf"sentence 3, hypothesis 1: {name} is NaN: .*weights"
    with pytest.raises(UsageError, match=message), JsonLinesWriter(str(path)) as writer:
        writer.write(record(**changes))
    assert not path.exists()


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_numbers_survive_in_float32(value):
    loaded = json.loads(dumps({"x": value}))["x"]
    (of_array,) = json.loads(dumps({"x": np.array([value], dtype=np.float32)}))["x"]
    # exactly, subnormal numbers too
    assert np.float32(loaded) == np.float32(of_array) == np.float32(value)


@given(st.text())
def test_any_text_survives_on_one_line(text):
    line = dumps(record(hypothesis=text))
    assert line.splitlines() == [line[:-1]]
    assert line.endswith(b"\n")
    assert json.loads(line)["hypothesis"] == text


def test_letters_are_not_escaped():
    assert "größe 日本" in dumps(record(hypothesis="größe 日本")).decode()


def test_integers_and_booleans_are_unchanged():
    assert dumps({"id": 123456789, "flag": True}) == b'{"id":123456789,"flag":true}\n'


def test_file_appears_when_closed(tmp_path):
    path = tmp_path / "new" / "folder" / "out.jsonl"
    writer = JsonLinesWriter(str(path))
    writer.write(record(id=0))
    writer.write(record(id=1, hypothesis="größe"))
    assert not path.exists()
    writer.close()
    assert [json.loads(line)["id"] for line in path.read_text("utf-8").splitlines()] == [0, 1]
    assert os.listdir(path.parent) == ["out.jsonl"]


def test_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with JsonLinesWriter("out.jsonl") as writer:
        writer.write(record())
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 1


def test_an_older_file_stays_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text("older\n")

    def die():
        with JsonLinesWriter(str(path)) as writer:
            writer.write(record())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        die()
    assert path.read_text() == "older\n"
    with JsonLinesWriter(str(path)) as writer:
        writer.write(record())
    assert json.loads(path.read_text()) == record()


def test_a_record_that_cannot_be_written_leaves_no_file(tmp_path):
    path = tmp_path / "out.jsonl"
    with pytest.raises(TypeError), JsonLinesWriter(str(path)) as writer:
        writer.write(record(source=object()))
    assert not path.exists()


def test_paths_that_cannot_be_written(tmp_path):
    with pytest.raises(UsageError, match="is a folder"):
        JsonLinesWriter(str(tmp_path))
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot write"):
        JsonLinesWriter(str(tmp_path / "file" / "out.jsonl"))


def test_a_stream_can_be_read_while_it_is_written(tmp_path):
    path = tmp_path / "new" / "out.jsonl"
    writer = StreamWriter(str(path))
    for number in range(2):
        writer.write(record(id=number, hypothesis="größe"))
        lines = path.read_text("utf-8").splitlines()
        assert [json.loads(line)["id"] for line in lines] == list(range(number + 1))
    writer.close()
    assert os.listdir(path.parent) == ["out.jsonl"]
    with pytest.raises(UsageError, match="is a folder"):
        StreamWriter(str(tmp_path))


def test_standard_output(capsys):
    writer = StdoutWriter()
    writer.write(record(id=12))
    writer.close()
    name, _, text = capsys.readouterr().out.partition("\t")
    assert name == "U-12"
    assert json.loads(text) == record(id=12)


def test_one_writer_at_a_time(tmp_path):
    path = str(tmp_path / "out.jsonl")
    first = JsonLinesWriter(path)
    first.write(record(id=1))
    with pytest.raises(UsageError, match="another process is writing it"):
        JsonLinesWriter(path)
    first.close()
    assert json.loads((tmp_path / "out.jsonl").read_text())["id"] == 1
    stream = StreamWriter(path)
    with pytest.raises(UsageError, match="another process is writing it"):
        StreamWriter(path)
    stream.close()
    StreamWriter(path).close()


def test_the_part_of_a_killed_run_is_overwritten(tmp_path):
    (tmp_path / "out.jsonl.partial").write_text('{"half')
    with JsonLinesWriter(str(tmp_path / "out.jsonl")) as writer:
        writer.write(record())
    assert json.loads((tmp_path / "out.jsonl").read_text()) == record()
    assert os.listdir(tmp_path) == ["out.jsonl"]


def test_a_stream_keeps_an_older_file_until_its_first_record(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text("older\n")
    writer = StreamWriter(str(path))
    assert path.read_text() == "older\n"
    writer.write(record())
    writer.write(record())
    assert len(path.read_text().splitlines()) == 2
    writer.close()


@pytest.mark.parametrize("kind", [JsonLinesWriter, StreamWriter])
def test_devices_are_written_and_stay(tmp_path, kind):
    link = tmp_path / "link"
    link.symlink_to("/dev/null")
    writer = kind(str(link))
    writer.write(record())
    writer.close()
    assert link.is_symlink()
    assert os.listdir(tmp_path) == ["link"]
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


@pytest.mark.parametrize("kind", [JsonLinesWriter, StreamWriter])
def test_a_full_disk_is_one_line(kind):
    def write():
        writer = kind("/dev/full")
        for _ in range(1000):
            writer.write(record())
        writer.close()

    with pytest.raises(UsageError, match=r"cannot write /dev/full: .*No space left"):
        write()


def test_a_link_to_a_file_stays_a_link(tmp_path):
    target, link = tmp_path / "folder" / "target", tmp_path / "link"
    target.parent.mkdir()
    link.symlink_to(target)
    with JsonLinesWriter(str(link)) as writer:
        writer.write(record())
    assert link.is_symlink()
    assert json.loads(target.read_text()) == record()
    assert os.listdir(target.parent) == ["target"]
