"""Compact columns of one file for the page's browser of outputs.

Numbers are base64 of little-endian floats: half precision (3 significant digits) for tokens, single
precision (all digits that records have) for sequences, so that sorting in the page is exact.
"""

import base64
from dataclasses import dataclass
from typing import Any, Dict

import numpy as np

from ..records import RecordSet
from ..records.subwords import mark_of


@dataclass(frozen=True)
class BrowserColumns:
    """Columns of the N hypotheses of a file that can be browsed, by ascending id and rank.

    Attributes:
        texts: columns of strings and whole numbers. One entry per sentence: ``id``, ``source``,
            ``reference``, ``start`` (index of its first hypothesis); one per hypothesis: ``rank``,
            ``text``, ``length`` (tokens); one per token: ``tokens`` (indices into
            ``vocabulary``); and ``joiner``, the mark that joins sub-words to words.
        log_prob: ``ln P(y|x)``, ``[N]``, under the key ``""`` and, for an ensemble, ``"expr."``.
        sequence: ``[N]`` for each measure that the model has; ``expr.total`` and so on for an
            ensemble combined as an expectation of products.
        token: ``[T]`` for each of these measures, for the T tokens of all hypotheses.
        total: number of sentences in the file, which may be more than here.
    """

    texts: Dict[str, Any]
    log_prob: Dict[str, np.ndarray]
    sequence: Dict[str, np.ndarray]
    token: Dict[str, np.ndarray]
    total: int

    def to_json(self) -> Dict[str, Any]:
        """Encode the columns for the page's script."""
        return {
            **self.texts,
            "total": self.total,
            "log_prob": {key: _encode(values, "<f4") for key, values in self.log_prob.items()},
            "sequence": {name: _encode(values, "<f4") for name, values in self.sequence.items()},
            "token": {name: _encode(values, "<f2") for name, values in self.token.items()},
        }


def browser_columns(records: RecordSet, ranks: int, sentences: int) -> BrowserColumns:
    """Select the hypotheses of a file that can be browsed.

    Args:
        records: records of the file, with the tokens of these hypotheses.
        ranks: number of hypotheses per sentence.
        sentences: number of sentences, from the lowest id.
    """
    ids = np.unique(records.ids)
    shown = records.select(
        np.flatnonzero((records.ranks < ranks) & np.isin(records.ids, ids[:sentences]))
    )
    unknown = np.full(len(shown.tokens.ids), np.nan)
    return BrowserColumns(
        texts=_texts(shown),
        log_prob=shown.log_probs,
        sequence=shown.measures,
        token={name: shown.tokens.measures.get(name, unknown) for name in shown.measures},
        total=len(ids),
    )


def _texts(records: RecordSet) -> Dict[str, Any]:
    _, starts = np.unique(records.ids, return_index=True)
    # number the symbols in the order of their first use here
    numbers: Dict[int, int] = {}
    tokens = [numbers.setdefault(i, len(numbers)) for i in records.tokens.ids.tolist()]
    vocabulary = [records.tokens.vocabulary[number] for number in numbers]
    return {
        "id": records.ids[starts].tolist(),
        "source": [records.sources[i] for i in starts],
        "reference": [records.references[i] for i in starts],
        "start": starts.tolist(),
        "rank": records.ranks.tolist(),
        "text": records.hypotheses,
        "length": records.lengths.tolist(),
        "tokens": tokens,
        "vocabulary": vocabulary,
        "joiner": mark_of(vocabulary),
    }


def _encode(values: np.ndarray, dtype: str) -> str:
    with np.errstate(over="ignore"):  # a value beyond the type's range becomes infinite
        return base64.b64encode(values.astype(dtype).tobytes()).decode("ascii")
