"""Columns of files of records, against a walk through the records one by one."""

import json
import logging
import math
import random
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np
import pytest

from fairseq_pdd.errors import UsageError
from fairseq_pdd.records import (
    FIELDS,
    JsonLinesWriter,
    RecordSet,
    collect_records,
    make_record,
    read_records,
)

from ..assess import making


def record(number: int, total: Optional[float], rank: int = 0, **changes: Any) -> Dict[str, Any]:
    return {
        "id": number,
        "rank": rank,
        "source": "a",
        "reference": "b",
        "hypothesis": "c",
        "tokens": ["c", "</s>"],
        "log_prob": -3.0,
        "sequence": {"total": total, "rmi": None},
        "token": {"total": [total, total], "rmi": None},
        **changes,
    }


LINE = json.dumps(record(7, 0.5))


def write(path: Path, lines: List[Any]) -> Path:
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return path


def check_columns(found: RecordSet, expected: List[Dict[str, Any]]) -> None:
    """Compare all columns with records that are in order."""
    assert len(found) == len(expected)
    assert found.ids.tolist() == [r["id"] for r in expected]
    assert found.ranks.tolist() == [r["rank"] for r in expected]
    assert found.sources == [r["source"] for r in expected]
    assert found.references == [r["reference"] for r in expected]
    assert found.hypotheses == [r["hypothesis"] for r in expected]
    assert found.utterances == [r.get("utterance") for r in expected]
    assert found.lengths.tolist() == [len(r["tokens"]) for r in expected]
    assert [found.tokens.symbols(i) for i in range(len(found))] == [r["tokens"] for r in expected]
    blocks = {"": expected}
    if "expr" in expected[0]:
        blocks["expr."] = [r["expr"] for r in expected]
    names = []
    for prefix, walked in blocks.items():
        assert found.log_probs[prefix].tolist() == [b["log_prob"] for b in walked]
        for name in walked[0]["sequence"]:
            names.append(prefix + name)
            if walked[0]["sequence"][name] is None:
                assert prefix + name in found.absent
                assert prefix + name in found.tokens.absent
                continue
            assert found.measures[prefix + name].tolist() == [b["sequence"][name] for b in walked]
            values = [value for b in walked for value in b["token"][name]]
            assert found.tokens.measures[prefix + name].tolist() == values
    assert [*found.measures, *found.absent] == sorted(names, key=found.absent.__contains__)
    assert set(found.log_probs) == set(blocks)


@pytest.mark.parametrize("kind", ["ensemble", "student", "single"])
def test_columns_hold_all_values_by_id_and_rank(tmp_path: Path, kind: str) -> None:
    made = making.records(12, 0.3, seed=0, kind=kind, nbest=3)
    shuffled = made[:]
    random.Random(0).shuffle(shuffled)
    check_columns(read_records(write(tmp_path / "r.jsonl", shuffled)), made)
    check_columns(collect_records(made), made)
    check_columns(collect_records(shuffled).best(), made[::3])
    rows = np.array([4, 0, 35])
    check_columns(collect_records(shuffled).select(rows), [made[row] for row in rows])


def test_written_files_come_back(tmp_path: Path) -> None:
    values = np.float32([0.1, 2.5e-8])
    scores = {
        "log_prob": -1.5,
        "sequence": dict.fromkeys(FIELDS, float(values.mean())),
        "token": dict.fromkeys(FIELDS, values),
    }
    with JsonLinesWriter(str(tmp_path / "r.jsonl")) as writer:
        writer.write(make_record(0, 0, None, None, "c", ["c", "</s>"], scores, utterance="u1"))
    found = read_records(tmp_path / "r.jsonl")
    assert found.utterances == ["u1"]
    assert found.sources == found.references == [None]
    assert list(found.measures) == list(FIELDS)
    for name in FIELDS:
        assert np.float32(found.tokens.measures[name]).tolist() == values.tolist()


def test_tokens_of_lower_ranks_can_be_skipped(tmp_path: Path) -> None:
    made = making.records(6, 0.3, seed=0, nbest=3)
    path = write(tmp_path / "r.jsonl", made[::-1])
    check_columns(read_records(path, token_ranks=1).best(), made[::3])
    found = read_records(path, token_ranks=2)
    assert found.lengths.tolist() == [len(r["tokens"]) for r in made]
    assert [len(found.tokens.symbols(i)) for i in range(18)] == [
        len(r["tokens"]) if r["rank"] < 2 else 0 for r in made
    ]
    none = read_records(path, token_ranks=0)
    assert len(none.tokens.ids) == 0
    assert none.tokens.measures == {}
    assert none.measures["total"].tolist() == [r["sequence"]["total"] for r in made]
    # values that are skipped are not looked at
    made[1]["token"]["total"] = ["high"]
    assert len(read_records(write(path, made), token_ranks=1)) == 18


