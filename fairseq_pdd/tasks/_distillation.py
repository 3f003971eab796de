"""What distillation adds to any sequence-to-sequence task of fairseq."""

import logging
import os
from argparse import Namespace
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from fairseq import utils
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.models import BaseFairseqModel
from fairseq.tasks import FairseqTask
from omegaconf import II, DictConfig, OmegaConf
from torch import Tensor

from ..criterions import DistillationCriterion
from ..errors import UsageError
from ..models.prior_network import mark_prior_network, prior_network_offset, require_logits
from ..scoring import HypothesisScorer
from ..teacher import CachedTeacher, EnsembleTeacher, Teacher
from ._data_source import DataSource
from ._generator import RecordedEnsemble
from ._output import LineNumbers, UncertaintyOutput

logger = logging.getLogger(__name__)

_STATE = "prior_network"
_CPU = torch.device("cpu")


@dataclass
class DistillationConfig(FairseqDataclass):
    """Options that distillation adds to a task."""

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
            "neither recorded in checkpoints"
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
            "help": "where the teacher's weights are: on the student's device, or in host memory, "
            "from where the members are brought over one at a time for each batch"
        },
    )
    uncertainty_path: Optional[str] = field(
        default=None,
        metadata={
            "help": "file for the uncertainty of each hypothesis of fairseq-generate or "
            "fairseq-interactive, JSON lines; by default U-<id> lines on standard output or, with "
            "fairseq-generate --results-path, uncertainty-<subset>.jsonl there"
        },
    )
    measures_dirichlet: ChoiceEnum(["unshifted", "shifted"]) = field(  # type: ignore[valid-type]
        default="unshifted",
        metadata={
            "help": "Dirichlet that a Prior Network's measures are taken from: Dir(exp(z)), whose "
            "mean is the prediction, or Dir(exp(z) + offset), that of the loss"
        },
    )
    # read from elsewhere in fairseq's configuration
    cpu: bool = II("common.cpu")
    fp16: bool = II("common.fp16")
    bf16: bool = II("common.bf16")
    log_interval: int = II("common.log_interval")
    max_tokens: Optional[int] = II("dataset.max_tokens")
    gen_subset: str = II("dataset.gen_subset")
    nbest: int = II("generation.nbest")
    quiet: bool = II("common_eval.quiet")
    post_process: Optional[str] = II("common_eval.post_process")
    results_path: Optional[str] = II("common_eval.results_path")


