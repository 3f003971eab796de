"""The teacher cache: an ensemble's statistics on disk, run once and read in every epoch."""

from .reader import CachedStatistics, CachedTeacher

__all__ = ["CachedStatistics", "CachedTeacher"]