def test_other_ends_of_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(f"{LINE}\r\n{LINE}".replace('"id": 7', '"id": 8', 1).encode())
    assert read_records(path).ids.tolist() == [7, 8]


def test_text_may_hold_any_character(tmp_path: Path) -> None:
    # U+2028 and U+0085 are line breaks to str.splitlines
    lines = [record(1, 0.5, hypothesis="a\u2028b\u0085\n<b>"), record(0, 1.0)]
    found = read_records(write(tmp_path / "r.jsonl", lines))
    assert found.hypotheses == ["c", "a\u2028b\u0085\n<b>"]


LARGEST = 3.4028235e38  # float32's, as it is written


def test_the_largest_number_of_float32_is_read_as_infinite() -> None:
    assert np.float32(LARGEST) == np.finfo(np.float32).max
    below = float(np.nextafter(np.float32(LARGEST), np.float32(0)))
    lines = [record(0, LARGEST), record(1, below), record(2, -LARGEST, log_prob=-LARGEST)]
    lines[1]["token"]["total"] = [1e39, 2.0]
    found = collect_records(lines)
    assert found.measures["total"].tolist() == [math.inf, below, -math.inf]
    assert found.log_probs[""].tolist() == [-3.0, -3.0, -math.inf]
    assert found.tokens.measures["total"].tolist() == [
        math.inf, math.inf, math.inf, 2.0, -math.inf, -math.inf
    ]  # fmt: skip
    assert found.absent == found.tokens.absent == ["rmi"]


def test_a_null_is_a_measure_that_the_model_does_not_have() -> None:
    """In all records or in none; elsewhere it hides a number that is none."""
    lines = [record(0, 1.0), record(1, 2.0), record(2, 3.0)]

    def refused(*changed: int, message: str, **changes: Any) -> None:
        made = [{**line, **(changes if i in changed else {})} for i, line in enumerate(lines)]
        with pytest.raises(UsageError, match=message):
            collect_records(made)

    nothing = {"total": None, "rmi": None}
    refused(2, sequence=nothing, message="line 3: 'total' is null here and has values in the lines")
    refused(0, sequence=nothing, message="line 2: 'total' has a value here and is null in the")
    refused(1, token=nothing, message="line 2: 'total' is null here and has values")
    odd = {"total": [1.0, None], "rmi": None}
    refused(0, 1, 2, token=odd, message="line 1: 'total', token 2, is no number but null: write")
    refused(1, log_prob=None, message="line 2: 'log_prob' is no number but null: write the file")
    everywhere = [{**line, "sequence": nothing, "token": nothing} for line in lines]
    found = collect_records(everywhere)
    assert found.measures == found.tokens.measures == {}
    assert found.absent == found.tokens.absent == ["total", "rmi"]


