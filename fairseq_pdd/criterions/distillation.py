"""Base of the distillation criterions: the batch, the teacher and the logs."""

import math
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Tuple

import torch
import torch.nn.functional as F
from fairseq import utils
from fairseq.criterions import FairseqCriterion
from fairseq.dataclass import FairseqDataclass
from fairseq.logging import metrics
from fairseq.tasks import FairseqTask
from omegaconf import II
from scipy.stats import spearmanr
from torch import Tensor

from ..core import UncertaintyMeasures, dirichlet_measures
from ..errors import UsageError
from ..models import PriorNetwork
from ..teacher import TeacherStatistics


@dataclass
class DistillationCriterionConfig(FairseqDataclass):
    """Options of every distillation criterion."""

    sentence_avg: bool = II("optimization.sentence_avg")


@dataclass
class DirichletCriterionConfig(DistillationCriterionConfig):
    """Options of criterions whose student is a Prior Network."""

    offset: float = field(
        default=1.0,
        metadata={
            "help": "δ > 0, added to the concentrations of student and proxy Dirichlet; "
            "the paper uses 1"
        },
    )


class DistillationCriterion(FairseqCriterion):
    """Base of the distillation criterions: subclasses give the loss of each target token.

    Args:
        task: a distillation task, which owns the teacher.
        sentence_avg: normalise gradients by sentences instead of tokens.
        offset: δ of a student that is a Prior Network; ``None`` where it is an ordinary model.
    """

    needs_members = False
    """True if the mean π̂ and λ are not enough, so that a teacher cache cannot serve."""

    def __init__(
        self, task: FairseqTask, sentence_avg: bool, offset: Optional[float] = None
    ) -> None:
        super().__init__(task)
        if not hasattr(task, "teacher"):
            raise UsageError(
                f"criterion of type {type(self).__name__} needs a teacher, which the task "
                f"'{type(task).__name__}' does not have: use --task distill_translation with "
                "--teacher-paths"
            )
        if offset is not None and not 0 < offset < math.inf:
            raise UsageError(f"--offset must be positive, not {offset} (the paper uses 1)")
        self.sentence_avg = sentence_avg
        self.offset = offset
        # The task changes these in training.
        # measures cost a pass over the vocabulary
        self.log_measures = True
        # fairseq's loss scaler skips updates that overflow
        self.skips_overflow = False
        self.skipped: Optional[UsageError] = None

    def metric_names(self) -> List[str]:
        """Return the names of the values that are logged in validation."""
        measures = [*UncertaintyMeasures._fields, "log_precision"]
        student = ["total"] if self.offset is None else measures
        return [
            *("loss", "nll_loss", "ppl"),
            *(f"teacher_{name}" for name in measures),
            *(f"student_{name}" for name in student),
            *(f"spearman_{name}" for name in student),
        ]

    def distillation_loss(self, logits: Tensor, teacher: TeacherStatistics) -> Tensor:
        """Compute the loss of each target token in nats, ``[N]``, from logits ``[N, K]``."""
        raise NotImplementedError

    def forward(
        self, model: torch.nn.Module, sample: Dict[str, Any], reduce: bool = True
    ) -> Tuple[Tensor, int, Dict[str, Any]]:
        """Compute the loss of a batch; padding is excluded everywhere.

        Returns:
            The loss in nats, summed over target tokens (``[N]`` if not ``reduce``); the sample
            size; sums for the log.

        Raises:
            UsageError: the teacher's predictions are not finite, or the loss is not and no loss
                scaler skips such a batch.
        """
        net_output = model(**sample["net_input"])
        target = sample["target"]
        mask = target.ne(self.padding_idx)
        logits, labels = net_output[0][mask], target[mask]
        teacher = self.task.teacher.statistics(sample, mask)
        losses = self.distillation_loss(logits, teacher)
        loss = losses.sum()
        if not math.isfinite(loss.item()):
            _require_finite_teacher(sample, teacher)
            self.skipped = _non_finite_loss(sample, logits)
            if not self.skips_overflow:
                raise self.skipped
            # no gradient is finite, so that the scaler finds the overflow
            losses, loss = losses * math.nan, loss * math.nan

        sample_size = target.size(0) if self.sentence_avg else sample["ntokens"]
        log: Dict[str, Any] = {
            "loss": loss.detach(),
            "nll_loss": F.cross_entropy(logits.detach().float(), labels, reduction="sum"),
            "ntokens": sample["ntokens"],
            "nsentences": target.size(0),
            "sample_size": sample_size,
        }
        if self.log_measures or not model.training:
            log["measured_tokens"] = labels.numel()
            of_teacher = self._teacher_values(logits.size(-1), teacher)
            of_student = self._student_values(model, logits.detach())
            log.update({f"teacher_{name}": v.sum() for name, v in of_teacher.items()})
            log.update({f"student_{name}": v.sum() for name, v in of_student.items()})
            if not model.training:
                log.update(_correlation_sums(of_teacher, of_student))
        return (loss if reduce else losses), sample_size, log

    def _teacher_values(self, num_classes: int, teacher: TeacherStatistics) -> Dict[str, Tensor]:
        """Return the logged values of the teacher by name, ``[N]`` each."""
        # λ is 0 where members agree to the last bit; the mean of logarithms needs a floor, the
        # least λ that float32 members can distinguish from 0
        floor = 2 * torch.finfo(torch.float32).eps / (num_classes - 1)
        log_precision = -teacher.inverse_precision.clamp(min=floor).log()
        return {**teacher.measures()._asdict(), "log_precision": log_precision}

    def _student_values(self, model: torch.nn.Module, logits: Tensor) -> Dict[str, Tensor]:
        """Return the logged values of the student by name, ``[N]`` each; fewer if it is no Prior
        Network.
        """
        if self.offset is None:
            return {"total": dirichlet_measures(logits).total}
        measures = PriorNetwork(model, self.offset).measures(logits)
        return {**measures._asdict(), "log_precision": logits.float().logsumexp(-1)}

    @classmethod
    def reduce_metrics(cls, logging_outputs: List[Dict[str, Any]]) -> None:
        """Log means over all workers: ``nll_loss`` and ``ppl`` as fairseq does (base 2), the
        loss, all measures and the log-precisions in nats.

        In validation also ``spearman_<measure>``, the rank correlation of student and teacher over
        the tokens of a batch, averaged over batches with the numbers of tokens as weights.
        """

        def total(key: str) -> float:
            return utils.item(sum(log.get(key, 0) for log in logging_outputs))

        ntokens, sample_size = total("ntokens"), total("sample_size")
        metrics.log_scalar("loss", total("loss") / sample_size, sample_size, round=4)
        metrics.log_scalar("nll_loss", total("nll_loss") / ntokens / math.log(2), ntokens, round=3)
        metrics.log_derived("ppl", lambda meters: utils.get_perplexity(meters["nll_loss"].avg))
        measured = total("measured_tokens")
        if measured > 0:
            names = {key for log in logging_outputs for key in log}
            for name in sorted(n for n in names if n.startswith(("teacher_", "student_"))):
                metrics.log_scalar(name, total(name) / measured, measured, round=4)
            for name in sorted(n for n in names if n.startswith("spearman_")):
                correlated = total(f"tokens_of_{name}")
                if correlated > 0:
                    metrics.log_scalar(name, total(name) / correlated, correlated, round=4)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        """All logged values are sums."""
        return True


