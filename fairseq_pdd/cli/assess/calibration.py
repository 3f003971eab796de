"""``fairseq-pdd assess calibration``: probabilities against what comes true."""

from pathlib import Path
from typing import Any, Dict, Optional

import numpy as np
import typer

from ...assess import (
    Reliability,
    best,
    negative_log_likelihood,
    read_records,
    reliability_diagram,
    word_scores,
)
from ...assess.plots import reliability
from . import _output

_SCORES = {"score": "probability", "expr.score": "probability, ExPr"}


def calibration(
    records: Path = typer.Argument(..., help="Records of a set that has references."),
    references: Optional[Path] = typer.Option(
        None, help="Records of the references (fairseq-generate --score-reference)."
    ),
    ensemble_output: Optional[Path] = typer.Option(
        None, help="Records of the ensemble's output as references (--score-reference)."
    ),
    bins: int = typer.Option(15, min=1, help="Of the reliability diagram, equally wide."),
    json_path: Optional[Path] = _output.json_option(),
    plots: Optional[Path] = _output.plots_option("the reliability diagram"),
) -> None:
    """Compare the probability that the model gives to its words with how many are right.

    Confidence is exp(-score): the probability of the word, the product of its pieces'. A word is
    right where an alignment of least edits finds it in the reference. ECE is the expected
    calibration error, the mean over words of |confidence - share of right words| of their bin. NLL
    is in nats a token, end-of-sequence included.
    """
    words = word_scores(best(read_records(records)))
    diagrams = {
        label: reliability_diagram(np.exp(-words.measures[name]), words.correct, bins)
        for name, label in _SCORES.items()
        if name in words.measures
    }
    likelihoods = {
        name: negative_log_likelihood(best(read_records(path)))
        for name, path in (("references", references), ("ensemble_output", ensemble_output))
        if path is not None
    }
    for name, value in likelihoods.items():
        _output.say(f"NLL on {name.replace('_', ' ')}: {value:.4f} nats a token")
    _output.show(
        f"{len(words.correct)} words, {100 * words.correct.mean():.1f} % right",
        ["confidence", "mean %", "ECE %"],
        [
            [label, f"{100 * _mean(diagram):.1f}", f"{100 * diagram.ece:.1f}"]
            for label, diagram in diagrams.items()
        ],
    )
    _output.write_json(
        json_path,
        {
            "records": str(records),
            "words": len(words.correct),
            "left_out": words.left_out,
            "nll": likelihoods,
            "reliability": {
                name: _as_json(diagrams[label])
                for name, label in _SCORES.items()
                if label in diagrams
            },
        },
    )
    if plots is not None:
        _output.keep_figure(reliability(diagrams), plots, "reliability")


def _mean(diagram: Reliability) -> float:
    return float(np.nansum(diagram.confidence * diagram.counts) / diagram.counts.sum())


def _as_json(diagram: Reliability) -> Dict[str, Any]:
    return {
        "ece": diagram.ece,
        "edges": diagram.edges.tolist(),
        "counts": diagram.counts.tolist(),
        "confidence": _numbers(diagram.confidence),
        "accuracy": _numbers(diagram.accuracy),
    }


def _numbers(column: np.ndarray) -> "list[Optional[float]]":
    return [None if np.isnan(value) else float(value) for value in column]
