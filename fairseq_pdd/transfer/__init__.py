"""Builders of what an ensemble computes once, before students train.

Transfer sets (Section 2 of the paper: the data that a student is trained on) and teacher caches.
"""

# Commands and their worker processes import fairseq through this package.
from .. import _fairseq  # noqa: F401
