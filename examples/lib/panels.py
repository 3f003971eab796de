"""Histograms of a run: test set against each out-of-domain set, for ensemble and student."""

from pathlib import Path

from matplotlib.figure import Figure

from fairseq_pdd.assess import Table, combine, set_name
from fairseq_pdd.assess.plots import histogram
from fairseq_pdd.records import read_records

SYSTEMS = ("ensemble", "pd_send2")


def draw_panels(
    table: Table, names: dict[str, str], records: Path, measure: str, label: str, path: Path
) -> None:
    """Write histograms of a measure, in-domain against each out-of-domain set.

    Args:
        table: table of the run, which has the measure.
        names: rows of the table by folder of ``records``.
        records: folder with one folder of records per system, or several that end in -seedN, of
            which the first is drawn.
        measure: key of the records' ``sequence``.
        label: label of the horizontal axes.
        path: PNG to write.
    """
    folders = {
        system: min([*records.glob(system), *records.glob(f"{system}-seed*")]) for system in SYSTEMS
    }
    ood_sets = sorted(file.stem for file in folders[SYSTEMS[0]].glob("ood_*.jsonl"))
    figure = Figure(figsize=(3 * len(ood_sets), 4.6), layout="constrained")
    panels = figure.subplots(len(SYSTEMS), len(ood_sets), squeeze=False, sharey="row")
    for row, system in zip(panels, SYSTEMS):
        inside = combine(read_records(folders[system] / "test.jsonl", token_ranks=0))[measure]
        for axes, name in zip(row, ood_sets):
            path_of_set = folders[system] / f"{name}.jsonl"
            outside = combine(read_records(path_of_set, token_ranks=0))[measure]
            histogram(axes, inside, outside, set_name(name))
            auc = table.rows[names[system]][0][f"{name} {measure}"]
            axes.set_title(f"{names[system]}: AUC {auc:.1f} %", fontsize=10)
    for axes in panels[-1]:
        axes.set_xlabel(label, fontsize=9)
    figure.savefig(path, dpi=100)
