"""Systems, seeds and sets side by side."""

import glob
import json
import logging
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from fairseq_pdd.assess import (
    SPEECH,
    TRANSLATION,
    Combination,
    Metric,
    Style,
    System,
    build_table,
    choose_systems,
    combine,
    corpus_quality,
    detect,
    find_systems,
    latex,
    markdown,
    negative_log_likelihood,
    set_name,
    sets_of,
)
from fairseq_pdd.errors import UsageError
from fairseq_pdd.records import read_records

from . import making


def area(inside: np.ndarray, outside: np.ndarray) -> float:
    found = detect(inside, outside, 0)
    assert found is not None
    return found.roc_auc.value


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return making.write_folder(tmp_path_factory.mktemp("table") / "records")


def test_seeds_are_runs_of_a_system(folder: Path) -> None:
    systems = find_systems(folder)
    assert [system.name for system in systems] == ["ensemble", "pd_send2", "single"]
    assert systems[2].runs == (folder / "single-seed1", folder / "single-seed2")
    assert sets_of(systems) == ["nll", "nll_ensemble", "ood_french", "ood_permuted", "test"]


def test_systems_are_selected_named_and_ordered(folder: Path) -> None:
    choices = ["PD-SEnD²=pd_send2", "Single=single-*", "both=ensemble,pd_send2", "ensemble"]
    assert choose_systems(folder, choices) == [
        System("PD-SEnD²", (folder / "pd_send2",)),
        System("Single", (folder / "single-seed1", folder / "single-seed2")),
        System("both", (folder / "ensemble", folder / "pd_send2")),
        System("ensemble", (folder / "ensemble",)),
    ]
    with pytest.raises(UsageError, match="sent does not exist: --system 'S=sent' names no folder"):
        choose_systems(folder, ["S=sent"])
    with pytest.raises(UsageError, match="two systems are called 'S'"):
        choose_systems(folder, ["S=single-seed1", "S=single-seed2"])


def named(root: Path, *names: str) -> Path:
    """Make a folder of systems with names that people have."""
    for name in names:
        making.write(root / name / "test.jsonl", making.records(4, 0.3, seed=1))
    return root


NAMES = [
    "a=b",
    "lr=0.1,wd=0",
    "run[0.1]",
    "$x$",
    "_private",
    "two words",
    "a-seed1-b",
    "-seed2",
    "x*",
]


def test_folders_may_have_any_name(tmp_path: Path) -> None:
    folder = named(tmp_path / "with = and [0]", *NAMES)
    assert [system.name for system in find_systems(folder)] == sorted(NAMES)
    for name in NAMES:
        (alone,) = choose_systems(folder, [name])
        assert alone == System(name, (folder / name,))
        assert choose_systems(folder, [f"A = B={name}"]) == [System("A = B", (folder / name,))]
        absolute = folder / name
        assert choose_systems(Path("elsewhere"), [f"S={absolute}"]) == [System("S", (absolute,))]
    pair = f"S=a=b,{folder / '_private'}"
    assert choose_systems(folder, [pair])[0].runs == (folder / "a=b", folder / "_private")
    wild = f"S={glob.escape(str(folder))}/*-seed*"
    assert choose_systems(folder, [wild])[0].runs == (folder / "-seed2", folder / "a-seed1-b")


