"""``fairseq-pdd report``: one HTML page of tables, plots and outputs."""

from dataclasses import replace
from pathlib import Path
from typing import List, Optional

import typer

from ..assess import Metric, System, choose_systems, find_systems, label_of, set_files
from ..errors import UsageError
from .assess._shared import check_outputs, files_of, write
from .assess.table import STYLES, Kind


def report(
    records: List[Path] = typer.Argument(
        ..., help="Folder that holds `SYSTEM[-seedN]/SET.jsonl`, or folders of one system each."
    ),
    out: Path = typer.Option(..., help="File for the page (HTML)."),
    system: Optional[List[str]] = typer.Option(
        None,
        help="NAME=FOLDER[,FOLDER…]: a system of RECORDS, as in fairseq-pdd assess table; may be "
        "repeated. Without it: every folder.",
    ),
    kind: Kind = typer.Option(
        Kind.translation,
        help="translation: BLEU, out-of-domain detection by total and rmi; speech: WER, also by "
        "mutual_information and epkl.",
    ),
    metric: Optional[Metric] = typer.Option(None, help="Metric of quality, if not that of --kind."),
    title: str = typer.Option("Uncertainty report", help="Title of the page."),
    nbest: int = typer.Option(5, min=1, help="Hypotheses per sentence that can be browsed."),
    sentences: int = typer.Option(
        2000,
        min=1,
        help="Sentences per set that can be browsed, from the lowest id; tables and plots are of "
        "all. 10,000 hypotheses of 18 tokens take 6 MB, of an ensemble 10 MB.",
    ),
) -> None:
    """Write one HTML page: tables, plots, and every output shaded by its tokens' uncertainty.

    The folders are those of `fairseq-pdd assess table`: test.jsonl, ood_NAME.jsonl for each
    out-of-domain set and, optionally, nll.jsonl, nll_ensemble.jsonl and nll_ood_NAME.jsonl, on
    which systems are compared with an ensemble. The page needs no network and no other file; send
    it by mail or open it on a phone.
    """
    from ..report.assemble import build_report

    systems = _systems(records, system)
    check_outputs(out, inputs=files_of(systems))
    style = STYLES[kind]
    page = build_report(
        systems,
        replace(style, metric=metric or style.metric),
        title,
        nbest,
        sentences,
    )
    write(out, page)


def _systems(folders: List[Path], choices: Optional[List[str]]) -> List[System]:
    if choices:
        if len(folders) > 1:
            raise UsageError("--system chooses from one folder of records: give only one")
        return choose_systems(folders[0], choices)
    systems: List[System] = []
    for folder in folders:
        if set_files(folder):
            systems.append(System(label_of(folder.resolve().name), (folder,)))
        else:
            systems += find_systems(folder)
    names = [found.name for found in systems]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two systems are called '{name}': rename a folder")
    return systems
