"""``fairseq-pdd assess token-errors``: detection of wrong words."""

from dataclasses import replace
from pathlib import Path
from typing import List, Optional

import typer

from ...assess import Pieces, best, read_records, word_errors, word_scores
from . import _output


def token_errors(
    records: Path = typer.Argument(..., help="Records of a set that has references."),
    pieces: Pieces = typer.Option(
        Pieces.sum,
        help="Measure of a word that is several tokens: their sum (for score: -ln of the word's "
        "probability), or the largest.",
    ),
    measure: Optional[List[str]] = _output.measure_option(),
    json_path: Optional[Path] = _output.json_option(),
) -> None:
    """Tell the wrong words of an output by their uncertainty.

    A word of the best hypothesis is right where an alignment of least edits finds it in the
    reference; inserted and substituted words are wrong, and words that are left out are nobody's.
    AUPR (average precision with wrong words as positive; their share says nothing) and ROC-AUC
    need an order only. NCE, normalised cross-entropy (1 is perfect, 0 says nothing, negative is
    worse than nothing), needs a probability that the word is right: exp(-score) as it is, and for
    every measure one from a logistic regression that is fitted to other sentences (five folds).
    SentencePiece's and subword-nmt's pieces are known.
    """
    words = word_scores(best(read_records(records)), pieces)
    measures = _output.choose(words.measures, words.absent, measure)
    found = word_errors(replace(words, measures=measures))
    wrong = float(1 - words.correct.mean())
    _output.show(
        f"{len(words.correct)} words, {100 * wrong:.1f} % wrong",
        ["measure", "AUPR %", "ROC-AUC %", "NCE", "NCE calibrated"],
        [
            [
                name,
                _output.number(100 * value.aupr, 1),
                _output.number(100 * value.roc_auc, 1),
                _output.number(value.nce),
                _output.number(value.nce_calibrated),
            ]
            for name, value in found.items()
        ],
    )
    _output.write_json(
        json_path,
        {
            "records": str(records),
            "words": len(words.correct),
            "wrong": wrong,
            "left_out": words.left_out,
            "pieces": pieces.value,
            "measures": {name: value._asdict() for name, value in found.items()},
        },
    )