def test_names_that_are_no_utf8_are_escaped(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9-seed1")
    folder = named(tmp_path, name, "new\nline")
    assert [system.name for system in find_systems(folder)] == [r"caf\xe9", r"new\nline"]
    (system,) = choose_systems(folder, [name])
    assert system.name == r"caf\xe9-seed1"
    assert set_name(os.fsdecode(b"ood_caf\xe9")) == r"caf\xe9"
    assert set_name("ood_") == "ood_"


def test_copies_that_programs_made_are_no_systems(tmp_path: Path) -> None:
    folder = named(tmp_path, "a", ".ipynb_checkpoints")
    shutil.copy(folder / "a" / "test.jsonl", folder / "a" / "._test.jsonl")
    assert [system.name for system in find_systems(folder)] == ["a"]
    assert sets_of(find_systems(folder)) == ["test"]


def test_a_run_counts_once(tmp_path: Path) -> None:
    folder = named(tmp_path, "a")
    (folder / "empty").mkdir()
    with pytest.raises(UsageError, match="a is twice in --system 'S=a,a'"):
        choose_systems(folder, ["S=a,a"])
    with pytest.raises(UsageError, match="empty has no records"):
        choose_systems(folder, ["S=empty"])


def test_every_number_is_that_of_its_function(folder: Path) -> None:
    table = build_table(find_systems(folder), SPEECH)
    run = folder / "pd_send2"
    (row,) = table.rows["pd_send2"]
    test = read_records(run / "test.jsonl")
    assert row["WER"] == corpus_quality(test.best(), Metric.wer).value
    assert row["NLL"] == negative_log_likelihood(read_records(run / "nll.jsonl"))
    ensemble = read_records(run / "nll_ensemble.jsonl")
    assert row["NLL Ens-Pred"] == negative_log_likelihood(ensemble)
    inside = combine(test)
    outside = combine(read_records(run / "ood_french.jsonl"))
    for measure in ("total", "rmi", "mutual_information", "epkl"):
        auc = area(inside[measure], outside[measure])
        assert row[f"ood_french {measure}"] == pytest.approx(100 * auc)
    # a single model has no knowledge uncertainty
    assert all(run["ood_french rmi"] is None for run in table.rows["single"])
    assert len(table.rows["single"]) == 2


def test_columns_are_the_papers(folder: Path) -> None:
    table = build_table(find_systems(folder), TRANSLATION)
    assert [(c.group, c.name) for c in table.columns] == [
        ("", "BLEU"),
        ("", "NLL"),
        ("", "NLL Ens-Pred"),
        ("french", "total"),
        ("french", "rmi"),
        ("permuted", "total"),
        ("permuted", "rmi"),
    ]
    cells = {row[0]: row[1:] for row in table.cells()}
    values = [run["BLEU"] for run in table.rows["single"]]
    assert cells["single"][0] == f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"
    assert cells["single"][4] == "–"
    assert "±" not in cells["ensemble"][0]


def test_markdown_and_latex_hold_all_cells(folder: Path) -> None:
    table = build_table(choose_systems(folder, ["A & B|²=single-*", "pd_send2"]), SPEECH)
    text = markdown(table)
    lines = text.splitlines()
    assert "french mutual_information" in lines[0]
    assert lines[2].startswith(r"| A & B\|²")
    assert sum(line.startswith("- ") for line in lines) == len(table.notes) == 3
    source = latex(table)
    body = [line for line in source.splitlines() if not line.startswith("%")]
    assert body[0] == r"\begin{tabular}{lccccccccccc}"
    assert body[2] == r" &  &  &  & \multicolumn{4}{c}{french} & \multicolumn{4}{c}{permuted} \\"
    assert body[3] == r"\cmidrule(lr){5-8}\cmidrule(lr){9-12}"
    assert body[4].count(r"$\mathcal{K}$") == 2
    assert body[6].startswith(r"A \& B\textbar{}$^2$ & ")
    assert r"$\pm$" in body[6]
    assert body[7].startswith(r"pd\_send2 & ")
    rows = [line for line in body if line.endswith(r"\\")]
    assert {line.count("&") - line.count(r"\&") for line in rows[1:]} == {11}


def test_latex_without_sets_has_one_header_line(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "ensemble", tmp_path / "ensemble")
    for name in ("ood_french", "ood_permuted", "nll", "nll_ensemble"):
        (tmp_path / "ensemble" / f"{name}.jsonl").unlink()
    table = build_table(find_systems(tmp_path), TRANSLATION)
    assert [column.key for column in table.columns] == ["BLEU"]
    assert r"\cmidrule" not in latex(table)
    assert "NLL" not in markdown(table)


def test_nbest_lists_are_combined(folder: Path) -> None:
    style = Style(Metric.chrf, ("expr.rmi",), Combination.weighted, 2.0)
    table = build_table(choose_systems(folder, ["ensemble"]), style)
    inside, outside = (
        combine(read_records(folder / "ensemble" / f"{name}.jsonl"), Combination.weighted, 2.0)
        for name in ("test", "ood_permuted")
    )
    auc = area(inside["expr.rmi"], outside["expr.rmi"])
    assert table.rows["ensemble"][0]["ood_permuted expr.rmi"] == pytest.approx(100 * auc)
    assert "weights exp(ln P / 2)" in table.notes[1]


def test_a_measure_of_no_system_is_logged_and_an_unknown_one_refused(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    single = choose_systems(folder, ["single-seed1"])
    with caplog.at_level(logging.WARNING):
        build_table(single, TRANSLATION)
    assert "no system has the measure 'rmi'" in caplog.text
    with pytest.raises(UsageError, match="no measure 'rnmi'"):
        build_table(single, Style(Metric.bleu, ("rnmi",)))


def test_runs_with_other_sets_or_sentences_are_refused(folder: Path, tmp_path: Path) -> None:
    for system in ("ensemble", "pd_send2"):
        shutil.copytree(folder / system, tmp_path / system)
    path = tmp_path / "pd_send2" / "ood_french.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-2]))
    with pytest.raises(UsageError, match="do not have the same sentences: only one has id 39"):
        build_table(find_systems(tmp_path), TRANSLATION)
    path.unlink()
    with pytest.raises(UsageError, match=r"pd_send2 lacks ood_french\.jsonl, which .*ensemble has"):
        build_table(find_systems(tmp_path), TRANSLATION)
    with pytest.raises(UsageError, match="empty is no folder"):
        find_systems(tmp_path / "empty")
    for run in ("ensemble", "pd_send2"):
        (tmp_path / run / "test.jsonl").unlink()
    with pytest.raises(UsageError, match=r"lacks test\.jsonl, the in-domain test set"):
        sets_of([System("ensemble", (tmp_path / "ensemble",))])


def copy_two(folder: Path, tmp_path: Path) -> Path:
    for system in ("ensemble", "pd_send2"):
        shutil.copytree(folder / system, tmp_path / system)
    return tmp_path


@pytest.mark.parametrize("name", ["test", "ood_french", "nll", "nll_ensemble"])
@pytest.mark.parametrize(("field", "words"), [("reference", "references"), ("source", "sources")])
def test_systems_with_other_texts_are_refused(
    folder: Path, tmp_path: Path, name: str, field: str, words: str
) -> None:
    root = copy_two(folder, tmp_path)
    path = root / "pd_send2" / f"{name}.jsonl"
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    for line in lines:
        if line["id"] in (7, 9):
            line[field] += " more"
    making.write(path, lines)
    message = rf"{path} and .*ensemble/{name}\.jsonl have different {words}: id 7 is the first of 2"
    with pytest.raises(UsageError, match=message):
        build_table(find_systems(root), TRANSLATION)


def test_texts_are_compared_where_both_have_them(folder: Path, tmp_path: Path) -> None:
    """Another vocabulary has other unknown words and pieces; blind sets have no reference."""
    root = copy_two(folder, tmp_path)
    path = root / "pd_send2" / "ood_french.jsonl"
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    for line in lines:
        line.update(reference=None, source=line["source"].replace("word1", "<unk>", 1))
    making.write(path, lines)
    assert len(build_table(find_systems(root), TRANSLATION).rows) == 2


def test_raw_symbols_of_two_vocabularies_are_the_same_text(tmp_path: Path) -> None:
    pieces = {"a": ["▁the", "▁c", "at", "</s>"], "b": ["▁th", "e", "▁cat", "</s>"]}
    for system, tokens in pieces.items():
        raw = " ".join(tokens[:-1])
        made = [making.output(i, tokens, [0.1, 0.2, 0.3, 0.4], raw, raw) for i in range(3)]
        making.write(tmp_path / system / "test.jsonl", made)
    table = build_table(find_systems(tmp_path), SPEECH)
    assert [row["WER"] for rows in table.rows.values() for row in rows] == [0, 0]


def test_a_set_of_another_system_is_refused(folder: Path, tmp_path: Path) -> None:
    root = copy_two(folder, tmp_path)
    shutil.copy(folder / "single-seed1" / "ood_french.jsonl", root / "pd_send2")
    with pytest.raises(
        UsageError, match=r"pd_send2/test\.jsonl and .*french\.jsonl: only one .* data"
    ):
        build_table(find_systems(root), TRANSLATION)


def test_what_is_not_defined_is_a_dash(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, size in (("test", 4), ("ood_one", 1), ("ood_same", 4)):
        lines = making.records(size, 0.3, seed=1, kind="student")
        for line in lines:
            line["sequence"]["rmi"] = 0.5
        making.write(tmp_path / "s" / f"{name}.jsonl", lines)
    with caplog.at_level(logging.WARNING):
        table = build_table(find_systems(tmp_path), TRANSLATION)
    # one total, one rmi, same total, same rmi
    assert [cell == "–" for cell in table.cells()[0][2:]] == [True, True, False, True]
    assert "one: total is of a set with one sentence" in caplog.text
    assert "same: rmi has the same value for every sentence" in caplog.text


def test_names_are_no_markup(tmp_path: Path) -> None:
    folder = named(tmp_path, *NAMES)
    for name in NAMES:
        making.write(folder / name / "ood_a|b_[0].jsonl", making.records(4, 0.5, seed=2))
    table = build_table(find_systems(folder), TRANSLATION)
    lines = markdown(table).splitlines()
    columns = [re.sub(r"\\.", "", line).count("|") for line in lines[: 2 + len(NAMES)]]
    assert set(columns) == {5}
    assert any(line.startswith(r"| \_private ") for line in lines)
    assert any(line.startswith(r"| \$x\$ ") for line in lines)
    rows = [line for line in latex(table).splitlines() if line.endswith(r"\\")]
    # "[" and "*" after the end of a line are its arguments
    assert not [row for row in rows if row.startswith(("[", "*"))]
    assert any(row.startswith("run{[}0.1{]} & ") for row in rows)
    assert any(row.startswith(r"\$x\$ & ") for row in rows)
