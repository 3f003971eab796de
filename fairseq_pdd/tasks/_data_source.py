"""What a distillation task asks of its data, whatever kind they are of."""

from typing import TYPE_CHECKING

from omegaconf import DictConfig

if TYPE_CHECKING:  # what lies below; at run time it is mixed into a task
    from fairseq.tasks import FairseqTask as _Task
else:
    _Task = object


class DataSource(_Task):
    """Stands between :class:`DistillationTaskMixin` and the class of fairseq."""

    @classmethod
    def require_data(cls, cfg: DictConfig) -> None:
        """Raise :class:`UsageError` if the folder is not what the task reads.

        Called before anything is loaded; of data of an unknown kind nothing is required.
        """
