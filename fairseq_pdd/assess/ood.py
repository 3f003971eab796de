"""Detection of out-of-domain input by a measure of uncertainty."""

from typing import List, Optional

import numpy as np
from sklearn.metrics import roc_auc_score

from ..errors import UsageError
from .records import Record


def roc_auc(in_domain: List[Record], out_of_domain: List[Record], measure: str) -> Optional[float]:
    """Area under the ROC curve of a sequence-level measure, out-of-domain being positive.

    Args:
        in_domain: one record a sentence.
        out_of_domain: one record a sentence.
        measure: key of the records' ``sequence``, such as ``total`` or ``rmi``.

    Returns:
        A number in [0, 1], 0.5 for a measure that tells nothing; ``None`` where the model has no
        such measure.

    Raises:
        UsageError: the measure is unknown.
    """
    values = []
    for record in (*in_domain, *out_of_domain):
        if measure not in record["sequence"]:
            known = ", ".join(record["sequence"])
            raise UsageError(f"no measure '{measure}' in the records: they have {known}")
        values.append(record["sequence"][measure])
    if any(value is None for value in values):
        return None
    labels = np.repeat([0, 1], [len(in_domain), len(out_of_domain)])
    return float(roc_auc_score(labels, values))
