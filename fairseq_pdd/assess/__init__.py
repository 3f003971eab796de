"""Records → what they are worth. Reads files only; imports neither torch nor fairseq."""

from .calibration import Reliability, reliability_diagram
from .ood import Detection, Estimate, detect, detect_all, roc_auc
from .quality import Metric, Quality, corpus_quality, sentence_errors
from .records import Record, best, iter_records, negative_log_likelihood, read_records
from .rejection import Rejection, rejection
from .scores import Combination, SequenceScores, combine, read_scores, sequence_scores
from .token_errors import Pieces, WordErrors, WordScores, word_errors, word_scores

__all__ = [
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
    "WordErrors",
    "WordScores",
    "best",
    "combine",
    "corpus_quality",
    "detect",
    "detect_all",
    "iter_records",
    "negative_log_likelihood",
    "read_records",
    "read_scores",
    "rejection",
    "reliability_diagram",
    "roc_auc",
    "sentence_errors",
    "sequence_scores",
    "word_errors",
    "word_scores",
]
