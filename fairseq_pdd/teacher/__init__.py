"""Teachers: sources of an ensemble's statistics for a batch, computed online or cached."""

from .cache import CachedStatistics, CachedTeacher
from .ensemble import EnsembleTeacher
from .members import load_members
from .protocol import Teacher, TeacherStatistics

__all__ = [
    "CachedStatistics",
    "CachedTeacher",
    "EnsembleTeacher",
    "Teacher",
    "TeacherStatistics",
    "load_members",
]
