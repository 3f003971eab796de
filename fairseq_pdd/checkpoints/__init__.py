"""Checkpoint files: safe loading, and agreement with the data that a model is given."""

# first: importing fairseq must not change logging
from .. import _fairseq  # noqa: F401
