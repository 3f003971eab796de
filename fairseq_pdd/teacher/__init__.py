"""What gives the distillation target, the statistics of an ensemble, for a batch."""

from typing import Union

from ..core import EnsembleStatistics
from .cache import CachedStatistics, CachedTeacher
from .checkpoints import load_members
from .ensemble import EnsembleTeacher

Teacher = Union[EnsembleTeacher, CachedTeacher]
TeacherStatistics = Union[EnsembleStatistics, CachedStatistics]

__all__ = [
    "CachedStatistics",
    "CachedTeacher",
    "EnsembleTeacher",
    "Teacher",
    "TeacherStatistics",
    "load_members",
]
