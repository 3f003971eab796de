"""Interface of a teacher, by which tasks and criterions know it."""

from typing import Any, Dict, Protocol

from torch import Tensor

from ..core import MeanProbs, UncertaintyMeasures


class TeacherStatistics(Protocol):
    """Statistics of an ensemble at N target tokens, float32.

    ``core.EnsembleStatistics`` is one implementation, :class:`CachedStatistics` the other.
    """

    @property
    def mean_probs(self) -> MeanProbs:
        """Ensemble mean π̂, ``[N, K]``, or its k largest probabilities."""
        ...

    @property
    def mean_log_probs(self) -> Tensor:
        """Mean log-probability of the members, ``[N, K]``.

        Raises:
            UsageError: the teacher does not have it.
        """
        ...

    @property
    def inverse_precision(self) -> Tensor:
        """λ = 1/β̂₀ of the Proxy-Dirichlet, ``[N]`` (Eq. 16)."""
        ...

    def measures(self) -> UncertaintyMeasures:
        """Return the ensemble's uncertainty measures, each ``[N]``, in nats."""
        ...


class Teacher(Protocol):
    """An ensemble to distil."""

    def statistics(self, sample: Dict[str, Any], mask: Tensor) -> TeacherStatistics:
        """Return the statistics of a batch, teacher-forced on its target.

        Args:
            sample: fairseq batch; its ``net_input`` is also the student's.
            mask: target positions to include, booleans ``[B, T]``; N of them are true.
        """
        ...

    def check(self, subset: str, dataset: Any) -> None:
        """Compare a loaded data set with the one that this teacher was made for.

        Args:
            subset: name of the subset, such as ``train``.
            dataset: fairseq's data set.

        Raises:
            UsageError: they differ.
        """
        ...
