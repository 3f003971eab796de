"""Records → what they are worth. Reads files only; imports neither torch nor fairseq."""

from .ood import roc_auc
from .records import Record, best, iter_records, negative_log_likelihood, read_records

__all__ = ["Record", "best", "negative_log_likelihood", "read_records", "roc_auc"]
