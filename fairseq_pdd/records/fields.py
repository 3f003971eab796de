"""Names of the uncertainty fields of a record."""

MEASURES = ("total", "data", "mutual_information", "epkl", "rmi")
"""Measures of the predictive distributions (Section 2 of the paper)."""

JOINT_ESTIMATES = ("score", "rmi_score")
"""Estimates from the probabilities of the output's own tokens."""

FIELDS = (*MEASURES, *JOINT_ESTIMATES)
"""All measures, in the order in which a record holds them."""

EXPR = "expr"
"""Key of an ensemble's values when combined as an expectation of products."""

EXPR_PREFIX = f"{EXPR}."
"""Beginning of the name of a column that comes from :data:`EXPR`, as in ``expr.total``."""

LOG_PROB = "log_prob"
"""Key of ``ln P(y|x)``."""

LARGEST = (2 - 2**-23) * 2.0**127
"""Largest finite number of float32, which is written in place of infinity."""
