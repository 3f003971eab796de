"""Hypotheses → measures → records, for Prior Networks, ensembles and single models alike."""

from .hypotheses import SEQUENCE_FIELDS, TOKEN_FIELDS, HypothesisScorer
from .readings import LOG_PROBS, LOGITS
from .records import JsonLinesWriter, StdoutWriter, StreamWriter, make_record
from .search import LastLayer, SearchRecord

__all__ = [
    "LOGITS",
    "LOG_PROBS",
    "SEQUENCE_FIELDS",
    "TOKEN_FIELDS",
    "HypothesisScorer",
    "JsonLinesWriter",
    "LastLayer",
    "SearchRecord",
    "StdoutWriter",
    "StreamWriter",
    "make_record",
]