def _correlation_sums(teacher: Dict[str, Tensor], student: Dict[str, Tensor]) -> Dict[str, float]:
    """Compute the Spearman correlation of each value over a batch's tokens, times their number.

    The number is logged beside it; both are 0 where one side is constant, which has no correlation.
    """
    sums: Dict[str, float] = {}
    for name, values in student.items():
        pair = torch.stack([teacher[name].float(), values.float()]).cpu().numpy()
        defined = bool((pair.min(axis=1) < pair.max(axis=1)).all())
        tokens = pair.shape[1] if defined else 0
        sums[f"tokens_of_spearman_{name}"] = tokens
        sums[f"spearman_{name}"] = tokens * spearmanr(*pair).statistic if defined else 0.0
    return sums


def _require_finite_teacher(sample: Dict[str, Any], teacher: TeacherStatistics) -> None:
    if not all(torch.isfinite(value).all() for value in teacher.measures()):
        raise UsageError(
            f"the teacher's predictions are not finite {_where(sample)}: a member is damaged, or "
            "its type is too narrow (--teacher-dtype float32 or bfloat16)"
        )


def _non_finite_loss(sample: Dict[str, Any], logits: Tensor) -> UsageError:
    if not torch.isfinite(logits).all():
        return UsageError(
            f"the student's logits are not finite {_where(sample)}: training diverged; restart "
            "from the last checkpoint with a smaller --lr, or longer --warmup-updates, or "
            "--clip-norm"
        )
    return UsageError(
        f"the loss is not finite {_where(sample)} although student and teacher are: the student's "
        f"logits reach {logits.abs().max().item():.3g}; use a smaller --lr or criterion pd_send2"
    )


def _where(sample: Dict[str, Any]) -> str:
    ids = sample["id"].tolist()
    return f"in the batch with sentences {ids[:5]}{'…' if len(ids) > 5 else ''}"
