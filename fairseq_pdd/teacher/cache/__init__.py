"""The teacher cache: statistics of an ensemble on disk, computed once and read in every epoch.

``fairseq_pdd.transfer.cache_builder`` writes caches.
"""

from .reader import CachedStatistics, CachedTeacher

__all__ = ["CachedStatistics", "CachedTeacher"]
