"""``fairseq-pdd assess errors``: detection of bad outputs."""

import logging
from pathlib import Path
from typing import List, Optional

import numpy as np
import typer

from ...assess import Combination, Metric, combine, corpus_quality, rejection, sentence_errors
from ...assess.quality import ERROR_LABELS
from ...records import read_records
from . import _shared

logger = logging.getLogger(__name__)

_POINTS = np.linspace(0, 1, 101)


def errors(
    records: Path = typer.Argument(..., help="Records of a set that has references."),
    metric: Metric = typer.Option(
        Metric.bleu, help="Error of an output: 1 - sentence BLEU, 1 - chrF, or word error rate."
    ),
    retained: bool = typer.Option(
        False,
        "--retained",
        help="The error of a set is the mean over the outputs that are retained; without this, "
        "over all outputs, with error 0 for those that are rejected.",
    ),
    measure: Optional[List[str]] = _shared.measure_option(),
    nbest: Combination = _shared.nbest_option(),
    temperature: float = _shared.temperature_option(),
    json_path: Optional[Path] = _shared.json_option(),
    plots: Optional[Path] = _shared.plots_option("the rejection curves"),
) -> None:
    """Detect bad outputs by their uncertainty.

    PRR, the prediction rejection ratio, is (AUC_unc - AUC_random) / (AUC_oracle - AUC_random) of
    the error against the share of outputs rejected: 1 is rejecting by the true error, 0 at random.
    By default a rejected output counts as replaced by a perfect one (Malinin & Gales, ICLR 2021);
    --retained gives the other definition, and other PRRs. Errors are those of the best hypothesis;
    text is compared as it is written.
    """
    _shared.check_outputs(json_path, folder=plots, inputs=[records])
    hypotheses = read_records(records, token_ranks=0)
    outputs = hypotheses.best()
    quality = corpus_quality(outputs, metric)
    error = sentence_errors(outputs, metric)
    combined = combine(hypotheses, nbest, temperature)
    values = _shared.select(combined, hypotheses.absent, measure, str(records))
    curves = {name: rejection(error, column, retained) for name, column in values.items()}
    if np.ptp(error) == 0:
        logger.warning(
            "%s: every output has the error %.3f, so PRR is not defined", records, error[0]
        )
    for name, column in values.items():
        if len(np.unique(column)) == 1:
            logger.warning(
                "%s: %s has the same value for every output, so its PRR is not defined",
                records,
                name,
            )

    _shared.print_line(f"{metric.value} {quality.value:.2f} ({quality.signature})")
    _shared.print_table(
        f"{len(outputs)} outputs, mean {ERROR_LABELS[metric]} {error.mean():.3f}",
        ["measure", "PRR"],
        [[name, _shared.format_number(curve.prr)] for name, curve in curves.items()],
    )
    _shared.write_json(
        json_path,
        {
            "records": str(records),
            "sentences": len(outputs),
            "metric": {"name": metric.value, **quality._asdict()},
            "error": float(error.mean()),
            "definition": "retained" if retained else "replaced",
            "nbest": nbest.value,
            "temperature": temperature,
            "measures": {
                name: {
                    "prr": curve.prr,
                    # a hundred steps for every size of the set
                    "curve": np.interp(_POINTS, curve.fractions, curve.errors).tolist(),
                }
                for name, curve in curves.items()
            },
        },
    )
    if plots is not None:
        from ...assess.plots import rejection_curves

        shown = {name: curves[name] for name in _shared.for_figures(curves, measure)}
        if shown:
            _shared.write_figure(rejection_curves(shown, ERROR_LABELS[metric]), plots, "rejection")
