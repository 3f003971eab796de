"""Teachers: sources of an ensemble's statistics for a batch, computed online or cached."""

from .cache import CachedStatistics, CachedTeacher
from .checkpoints import load_members
from .ensemble import EnsembleTeacher
from .protocol import Teacher, TeacherStatistics

__all__ = [
    "CachedStatistics",
    "CachedTeacher",
    "EnsembleTeacher",
    "Teacher",
    "TeacherStatistics",
    "load_members",
]
