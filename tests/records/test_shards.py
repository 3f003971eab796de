"""Shards of records, and what cannot be joined."""

import itertools
import json
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import pytest

from fairseq_pdd.errors import UsageError
from fairseq_pdd.records import dumps, read_records
from fairseq_pdd.records.shards import join_shards, shard_of, shard_path


def record(number: int, rank: int = 0) -> Dict[str, Any]:
    return {
        "id": number, "rank": rank, "hypothesis": "a", "tokens": ["a", "</s>"], "log_prob": -0.5,
        "sequence": {"total": float(number)}, "token": {"total": [0.25, 0.5]},
    }  # fmt: skip


def write_shards(folder: Path, *shards: List[Dict[str, Any]]) -> Path:
    path = folder / "u.test.jsonl"
    for number, records in enumerate(shards):
        file = Path(shard_path(str(path), (number, len(shards))))
        file.write_bytes(b"".join(map(dumps, records)))
    return path


def test_lines_are_sorted_and_stay_as_they_are(tmp_path: Path) -> None:
    shards = [record(10), record(2, 1), record(2)], [record(9)], [record(0), record(1)]
    path = write_shards(tmp_path, *shards)
    (tmp_path / "u.test.shard0-of-3.jsonl.txt").touch()
    (tmp_path / "v.test.shard0-of-2.jsonl").touch()
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert join_shards(path) == 5
    everything = sorted(itertools.chain(*shards), key=lambda r: (r["id"], r["rank"]))
    assert path.read_bytes() == b"".join(map(dumps, everything))
    assert read_records(path).ids.tolist() == [0, 1, 2, 2, 9, 10]
    path.unlink()
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def remove(name: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).unlink()


def write(name: str, content: bytes) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(content)


OTHER = json.dumps({**record(3), "sequence": {"data": 1.0}, "token": {}}).encode() + b"\n"


@pytest.mark.parametrize(
    ("spoil", "culprits"),
    [
        (remove("u.test.shard1-of-2.jsonl"), ["shard1-of-2.jsonl does not", "--shard-id 1"]),
        (write("u.test.shard0-of-2.jsonl.partial", b""), ["shard0-of-2.jsonl.partial exists"]),
        (write("u.test.shard0-of-4.jsonl", b""), ["--num-shards 2 and 4", "older"]),
        (
            write("u.test.shard1-of-2.jsonl", dumps(record(0))),
            ["shard0-of-2.jsonl and ", "shard1-of-2.jsonl both hold id 0, rank 0"],
        ),
        (write("u.test.shard1-of-2.jsonl", dumps(record(1))[:-9]), ["shard1-of-2.jsonl, line 1"]),
        (write("u.test.shard1-of-2.jsonl", b"[]\n"), ["shard1-of-2.jsonl, line 1"]),
        (write("u.test.shard1-of-2.jsonl", dumps(record(1, 1))), ["best hypothesis", "id 1"]),
        (write("u.test.shard1-of-2.jsonl", OTHER), ["u.test.jsonl, line 2"]),
    ],
)
def test_what_is_no_whole_run_is_refused(
    spoil: Callable[[Path], Any], culprits: List[str], tmp_path: Path
) -> None:
    path = write_shards(tmp_path, [record(0)], [record(1)])
    path.write_text("older\n")
    spoil(tmp_path)
    with pytest.raises(UsageError) as error:
        join_shards(path)
    assert all(culprit in str(error.value) for culprit in culprits), str(error.value)
    assert "\n" not in str(error.value)
    assert path.read_text() == "older\n"
    assert not list(tmp_path.glob("*.tmp"))


def test_a_path_without_shards_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"x\.shard0-of-2\.jsonl and the like do not exist"):
        join_shards(tmp_path / "x.jsonl")


@pytest.mark.parametrize(
    ("given", "shard"), [((1, None), None), ((4, None), None), ((4, 3), (3, 4)), ((2, 0), (0, 2))]
)
def test_numbers_of_shards(given: Tuple[int, Any], shard: Any) -> None:
    assert shard_of(*given) == shard
