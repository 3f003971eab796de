"""``fairseq-pdd assess table``: systems and seeds side by side."""

import enum
from dataclasses import replace
from pathlib import Path
from typing import List, Optional

import typer

from ...assess import (
    SPEECH,
    TRANSLATION,
    Combination,
    Metric,
    build_table,
    choose_systems,
    find_systems,
    latex,
    markdown,
)
from . import _shared


class Kind(str, enum.Enum):
    """Task, which decides on the table of the paper."""

    translation = "translation"
    speech = "speech"


STYLES = {Kind.translation: TRANSLATION, Kind.speech: SPEECH}


def table(
    records: Path = typer.Argument(..., help="Folder that holds `SYSTEM[-seedN]/SET.jsonl`."),
    system: Optional[List[str]] = typer.Option(
        None,
        help="NAME=FOLDER[,FOLDER…], a row of the table; may be repeated. The folders (in RECORDS; "
        "* is a wildcard) are its runs. Without it: every folder; folders that differ in -seedN "
        "are runs of one system.",
    ),
    kind: Kind = typer.Option(
        Kind.translation,
        help="translation: the paper's Table 4 (BLEU; total, rmi); speech: its Table 3 (WER; "
        "total, rmi, mutual_information, epkl).",
    ),
    metric: Optional[Metric] = typer.Option(None, help="Metric of quality, if not that of --kind."),
    measure: Optional[List[str]] = typer.Option(
        None, help="Measure, if not those of --kind; may be repeated."
    ),
    nbest: Combination = _shared.nbest_option(),
    temperature: float = _shared.temperature_option(),
    markdown_path: Optional[Path] = typer.Option(None, "--markdown", help="File for Markdown."),
    latex_path: Optional[Path] = typer.Option(
        None, "--latex", help="File for LaTeX (package booktabs)."
    ),
    json_path: Optional[Path] = _shared.json_option(),
) -> None:
    """Make the paper's Tables 3 and 4: quality, likelihood, detection of out-of-domain input.

    In RECORDS each system has a folder, or one for each seed (-seed1, -seed2, …), with test.jsonl,
    ood_NAME.jsonl for each out-of-domain set and, optionally, nll.jsonl (references) and
    nll_ensemble.jsonl (the ensemble's output), both of fairseq-generate --score-reference. Several
    runs of a system give mean ± standard deviation. All runs must have the same sets and sentences,
    with the same references and sources.
    """
    systems = choose_systems(records, system) if system else find_systems(records)
    _shared.check_outputs(markdown_path, latex_path, json_path, inputs=_shared.files_of(systems))
    style = replace(STYLES[kind], combination=nbest, temperature=temperature)
    measures = tuple(dict.fromkeys(measure or style.measures))
    style = replace(style, metric=metric or style.metric, measures=measures)
    made = build_table(systems, style)
    header = [f"{column.group} {column.name}".strip() for column in made.columns]
    _shared.print_table(str(records), ["", *header], made.cells())
    for note in made.notes:
        _shared.print_line(f"- {note}")
    if markdown_path is not None:
        _shared.write(markdown_path, markdown(made))
    if latex_path is not None:
        _shared.write(latex_path, latex(made))
    _shared.write_json(
        json_path,
        {
            "records": str(records),
            "systems": {s.name: [str(run) for run in s.runs] for s in systems},
            "notes": made.notes,
            "rows": made.rows,
        },
    )
