"""Records → what they are worth. Reads files only; imports neither torch nor fairseq."""

from .calibration import Reliability, reliability_diagram
from .layout import System, choose_systems, find_systems, set_name, sets_of
from .ood import Detection, Estimate, detect, detect_all, roc_auc
from .quality import Metric, Quality, corpus_quality, sentence_errors
from .records import Record, best, iter_records, negative_log_likelihood, read_records
from .rejection import Rejection, rejection
from .render import latex, markdown
from .scores import (
    Combination,
    SequenceScores,
    check_measures,
    combine,
    read_best,
    read_scores,
    sequence_scores,
)
from .table import SPEECH, TRANSLATION, Style, Table, build_table
from .token_errors import Pieces, WordErrors, WordScores, word_errors, word_scores

__all__ = [
    "SPEECH",
    "TRANSLATION",
    "Combination",
    "Detection",
    "Estimate",
    "Metric",
    "Pieces",
    "Quality",
    "Record",
    "Rejection",
    "Reliability",
    "SequenceScores",
    "Style",
    "System",
    "Table",
    "WordErrors",
    "WordScores",
    "best",
    "build_table",
    "check_measures",
    "choose_systems",
    "combine",
    "corpus_quality",
    "detect",
    "detect_all",
    "find_systems",
    "iter_records",
    "latex",
    "markdown",
    "negative_log_likelihood",
    "read_best",
    "read_records",
    "read_scores",
    "rejection",
    "reliability_diagram",
    "roc_auc",
    "sentence_errors",
    "sequence_scores",
    "set_name",
    "sets_of",
    "word_errors",
    "word_scores",
]
