"""``fairseq-pdd assess errors``: detection of bad outputs."""

import logging
from pathlib import Path
from typing import List, Optional

import numpy as np
import typer

from ...assess import (
    Combination,
    Metric,
    combine,
    corpus_quality,
    read_best,
    rejection,
    sentence_errors,
)
from ...assess.plots import rejection_curves
from . import _output

logger = logging.getLogger(__name__)

_ERRORS = {
    Metric.bleu: "1 − sentence BLEU",
    Metric.chrf: "1 − chrF",
    Metric.wer: "word error rate",
}
_POINTS = np.linspace(0, 1, 101)


def errors(
    records: Path = typer.Argument(..., help="Records of a set that has references."),
    metric: Metric = typer.Option(
        Metric.bleu, help="What an error is: 1 - sentence BLEU, 1 - chrF, or word error rate."
    ),
    retained: bool = typer.Option(
        False,
        "--retained",
        help="The error of a set is the mean over the outputs that are retained; without this, "
        "over all, those that are rejected having none.",
    ),
    measure: Optional[List[str]] = _output.measure_option(),
    nbest: Combination = _output.nbest_option(),
    temperature: float = _output.temperature_option(),
    json_path: Optional[Path] = _output.json_option(),
    plots: Optional[Path] = _output.plots_option("the rejection curves"),
) -> None:
    """Reject the most uncertain outputs: are they the bad ones?

    PRR, the prediction rejection ratio, is (AUC_unc - AUC_random) / (AUC_oracle - AUC_random) of
    the error against the share of outputs rejected: 1 is rejecting by the true error, 0 at random.
    By default a rejected output counts as replaced by a perfect one (Malinin & Gales, ICLR 2021),
    the other definition is --retained; their PRRs differ. Errors are those of the best hypothesis;
    text is compared as it is written.
    """
    outputs, scores = read_best(records)
    quality = corpus_quality(outputs, metric)
    error = sentence_errors(outputs, metric)
    values = _output.choose(combine(scores, nbest, temperature), scores.absent, measure)
    curves = {name: rejection(error, column, retained) for name, column in values.items()}
    if np.ptp(error) == 0:
        logger.warning("every output has the error %.3f, so PRR is undefined", error[0])

    _output.say(f"{metric.value} {quality.value:.2f} ({quality.signature})")
    _output.show(
        f"{len(outputs)} outputs, mean {_ERRORS[metric]} {error.mean():.3f}",
        ["measure", "PRR"],
        [[name, _output.number(curve.prr)] for name, curve in curves.items()],
    )
    _output.write_json(
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
                    # a hundred steps, whatever the size of the set
                    "curve": np.interp(_POINTS, curve.fractions, curve.errors).tolist(),
                }
                for name, curve in curves.items()
            },
        },
    )
    if plots is not None:
        shown = {name: curves[name] for name in _output.for_figures(curves, measure)}
        _output.keep_figure(rejection_curves(shown, _ERRORS[metric]), plots, "rejection")
