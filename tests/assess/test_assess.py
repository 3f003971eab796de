"""Reading of records and detection of out-of-domain input."""

import ast
import json
import logging
import math
import random
from pathlib import Path
from typing import Any, Dict, List, Optional

import pytest

from fairseq_pdd import assess
from fairseq_pdd.assess import best, negative_log_likelihood, read_records, roc_auc
from fairseq_pdd.errors import UsageError


def record(number: int, total: Optional[float], rank: int = 0) -> Dict[str, Any]:
    return {
        "id": number,
        "rank": rank,
        "source": "a",
        "reference": "b",
        "hypothesis": "c",
        "tokens": ["c", "</s>"],
        "log_prob": -3.0,
        "sequence": {"total": total},
        "token": {"total": [total, total]},
    }


LINE = json.dumps(record(7, 0.5))


def write(path: Path, lines: List[Any]) -> Path:
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return path


def test_records_come_back_whatever_characters_they_hold(tmp_path: Path) -> None:
    # U+2028 and U+0085 are line breaks to str.splitlines
    lines = [{**record(1, 0.5), "hypothesis": "a\u2028b\u0085\n<b>"}, record(0, 1.0)]
    path = write(tmp_path / "r.jsonl", lines)
    assert read_records(path) == lines
    assert [r["id"] for r in best(read_records(path))] == [0, 1]


def test_best_leaves_out_lower_ranks() -> None:
    assert best([record(3, 1.0, rank=1), record(3, 2.0)]) == [record(3, 2.0)]


def test_likelihood_is_per_token_of_the_corpus() -> None:
    long = {**record(1, 1.0), "log_prob": -1.0, "tokens": ["x"] * 8}
    assert negative_log_likelihood([record(0, 1.0), long]) == pytest.approx(0.4)


def test_an_impossible_output_has_no_likelihood() -> None:
    with pytest.raises(UsageError, match="id 4 has log_prob null"):
        negative_log_likelihood([record(0, 1.0), {**record(4, 1.0), "log_prob": None}])


def test_assess_imports_neither_torch_nor_fairseq() -> None:
    files = Path(assess.__file__).parent.rglob("*.py")
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
                # of this package: the errors
                assert node.level < 2 or node.module == "errors", f"{file.name}: {node.module}"
            else:
                continue
            assert not {name.split(".")[0] for name in names} & {"torch", "fairseq"}, file.name


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("{}\n", "line 1, lacks id"),
        ("nonsense\n", "line 1, is no JSON"),
        ("3\n", "line 1, is no JSON object"),
        (LINE.replace("0.5", "NaN") + "\n", "line 1, is no JSON object: NaN is no JSON number"),
        (LINE.replace('"rank": 0', '"rank": "0"'), "line 1: id and rank must be whole numbers"),
        (f"{LINE}\n{LINE}\n", "line 2, repeats id 7, rank 0"),
        (LINE.replace('"rank": 0', '"rank": 1'), "no best hypothesis .rank 0. of id 7"),
    ],
)
def test_a_file_that_holds_no_records_is_refused(
    tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(content)
    with pytest.raises(UsageError, match=message):
        read_records(path)


def test_text_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(f"{LINE}\n".encode() + b'{"id": "\xff"}\n')
    with pytest.raises(UsageError, match="line 2, is no JSON object"):
        read_records(path)


def test_missing_sentences_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "r.jsonl", [record(i, 1.0) for i in (0, 1, 3, 6)])
    with caplog.at_level(logging.WARNING):
        assert len(read_records(path)) == 4
    assert "r.jsonl lacks 3 of the ids up to 6, the first of them 2" in caplog.text


def test_a_run_that_did_not_finish_is_told_from_a_wrong_name(tmp_path: Path) -> None:
    write(tmp_path / "r.jsonl.partial", [record(0, 1.0)])
    with pytest.raises(UsageError, match="fairseq-generate did not finish; run it again"):
        read_records(tmp_path / "r.jsonl")
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        read_records(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"r\.jsonl does not exist"):
        read_records(tmp_path / "r.jsonl")


def test_roc_auc_is_the_chance_that_an_outsider_is_more_uncertain() -> None:
    rng = random.Random(0)
    # few distinct values, so that ties count too
    inside = [record(i, rng.randint(0, 9) / 10) for i in range(40)]
    outside = [record(i, rng.randint(3, 12) / 10) for i in range(25)]
    wins = sum(
        0.5 * (a["sequence"]["total"] == b["sequence"]["total"])
        + (b["sequence"]["total"] > a["sequence"]["total"])
        for a in inside
        for b in outside
    )
    assert roc_auc(inside, outside, "total") == pytest.approx(wins / (40 * 25))
    assert math.isclose(roc_auc(inside, outside, "total") + roc_auc(outside, inside, "total"), 1.0)


def test_a_model_without_the_measure_has_no_auc() -> None:
    assert roc_auc([record(0, None)], [record(0, 1.0)], "total") is None
    with pytest.raises(UsageError, match="no measure 'rmi'"):
        roc_auc([record(0, 1.0)], [record(0, 1.0)], "rmi")
