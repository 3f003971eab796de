"""``fairseq-pdd assess calibration``: probabilities of words against the share that is right."""

import logging
from pathlib import Path
from typing import Any, Dict, Optional

import numpy as np
import typer

from ...assess import (
    Reliability,
    Sentences,
    WordScores,
    check_same_sentences,
    negative_log_likelihood,
    reliability_diagram,
    sentences_of,
    word_scores,
)
from ...errors import UsageError
from ...records import read_records
from . import _shared

logger = logging.getLogger(__name__)

_SCORES = {"score": "probability", "expr.score": "probability, ExPr"}


def calibration(
    records: Path = typer.Argument(..., help="Records of a set that has references."),
    references: Optional[Path] = typer.Option(
        None, help="Records of the references (fairseq-generate --score-reference)."
    ),
    ensemble_output: Optional[Path] = typer.Option(
        None, help="Records of the ensemble's output as references (--score-reference)."
    ),
    bins: int = typer.Option(
        15, min=1, max=10_000, help="Number of bins of the reliability diagram, equally wide."
    ),
    json_path: Optional[Path] = _shared.json_option(),
    plots: Optional[Path] = _shared.plots_option("the reliability diagram"),
) -> None:
    """Compare the probability that the model gives to its words with the share that is right.

    Confidence is exp(-score): the probability of the word, the product of the probabilities of its
    pieces. A word is right where an alignment of least edits finds it in the reference. ECE is the
    expected calibration error, the mean over words of |confidence - share of right words| of their
    bin. NLL is in nats per token, end-of-sequence included.
    """
    inputs = [path for path in (records, references, ensemble_output) if path is not None]
    _shared.check_outputs(json_path, folder=plots, inputs=inputs)
    outputs = read_records(records, token_ranks=1).best()
    words = word_scores(outputs)
    if not any(name in words.measures for name in _SCORES):
        raise UsageError(
            f"{records}: score is null, so the words have no probability: calibration is not "
            "defined"
        )
    diagrams = _diagrams(words, bins)
    likelihoods = {}
    for name, path in (("references", references), ("ensemble_output", ensemble_output)):
        if path is None:
            continue
        scored = read_records(path, token_ranks=0).best()
        if path is references:  # the ensemble's output may have other ids
            _log_other_sentences(sentences_of(records, outputs), sentences_of(path, scored))
        likelihoods[name] = negative_log_likelihood(scored)
    for name, value in likelihoods.items():
        _shared.print_line(f"NLL on {name.replace('_', ' ')}: {value:.4f} nats per token")
    _shared.print_table(
        f"{len(words.correct)} words, {100 * words.correct.mean():.1f} % right",
        ["confidence", "mean %", "ECE %"],
        [
            [label, f"{100 * _mean(diagram):.1f}", f"{100 * diagram.ece:.1f}"]
            for label, diagram in diagrams.items()
        ]
        or [[label, "–", "–"] for name, label in _SCORES.items() if name in words.measures],
    )
    _shared.write_json(
        json_path,
        {
            "records": str(records),
            "words": len(words.correct),
            "skipped": words.skipped,
            "nll": likelihoods,
            "reliability": {
                name: _as_json(diagrams[label])
                for name, label in _SCORES.items()
                if label in diagrams
            },
        },
    )
    if plots is not None and diagrams:
        from ...assess.plots import reliability

        _shared.write_figure(reliability(diagrams), plots, "reliability")


def _log_other_sentences(outputs: Sentences, references: Sentences) -> None:
    try:
        check_same_sentences(outputs, references)
    except UsageError as error:
        logger.warning("ECE and NLL are of different sentences: %s", error)


def _diagrams(words: WordScores, bins: int) -> Dict[str, Reliability]:
    if len(np.unique(words.sentences)) == 1:
        logger.warning("%s: the words of one output: ECE is not defined", words.name)
        return {}
    diagrams = {}
    for name, label in _SCORES.items():
        if name not in words.measures:
            continue
        confidence = np.exp(-words.measures[name])
        if len(np.unique(confidence)) == 1:
            logger.warning("%s: %s is the same for every word: one bin", words.name, name)
        try:
            diagrams[label] = reliability_diagram(confidence, words.correct, bins)
        except UsageError as error:
            raise UsageError(f"{words.name}: {name}: {error}") from error
    return diagrams


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
