"""A user dir for the study: fairseq_pdd, and formulations that are there for comparison only."""

import fairseq_pdd.tasks  # noqa: F401  (registers its tasks and criterions)

from . import formulations  # noqa: F401
