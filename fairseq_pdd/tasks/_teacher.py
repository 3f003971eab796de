"""The teacher of a task: its options, and its part in training."""

import logging
import os
import sys
from argparse import Namespace
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Sequence

import torch
from fairseq import utils
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.models import BaseFairseqModel
from fairseq.tasks import FairseqTask
from omegaconf import II, DictConfig, OmegaConf

from .._compat import call
from ..checkpoints.paths import CHECKPOINT_OPTIONS
from ..criterions import DistillationCriterion
from ..errors import UsageError
from ..teacher import CachedTeacher, EnsembleTeacher, Teacher
from ..teacher.members import require_files, require_positions
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
    path: Optional[str] = II("common_eval.path")
    save_dir: str = II("checkpoint.save_dir")
    best_checkpoint_metric: str = II("checkpoint.best_checkpoint_metric")
    maximize_best_checkpoint_metric: bool = II("checkpoint.maximize_best_checkpoint_metric")


class TeacherMixin(DataSource):
    """A task that owns the teacher in training and validation."""

    teacher: Optional[Teacher] = None
    """Source of the targets; None where nothing is distilled, as in generation."""

    @classmethod
    def setup_task(cls, cfg: DictConfig, **kwargs: Any) -> FairseqTask:
        """Set up the fairseq task and take the teacher's paths out of the configuration."""
        for option in ("teacher_paths", "teacher_cache"):
            if cfg[option] is not None and not cfg[option].strip():
                raise UsageError(f"--{option.replace('_', '-')} is empty: give a path or remove it")
        if cfg.teacher_paths and cfg.teacher_cache:
            raise UsageError("give either --teacher-paths or --teacher-cache, not both")
        paths = utils.split_paths(cfg.teacher_paths) if cfg.teacher_paths else []
        require_files(paths)
        if cfg.path is None:  # in training
            _require_other_folder(paths, cfg.save_dir)
        if paths:
            cls.take_languages(cfg, paths)
        cache = cfg.teacher_cache
        # fairseq saves the whole configuration. A checkpoint must not depend on, nor reveal, the
        # paths of its teachers.
        for option in ("teacher_paths", "teacher_cache"):
            _clear(cfg, option)
        task = super().setup_task(cfg, **kwargs)
        task._teacher_paths, task._teacher_cache = paths, cache
        return task

    def __init__(self, cfg: DictConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(cfg, *args, **kwargs)
        self._teacher_paths: List[str] = []
        self._teacher_cache: Optional[str] = None
        self._is_new_epoch, self._first_update = True, 0
        self._update: Optional[int] = None

    def build_criterion(self, cfg: DictConfig, from_checkpoint: bool = False) -> torch.nn.Module:
        """Build the criterion and, if it distils, load the teacher."""
        criterion = call(super().build_criterion, cfg, from_checkpoint=from_checkpoint)
        if isinstance(criterion, DistillationCriterion):
            self._require_metric(cfg._name, criterion.metric_names())
            self.teacher = self._load_teacher(cfg._name, criterion.needs_members)
        elif self._teacher_paths or self._teacher_cache:
            option = "--teacher-paths" if self._teacher_paths else "--teacher-cache"
            raise UsageError(
                f"criterion {cfg._name} does not distil, so that {option} has no effect: give "
                "--criterion pd_send2, or remove the option"
            )
        return criterion

    def _require_metric(self, criterion: str, names: List[str]) -> None:
        """Require that validation logs the value by which fairseq compares checkpoints."""
        metric, maximize = self.cfg.best_checkpoint_metric, self.cfg.maximize_best_checkpoint_metric
        if getattr(self.cfg, "eval_bleu", False):
            names = [*names, "bleu"]
        if metric not in names:
            hint = "give --eval-bleu, or use" if metric == "bleu" else "use"
            raise UsageError(
                f"--best-checkpoint-metric {metric} is not logged in validation with criterion "
                f"{criterion}: {hint} one of {', '.join(names)}"
            )
        is_higher_better = metric == "bleu" or metric.startswith("spearman_")
        if is_higher_better and not maximize:
            raise UsageError(
                f"--best-checkpoint-metric {metric} is the better the higher it is: add "
                "--maximize-best-checkpoint-metric"
            )
        if maximize and metric in ("loss", "nll_loss", "ppl"):
            raise UsageError(
                f"--best-checkpoint-metric {metric} is the better the lower it is: remove "
                "--maximize-best-checkpoint-metric"
            )

    def _load_teacher(self, criterion: str, needs_members: bool) -> Teacher:
        if self._teacher_cache is None:
            if not self._teacher_paths:
                raise UsageError(
                    f"criterion {criterion} needs an ensemble: give its checkpoints with "
                    "--teacher-paths a.pt:b.pt:… or a cache of its outputs with --teacher-cache DIR"
                )
            return self._load_ensemble()
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
        teacher = EnsembleTeacher.load(
            self._teacher_paths,
            self,
            dtype=self._teacher_dtype(),
            device=gpu or torch.device("cpu"),
            offload=str(self.cfg.teacher_device) == "cpu",
            max_tokens=self.cfg.max_tokens,
        )
        require_positions(self._teacher_paths, teacher.members, self.max_positions())
        return teacher

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
        """Have measures logged in each epoch, and remove the paths of other checkpoints."""
        super().begin_epoch(epoch, model)
        self._is_new_epoch = True
        # fairseq has read these options by now, and saves its configuration later
        for option, none in CHECKPOINT_OPTIONS.items():
            _clear(self.cfg, option, none)

    def train_step(
        self,
        sample: Dict[str, Any],
        model: BaseFairseqModel,
        criterion: torch.nn.Module,
        optimizer: Any,
        update_num: int,
        ignore_grad: bool = False,
    ) -> Any:
        """Do fairseq's step; measures are logged once in ``--log-interval`` updates.

        Raises:
            UsageError: the loss is not finite and no loss scaler skips the batch, or the scaler
                has given up.
        """
        if self._is_new_epoch:
            self._is_new_epoch, self._first_update = False, update_num
        if isinstance(criterion, DistillationCriterion):
            criterion.log_measures = (
                update_num == self._first_update or update_num % self.cfg.log_interval == 0
            )
            self._watch_overflow(criterion, optimizer, update_num)
        return super().train_step(sample, model, criterion, optimizer, update_num, ignore_grad)

    def _watch_overflow(
        self, criterion: DistillationCriterion, optimizer: Any, update_num: int
    ) -> None:
        """Leave losses that are not finite to fairseq's loss scaler, until it gives up."""
        if update_num != self._update:  # the last update was not skipped
            self._update, criterion.skipped = update_num, None
        criterion.skips_overflow = getattr(optimizer, "scaler", None) is not None
        # fairseq then repeats the step, within the handling of the scaler's exception, to find
        # the cause; its NanDetector cannot run many models, Transformers among them
        failure = sys.exc_info()[1]
        if isinstance(failure, FloatingPointError):
            raise criterion.skipped or UsageError(
                f"training diverged: the gradients of a finite loss overflow ({failure}); restart "
                "from the last checkpoint with a smaller --lr or --clip-norm, or without --fp16"
            ) from failure


def _require_other_folder(paths: Sequence[str], save_dir: str) -> None:
    """Refuse members with names under which the training will save checkpoints."""
    for path in paths:
        folder, name = os.path.split(os.path.realpath(path))
        if folder == os.path.realpath(save_dir) and name.startswith("checkpoint"):
            raise UsageError(
                f"the training would overwrite its teacher {path}: give another --save-dir"
            )


def _clear(cfg: DictConfig, option: str, value: Optional[str] = None) -> None:
    """Clear an option wherever fairseq keeps it: components without a config dataclass, such as
    the named architectures, each hold a namespace of all options.
    """
    sections = [cfg]
    parent = cfg._get_parent()
    if isinstance(parent, DictConfig):
        sections += [parent[name] for name in parent if not OmegaConf.is_missing(parent, name)]
    for section in sections:
        if isinstance(section, (Namespace, DictConfig)) and option in section:
            setattr(section, option, value)