class DistillationTaskMixin(DataSource):
    """Mixed into a task before its :class:`DataSource`, if any, and its fairseq class.

    In training it owns the teacher; in generation it scores every hypothesis of the n-best
    list and writes the records.
    """

    teacher: Optional[Teacher] = None

    @classmethod
    def setup_task(cls, cfg: DictConfig, **kwargs: Any) -> FairseqTask:
        """Set up the fairseq task and take the teacher's paths out of the configuration."""
        paths = utils.split_paths(cfg.teacher_paths) if cfg.teacher_paths else []
        cache = cfg.teacher_cache
        # Trainer saves the whole configuration. Students must not demand, nor tell, later where
        # their teachers once lay.
        for option in ("teacher_paths", "teacher_cache"):
            _forget(cfg, option)
        cls.require_data(cfg)
        task = super().setup_task(cfg, **kwargs)
        task._teacher_paths, task._teacher_cache = paths, cache
        return task

    def __init__(self, cfg: DictConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(cfg, *args, **kwargs)
        self._teacher_paths: List[str] = []
        self._teacher_cache: Optional[str] = None
        self._criterion_state: Optional[Dict[str, Any]] = None
        self._first_update: Optional[int] = None
        self._loaded_state: Optional[Dict[str, Any]] = None
        self._validating = False
        self._output: Optional[UncertaintyOutput] = None
        self._lines: Optional[LineNumbers] = None
        self._decoders: Dict[str, Any] = {}

    # training

    def build_criterion(self, cfg: DictConfig, from_checkpoint: bool = False) -> torch.nn.Module:
        """Build the criterion and, where it distils, load the teacher."""
        criterion = super().build_criterion(cfg, from_checkpoint)
        if isinstance(criterion, DistillationCriterion):
            self.teacher = self._load_teacher(cfg._name, criterion.needs_members)
        offset = getattr(criterion, "offset", None)
        self._criterion_state = {_STATE: None if offset is None else {"offset": offset}}
        self.state.merge_state_dict(self._criterion_state)
        return criterion

    def _load_teacher(self, criterion: str, needs_members: bool) -> Teacher:
        if self._teacher_cache is None:
            if not self._teacher_paths:
                raise UsageError(
                    f"criterion {criterion} needs an ensemble: give its checkpoints with "
                    "--teacher-paths a.pt:b.pt:… or what was cached of it with --teacher-cache DIR"
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
                f"a teacher cache is of one data folder, not of several ({self.cfg.data}): put "
                "them together, or give --teacher-paths"
            )
        teacher = CachedTeacher(self._teacher_cache, self)
        logger.info("teacher: cache %s, top %d classes", self._teacher_cache, teacher.topk)
        return teacher

    def _load_ensemble(self) -> EnsembleTeacher:
        use_gpu = torch.cuda.is_available() and not self.cfg.cpu
        return EnsembleTeacher.load(
            self._teacher_paths,
            self,
            dtype=self._teacher_dtype(),
            # fairseq has made the worker's own GPU the current one
            device=torch.device("cuda", torch.cuda.current_device()) if use_gpu else _CPU,
            offload=str(self.cfg.teacher_device) == "cpu",
            max_tokens=self.cfg.max_tokens,
        )

    def _teacher_dtype(self) -> torch.dtype:
        name = str(self.cfg.teacher_dtype)
        if name == "student":
            name = "float16" if self.cfg.fp16 else "bfloat16" if self.cfg.bf16 else "float32"
        return getattr(torch, name)

    def begin_epoch(self, epoch: int, model: BaseFairseqModel) -> None:
        """Have measures in the log of each epoch, however few updates it has."""
        super().begin_epoch(epoch, model)
        self._first_update = None

    def train_step(
        self,
        sample: Dict[str, Any],
        model: BaseFairseqModel,
        criterion: torch.nn.Module,
        optimizer: Any,
        update_num: int,
        ignore_grad: bool = False,
    ) -> Any:
        """Do fairseq's step, with measures in the log once in ``--log-interval`` updates."""
        if self._first_update is None:
            self._first_update = update_num
        if isinstance(criterion, DistillationCriterion):
            criterion.log_measures = (
                update_num == self._first_update or update_num % self.cfg.log_interval == 0
            )
        return super().train_step(sample, model, criterion, optimizer, update_num, ignore_grad)

    def valid_step(
        self, sample: Dict[str, Any], model: BaseFairseqModel, criterion: torch.nn.Module
    ) -> Any:
        """Do fairseq's step; hypotheses of a validation BLEU are not scored."""
        self._validating = True
        try:
            return super().valid_step(sample, model, criterion)
        finally:
            self._validating = False

    # data

    def load_dataset(self, split: str, *args: Any, **kwargs: Any) -> None:
        """Load a split, and compare it with what the teacher's cache was made of."""
        super().load_dataset(split, *args, **kwargs)
        if isinstance(self.teacher, CachedTeacher):
            self.teacher.check(split, self.dataset(split))

    def get_batch_iterator(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        """Return fairseq's iterator; for the subset of fairseq-generate also prepare its output."""
        iterator = super().get_batch_iterator(dataset, *args, **kwargs)
        if self._lines is not None:
            self._lines.announce(dataset, iterator.frozen_batches)
        elif self.teacher is None and dataset is self.datasets.get(self.cfg.gen_subset):
            batches = iterator.frozen_batches
            self._report_left_out(len(dataset), sum(map(len, batches)))
            shard = batches[iterator.shard_id :: iterator.num_shards]
            self._output = self._open_output(sum(map(len, shard)))
        return iterator

    def _report_left_out(self, size: int, batched: int) -> None:
        """Tell of sentences that fairseq-generate will pass over without a word."""
        if batched == size:
            return
        message = (
            f"fairseq leaves out {size - batched} of the {size} sentences of subset "
            f"'{self.cfg.gen_subset}': give --required-batch-size-multiple 1, as a last batch of "
            "another size is dropped, and raise --max-source-positions if some are longer"
        )
        if batched == 0:
            raise UsageError(message)
        logger.warning(message)

    # checkpoints

    def load_state_dict(self, state_dict: Dict[str, Any]) -> None:
        """Take the task state of a checkpoint; it tells a Prior Network from other models."""
        super().load_state_dict(state_dict)
        self._loaded_state = state_dict.get(_STATE)
        if self._criterion_state is not None:
            # fine-tuning: what is saved describes the criterion of now
            self.state.merge_state_dict(self._criterion_state)

    def build_model(self, cfg: Any, from_checkpoint: bool = False) -> BaseFairseqModel:
        """Build a model; one from a Prior Network's checkpoint remembers that it is one."""
        model = super().build_model(cfg, from_checkpoint)
        if not from_checkpoint:
            require_logits(model)
        elif self._loaded_state is not None:
            mark_prior_network(model, self._loaded_state["offset"])
        self._loaded_state = None
        return model

    # generation

    def build_tokenizer(self, args: Any) -> Any:
        """Build fairseq's tokenizer and keep it to detokenise records."""
        self._decoders["tokenizer"] = super().build_tokenizer(args)
        return self._decoders["tokenizer"]

    def build_bpe(self, args: Any) -> Any:
        """Build fairseq's BPE and keep it to detokenise records."""
        self._decoders["bpe"] = super().build_bpe(args)
        return self._decoders["bpe"]

    def build_generator(
        self,
        models: Sequence[BaseFairseqModel],
        args: Any,
        seq_gen_cls: Any = None,
        **options: Any,
    ) -> Any:
        """Build fairseq's generator; what its models say is taken down for the scores."""
        search = seq_gen_cls is None and not (
            getattr(args, "score_reference", False) or getattr(args, "print_alignment", None)
        )
        return super().build_generator(
            RecordedEnsemble(models) if search else models, args, seq_gen_cls=seq_gen_cls, **options
        )

    def get_interactive_tokens_and_lengths(self, lines: List[str], encode_fn: Any) -> Any:
        """Encode lines read by fairseq-interactive, and prepare the output of their hypotheses."""
        if self._lines is None:
            self._lines = LineNumbers()
            self._output = self._open_output(expected=None)
        self._lines.read(len(lines))
        return super().get_interactive_tokens_and_lengths(lines, encode_fn)

    def inference_step(
        self,
        generator: Any,
        models: Sequence[BaseFairseqModel],
        sample: Dict[str, Any],
        prefix_tokens: Optional[Tensor] = None,
        constraints: Optional[Tensor] = None,
        nbest: Optional[int] = None,
    ) -> List[List[Dict[str, Any]]]:
        """Generate, then attach ``hypo["uncertainty"]`` to every hypothesis.

        With ``nbest`` only to the first ones of each sentence, as in fairseq's commands, which
        no others leave. For what is attached see
        :meth:`fairseq_pdd.scoring.HypothesisScorer.score`.
        """
        if self._output is not None:
            nbest = self.cfg.nbest
        scorer = None if self._validating else self.hypothesis_scorer(models)
        ensemble = getattr(generator, "model", None)
        followed: Tuple[Any, ...] = ()
        if isinstance(ensemble, RecordedEnsemble):
            ensemble.record = None
            # where prefixes are given, the search swaps rows without telling the models
            if scorer is not None and prefix_tokens is None:
                share = 1.0 if nbest is None else min(nbest / generator.beam_size, 1.0)
                ensemble.record = scorer.search_record(share)
        hypotheses = super().inference_step(
            generator, models, sample, prefix_tokens=prefix_tokens, constraints=constraints
        )
        if isinstance(ensemble, RecordedEnsemble):
            followed = ensemble.take()
        if scorer is None:
            return hypotheses
        scored = [hypos[:nbest] for hypos in hypotheses]
        scores = scorer.score(
            sample, [[hypo["tokens"] for hypo in hypos] for hypos in scored], *followed
        )
        for hypos, values in zip(scored, scores):
            for hypo, value in zip(hypos, values):
                hypo["uncertainty"] = value
        if self._output is not None:
            if self._lines is not None:
                sample = {**sample, "id": self._lines.of_next_batch()}
            self._output.write(sample, scored, generator)
        return hypotheses

    def hypothesis_scorer(self, models: Sequence[BaseFairseqModel]) -> HypothesisScorer:
        """What scores outputs of one model or an ensemble, by its kind and the options."""
        offset = prior_network_offset(models[0]) if len(models) == 1 else None
        if offset is not None and str(self.cfg.measures_dirichlet) == "unshifted":
            offset = 0.0
        dictionary = self.target_dictionary
        return HypothesisScorer(models, dictionary.pad(), dictionary.eos(), offset)

    def _open_output(self, expected: Optional[int]) -> UncertaintyOutput:
        path = self.cfg.uncertainty_path
        if path is None and expected is not None and self.cfg.results_path is not None:
            path = os.path.join(self.cfg.results_path, f"uncertainty-{self.cfg.gen_subset}.jsonl")
        return UncertaintyOutput(
            path=path,
            silent=path is None and self.cfg.quiet,
            expected=expected,
            source_dictionary=self.source_dictionary,
            target_dictionary=self.target_dictionary,
            utterances=getattr(self.datasets.get(self.cfg.gen_subset), "ids", None),
            post_process=self.cfg.post_process,
            decoders=self._decoders,
        )


def _forget(cfg: DictConfig, option: str) -> None:
    """Clear an option wherever fairseq keeps it: components without a config dataclass (the
    named architectures, for one) each hold a namespace of all options.
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
