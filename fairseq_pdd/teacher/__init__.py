"""What gives the distillation target, the statistics of an ensemble, for a batch."""

from .checkpoints import load_members
from .ensemble import EnsembleTeacher

__all__ = ["EnsembleTeacher", "load_members"]
