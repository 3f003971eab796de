"""Systems, seeds and sets side by side."""

import logging
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
    sets_of,
)
from fairseq_pdd.errors import UsageError
from fairseq_pdd.records import read_records

from . import making


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
    with pytest.raises(UsageError, match="sent does not exist: 'S=sent' names no records"):
        choose_systems(folder, ["S=sent"])
    with pytest.raises(UsageError, match="two systems are called 'S'"):
        choose_systems(folder, ["S=single-seed1", "S=single-seed2"])


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
        auc = detect(inside[measure], outside[measure], 0).roc_auc.value
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
    assert body[6].startswith(r"A \& B|$^2$ & ")
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
    auc = detect(inside["expr.rmi"], outside["expr.rmi"], 0).roc_auc.value
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
    with pytest.raises(UsageError, match="empty has no records"):
        find_systems(tmp_path / "empty")
    for run in ("ensemble", "pd_send2"):
        (tmp_path / run / "test.jsonl").unlink()
    with pytest.raises(UsageError, match=r"lacks test\.jsonl, the in-domain test set"):
        sets_of([System("ensemble", (tmp_path / "ensemble",))])
