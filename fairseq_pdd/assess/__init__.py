"""Assessment of records: detection, calibration, faithfulness, tables.

The functions read records only, so they serve any system that writes them. Modules import
libraries that are slow to load (scikit-learn, SciPy, sacreBLEU) inside their functions. The
packages of the extra ``assess`` are needed; without them, the import raises
:class:`~fairseq_pdd.errors.MissingRequirement`, an ``ImportError``.
"""

from .._requirements import require_extra
from .calibration import Reliability, reliability_diagram
from .faithfulness import (
    Faithfulness,
    Level,
    WithoutTotal,
    detect_without_total,
    faithfulness_of,
    plain_measures,
)
from .layout import (
    System,
    choose_systems,
    find_systems,
    label_of,
    set_files,
    set_name,
    sets_of,
    split_label,
)
from .ood import Detection, Estimate, detect, detect_all, log_copies, roc_auc
from .quality import (
    Metric,
    Quality,
    corpus_quality,
    negative_log_likelihood,
    sentence_errors,
)
from .rejection import Rejection, rejection
from .render import latex, markdown
from .scores import Combination, check_measures, check_same_lists, check_temperature, combine
from .sentences import Sentences, check_same_sentences, sentences_of
from .summary import SPEECH, TRANSLATION, RunSummary, Style, summarise_run
from .table import Table, build_table, make_table
from .token_errors import Pieces, WordErrors, WordScores, word_errors, word_scores

__all__ = [
    "SPEECH",
    "TRANSLATION",
    "Combination",
    "Detection",
    "Estimate",
    "Faithfulness",
    "Level",
    "Metric",
    "Pieces",
    "Quality",
    "Rejection",
    "Reliability",
    "RunSummary",
    "Sentences",
    "Style",
    "System",
    "Table",
    "WithoutTotal",
    "WordErrors",
    "WordScores",
    "build_table",
    "check_measures",
    "check_same_lists",
    "check_same_sentences",
    "check_temperature",
    "choose_systems",
    "combine",
    "corpus_quality",
    "detect",
    "detect_all",
    "detect_without_total",
    "faithfulness_of",
    "find_systems",
    "label_of",
    "latex",
    "log_copies",
    "make_table",
    "markdown",
    "negative_log_likelihood",
    "plain_measures",
    "rejection",
    "reliability_diagram",
    "roc_auc",
    "sentence_errors",
    "sentences_of",
    "set_files",
    "set_name",
    "sets_of",
    "split_label",
    "summarise_run",
    "word_errors",
    "word_scores",
]

require_extra("assess", __name__)
