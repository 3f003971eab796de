"""``fairseq-pdd assess token-errors``: detection of wrong words."""

from dataclasses import replace
from pathlib import Path
from typing import List, Optional

import typer

from ...assess import Pieces, word_errors, word_scores
from ...records import read_records
from . import _shared


def token_errors(
    records: Path = typer.Argument(..., help="Records of a set that has references."),
    pieces: Pieces = typer.Option(
        Pieces.sum,
        help="Measure of a word of several tokens: the sum of their values (for score: -ln of the "
        "word's probability), or the largest.",
    ),
    measure: Optional[List[str]] = _shared.measure_option(),
    json_path: Optional[Path] = _shared.json_option(),
) -> None:
    """Detect the wrong words of an output by their uncertainty.

    A word of the best hypothesis is right where an alignment of least edits finds it in the
    reference; inserted and substituted words are wrong, and words that the output lacks do not
    count. AUPR (average precision with wrong words as positive; their share is chance) and ROC-AUC
    need an order only. NCE, normalised cross-entropy (1 is perfect, 0 is as good as the share of
    right words for every word, negative is worse), needs a probability that the word is right:
    exp(-score) as it is, and for every measure one from a logistic regression that is fitted to
    other sentences (five folds). SentencePiece's and subword-nmt's pieces are supported.
    """
    _shared.check_outputs(json_path, inputs=[records])
    words = word_scores(read_records(records, token_ranks=1).best(), pieces)
    measures = _shared.select(words.measures, words.absent, measure, str(records))
    found = word_errors(replace(words, measures=measures))
    wrong = float(1 - words.correct.mean())
    _shared.print_table(
        f"{len(words.correct)} words, {100 * wrong:.1f} % wrong",
        ["measure", "AUPR %", "ROC-AUC %", "NCE", "NCE calibrated"],
        [
            [
                name,
                _shared.format_percent(value.aupr),
                _shared.format_percent(value.roc_auc),
                _shared.format_number(value.nce),
                _shared.format_number(value.nce_calibrated),
            ]
            for name, value in found.items()
        ],
    )
    _shared.write_json(
        json_path,
        {
            "records": str(records),
            "words": len(words.correct),
            "wrong": wrong,
            "skipped": words.skipped,
            "pieces": pieces.value,
            "measures": {name: value._asdict() for name, value in found.items()},
        },
    )
