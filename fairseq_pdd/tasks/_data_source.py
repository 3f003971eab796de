"""Base of mixins that extend a task of fairseq."""

from typing import TYPE_CHECKING, Sequence

from omegaconf import DictConfig

if TYPE_CHECKING:  # at run time it is mixed into a task
    from fairseq.tasks import FairseqTask as _Task
else:
    _Task = object


class DataSource(_Task):
    """Base of the mixins before the class of fairseq; data of its kind is checked here."""

    @classmethod
    def take_languages(cls, cfg: DictConfig, checkpoints: Sequence[str]) -> None:
        """Complete the language options, if the task has any, by those of checkpoints.

        It is called before :meth:`require_data`. This base class has no languages.
        """

    @classmethod
    def require_data(cls, cfg: DictConfig) -> None:
        """Raise :class:`UsageError` if the data folder is not one that the task can read.

        It is called before anything is loaded. This base class accepts any folder.
        """
