"""Additions of distillation to any sequence-to-sequence task of fairseq, one mixin for each."""

from dataclasses import dataclass

from ._checkpoints import CheckpointsConfig, CheckpointsMixin
from ._hydra import HydraMixin
from ._recording import RecordsConfig, RecordsMixin
from ._resuming import ResumingMixin
from ._scoring import ScoringConfig, ScoringMixin
from ._task_state import TaskStateMixin
from ._teacher import TeacherConfig, TeacherMixin


@dataclass
class DistillationConfig(TeacherConfig, ScoringConfig, RecordsConfig, CheckpointsConfig):
    """Options that distillation adds to a task."""


class DistillationTaskMixin(
    HydraMixin,
    RecordsMixin,
    ScoringMixin,
    TeacherMixin,
    ResumingMixin,
    CheckpointsMixin,
    TaskStateMixin,
):
    """A task with a teacher in training, and with scores and records in generation.

    It is mixed in before the task's :class:`DataSource`, if any, and its fairseq class.
    """