@pytest.mark.parametrize(
    ("pairs", "mark"),
    [
        ([("▁ein ▁h aus", ["▁ein", "▁h", "aus", "</s>"]), ("x", ["x", "</s>"])], "▁"),
        ([("ein h@@ aus", ["ein", "h@@", "aus", "</s>"])], "@@"),
        # detokenised, one text is enough
        ([("ein haus", ["▁ein", "▁h", "aus"]), ("▁so", ["▁so"])], ""),
        # words, of which one is "@@"
        ([("@@ -1,3 +1,3 @@ fix", ["@@", "-1,3", "+1,3", "@@", "fix", "</s>"])], ""),
        ([("@@ -1 fix", ["▁@@", "▁-1", "▁fix", "</s>"])], ""),
    ],
)
def test_texts_that_are_raw_symbols_are_found(pairs: List[Any], mark: str) -> None:
    made = [
        record(i, 0.5, hypothesis=text, tokens=tokens, token={"total": None})
        for i, (text, tokens) in enumerate(pairs)
    ]
    assert collect_records(made).mark == mark
    assert collect_records(made, token_ranks=0).mark == mark


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("{}\n", "line 1, lacks id"),
        ("nonsense\n", "line 1, is no JSON"),
        ("3\n", "line 1, is no JSON object"),
        (LINE.replace("0.5", "NaN") + "\n", "line 1, is no JSON object: NaN is no JSON number"),
        ("\n", "line 1, is no JSON object: it is blank; delete it"),
        (f"{LINE}\n\n{LINE}\n", "line 2, is no JSON object: it is blank"),
        (f"\ufeff{LINE}\n", "line 1, is no JSON object: it begins with a byte order mark"),
        (f"{LINE} {LINE}\n", "line 1, is no JSON object: Extra data, column"),
        (LINE[:50], "line 1, is no JSON object: .*, column"),
        (LINE.replace("0.5", "Infinity") + "\n", "line 1, is no JSON object: Infinity is no"),
        ("[" * 100_000, "line 1, is no JSON object: maximum recursion"),
        *(
            (LINE.replace('"rank": 0', f'"rank": {rank}'), "line 1: id and rank must be whole num")
            for rank in ('"0"', "-1", "0.0", "true", "null", "9223372036854775808")
        ),
        *(
            (json.dumps(record(7, 0.5, **{name: odd})), f"line 1: {name} must be a string")
            for name, odd in {
                "hypothesis": None,
                "reference": 3,
                "source": ["a"],
                "utterance": 1,
            }.items()
        ),
        *(
            (json.dumps(record(7, 0.5, tokens=odd)), "line 1: tokens must be a list of strings")
            for odd in (None, [], "c", ["c", 3], ["c", None], {"c": 1})
        ),
        *(
            (json.dumps(record(7, 0.5, expr=odd)), "line 1: expr must be a JSON object")
            for odd in ([], "x", 0, False, 3.5)
        ),
        (LINE.replace("[0.5, 0.5]", "[0.5, true]"), "'total', token 2, is no number but True"),
        (LINE.replace("[0.5, 0.5]", "0.5"), "line 1: the tokens' values of 'total' must be a list"),
        (LINE.replace("[0.5, 0.5]", "[0.5, 1" + "0" * 400 + "]"), "whole number beyond float64"),
        (json.dumps(record(0, True)), "line 1: 'total' is no number but True"),
        (json.dumps(record(0, 0.5, log_prob="-3")), "line 1: 'log_prob' is no number but '-3'"),
        (json.dumps(record(0, 0.5, log_prob=0.5)), "line 1: log_prob is above 0"),
        (json.dumps(record(0, 0.5, sequence={"log_prob": 1})), "a measure is called 'log_prob'"),
        (json.dumps(record(0, 0.5, sequence={"expr.rmi": 1})), "a measure is called 'expr.rmi'"),
        (f"{LINE}\n" + json.dumps(record(8, 0.5, token={"rmi": None})), r"line 2 .*\('total'\)"),
        (f"{LINE}\n{LINE}\n", "line 2, repeats id 7, rank 0"),
        (LINE.replace('"rank": 0', '"rank": 1'), "no best hypothesis .rank 0. of id 7"),
        (LINE.replace("[0.5, 0.5]", "[0.5]"), "line 1: 2 tokens but 1 values of 'total'"),
        (LINE.replace("[0.5, 0.5]", '[0.5, "x"]'), "'total', token 2, is no number but 'x'"),
        (json.dumps(record(0, "high")), "line 1: 'total' is no number but 'high'"),  # type: ignore[arg-type]
        (json.dumps(record(0, 0.5, token=[])), "line 1: sequence and token must be JSON objects"),
        (json.dumps(record(0, 0.5, expr={"token": {}})), "lacks expr.log_prob, expr.sequence: is"),
        (
            f"{LINE}\n" + json.dumps(record(8, 0.5, sequence={"total": 1.0})),
            "line 2 has other measures than the lines before it .'rmi'.",
        ),
    ],
)
def test_a_file_that_holds_no_records_is_refused(
    tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(content)
    with pytest.raises(UsageError, match=message) as caught:
        read_records(path)
    assert str(path) in caught.value.message


def test_files_of_several_systems_are_refused() -> None:
    ensemble = making.records(2, 0.3, seed=0, kind="ensemble")
    single = making.records(3, 0.3, seed=0, kind="single")
    with pytest.raises(UsageError, match="line 5 has other measures than the lines before it"):
        collect_records([*ensemble, *single[-2:]])


def test_text_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(f"{LINE}\n".encode() + b'{"id": "\xff"}\n')
    with pytest.raises(UsageError, match="line 2, is no JSON object"):
        read_records(path)


def test_missing_sentences_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "r.jsonl", [record(i, 1.0) for i in (0, 1, 3, 6)])
    with caplog.at_level(logging.WARNING):
        assert len(read_records(path)) == 4
    assert "r.jsonl lacks 3 of the ids up to 6, the first of them 2" in caplog.text


def test_a_run_that_did_not_finish_differs_from_a_wrong_name(tmp_path: Path) -> None:
    write(tmp_path / "r.jsonl.partial", [record(0, 1.0)])
    with pytest.raises(UsageError, match="fairseq-generate did not finish; run it again"):
        read_records(tmp_path / "r.jsonl")
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        read_records(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"r\.jsonl does not exist: write it with"):
        read_records(tmp_path / "r.jsonl")
