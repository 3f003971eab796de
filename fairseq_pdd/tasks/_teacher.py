"""The teacher of a task: its options, and its part in training."""

import logging
from argparse import Namespace
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

import torch
from fairseq import utils
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.models import BaseFairseqModel
from fairseq.tasks import FairseqTask
from omegaconf import II, DictConfig, OmegaConf

from ..criterions import DistillationCriterion
from ..errors import UsageError
from ..teacher import CachedTeacher, EnsembleTeacher, Teacher
from ._data_source import DataSource

logger = logging.getLogger(__name__)


@dataclass
class TeacherConfig(FairseqDataclass):
    """Options of the teacher."""

    teacher_paths: Optional[str] = field(
        default=None,
        metadata={
            "help": "checkpoints of the ensemble to distil, joined with ':' like --path; read for "
            "training and validation only and not recorded in the student's checkpoints"
        },
    )
    teacher_cache: Optional[str] = field(
        default=None,
        metadata={
            "help": "folder of fairseq-pdd teacher-cache, read instead of running an ensemble; "
            "not recorded in checkpoints either"
        },
    )
    teacher_dtype: ChoiceEnum(["student", "float32", "float16", "bfloat16"]) = field(  # type: ignore[valid-type]
        default="student",
        metadata={
            "help": "floating type of the teacher's weights and activations; 'student' follows "
            "--fp16/--bf16. Its statistics are float32 in any case"
        },
    )
    teacher_device: ChoiceEnum(["student", "cpu"]) = field(  # type: ignore[valid-type]
        default="student",
        metadata={
            "help": "place of the teacher's weights: on the student's device, or in host memory, "
            "from where the members are copied to the device one at a time for each batch"
        },
    )
    # read from elsewhere in fairseq's configuration
    cpu: bool = II("common.cpu")
    fp16: bool = II("common.fp16")
    bf16: bool = II("common.bf16")
    log_interval: int = II("common.log_interval")
    max_tokens: Optional[int] = II("dataset.max_tokens")


class TeacherMixin(DataSource):
    """A task that owns the teacher in training and validation."""

    teacher: Optional[Teacher] = None
    """Source of the targets; None where nothing is distilled, as in generation."""

    @classmethod
    def setup_task(cls, cfg: DictConfig, **kwargs: Any) -> FairseqTask:
        """Set up the fairseq task and take the teacher's paths out of the configuration."""
        paths = utils.split_paths(cfg.teacher_paths) if cfg.teacher_paths else []
        cache = cfg.teacher_cache
        # fairseq saves the whole configuration. A checkpoint must not depend on, nor reveal, the
        # paths of its teachers.
        for option in ("teacher_paths", "teacher_cache"):
            _clear(cfg, option)
        cls.require_data(cfg)
        task = super().setup_task(cfg, **kwargs)
        task._teacher_paths, task._teacher_cache = paths, cache
        return task

    def __init__(self, cfg: DictConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(cfg, *args, **kwargs)
        self._teacher_paths: List[str] = []
        self._teacher_cache: Optional[str] = None
        self._is_new_epoch, self._first_update = True, 0

    def build_criterion(self, cfg: DictConfig, from_checkpoint: bool = False) -> torch.nn.Module:
        """Build the criterion and, if it distils, load the teacher."""
        criterion = super().build_criterion(cfg, from_checkpoint)
        if isinstance(criterion, DistillationCriterion):
            self.teacher = self._load_teacher(cfg._name, criterion.needs_members)
        return criterion

    def _load_teacher(self, criterion: str, needs_members: bool) -> Teacher:
        if self._teacher_cache is None:
            if not self._teacher_paths:
                raise UsageError(
                    f"criterion {criterion} needs an ensemble: give its checkpoints with "
                    "--teacher-paths a.pt:b.pt:… or a cache of its outputs with --teacher-cache DIR"
                )
            return self._load_ensemble()
        if self._teacher_paths:
            raise UsageError("give either --teacher-paths or --teacher-cache, not both")
        if needs_members:
            raise UsageError(
                f"criterion {criterion} needs each member's probabilities, which a teacher cache "
                "does not hold: give --teacher-paths"
            )
        if len(utils.split_paths(self.cfg.data)) > 1:
            raise UsageError(
                f"a teacher cache belongs to one data folder, not to several ({self.cfg.data}): "
                "join them, or give --teacher-paths"
            )
        teacher = CachedTeacher(self._teacher_cache, self)
        logger.info("teacher: cache %s, top %d classes", self._teacher_cache, teacher.topk)
        return teacher

    def _load_ensemble(self) -> EnsembleTeacher:
        use_gpu = torch.cuda.is_available() and not self.cfg.cpu
        # fairseq has made the worker's own GPU the current one
        gpu = torch.device("cuda", torch.cuda.current_device()) if use_gpu else None
        return EnsembleTeacher.load(
            self._teacher_paths,
            self,
            dtype=self._teacher_dtype(),
            device=gpu or torch.device("cpu"),
            offload=str(self.cfg.teacher_device) == "cpu",
            max_tokens=self.cfg.max_tokens,
        )

    def _teacher_dtype(self) -> torch.dtype:
        name = str(self.cfg.teacher_dtype)
        if name == "student":
            name = "float16" if self.cfg.fp16 else "bfloat16" if self.cfg.bf16 else "float32"
        return getattr(torch, name)

    def load_dataset(self, split: str, *args: Any, **kwargs: Any) -> None:
        """Load a split, and check that the teacher was made for it."""
        super().load_dataset(split, *args, **kwargs)
        if self.teacher is not None:
            self.teacher.check(split, self.dataset(split))

    def begin_epoch(self, epoch: int, model: BaseFairseqModel) -> None:
        """Have measures logged in each epoch, however few updates it has."""
        super().begin_epoch(epoch, model)
        self._is_new_epoch = True

    def train_step(
        self,
        sample: Dict[str, Any],
        model: BaseFairseqModel,
        criterion: torch.nn.Module,
        optimizer: Any,
        update_num: int,
        ignore_grad: bool = False,
    ) -> Any:
        """Do fairseq's step; measures are logged once in ``--log-interval`` updates."""
        if self._is_new_epoch:
            self._is_new_epoch, self._first_update = False, update_num
        if isinstance(criterion, DistillationCriterion):
            criterion.log_measures = (
                update_num == self._first_update or update_num % self.cfg.log_interval == 0
            )
        return super().train_step(sample, model, criterion, optimizer, update_num, ignore_grad)


def _clear(cfg: DictConfig, option: str) -> None:
    """Clear an option wherever fairseq keeps it: components without a config dataclass, such as
    the named architectures, each hold a namespace of all options.
    """
    cfg[option] = None
    parent = cfg._get_parent()
    if not isinstance(parent, DictConfig):
        return
    for section in [parent[name] for name in parent if not OmegaConf.is_missing(parent, name)]:
        if isinstance(section, Namespace) or (
            isinstance(section, DictConfig) and option in section
        ):
            setattr(section, option, None)
