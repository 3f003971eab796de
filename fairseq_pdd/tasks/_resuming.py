"""Trainings that continue after an interruption."""

from typing import Any

from ._data_source import DataSource


class ResumingMixin(DataSource):
    """A task whose resumed training has the batches of an uninterrupted one."""

    def get_batch_iterator(self, dataset: Any, *args: Any, epoch: int = 1, **kwargs: Any) -> Any:
        """Return fairseq's iterator, with the same batches in whichever epoch training starts.

        fairseq composes the batches once per process, with a seed that depends on the epoch in
        which the process starts. After a resume, sentences of equal length would therefore be in
        other batches than in an uninterrupted training.
        """
        composed_once = self.can_reuse_epoch_itr(dataset) and not (
            kwargs.get("disable_iterator_cache") or kwargs.get("update_epoch_batch_itr")
        )
        iterator = super().get_batch_iterator(
            dataset, *args, epoch=1 if composed_once else epoch, **kwargs
        )
        dataset.set_epoch(epoch)  # fairseq sets the epoch of the iterator from the checkpoint
        return iterator
