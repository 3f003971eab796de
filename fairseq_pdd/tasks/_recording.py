"""Records of the hypotheses of fairseq-generate and fairseq-interactive, written by the task."""

import logging
import os
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np
import torch
from fairseq.dataclass import FairseqDataclass
from omegaconf import II, DictConfig

from ..checkpoints.reading import reason_of
from ..errors import UsageError
from ..records.files import is_special
from ..records.shards import shard_of, shard_path
from ._data_source import DataSource
from ._output import InteractiveOutput, RecordOutput, TextDecoders, UncertaintyOutput

logger = logging.getLogger(__name__)


@dataclass
class RecordsConfig(FairseqDataclass):
    """Options of records."""

    uncertainty_path: Optional[str] = field(
        default=None,
        metadata={
            "help": "file for the uncertainty of each hypothesis of fairseq-generate or "
            "fairseq-interactive, JSON lines; by default U-<id> lines on standard output or, with "
            "fairseq-generate --results-path, uncertainty-<subset>.jsonl there. With "
            "--num-shards N --shard-id I, the shard's records are in <name>.shard<I>-of-<N>.jsonl, "
            "which `fairseq-pdd join-records` joins"
        },
    )
    # read from elsewhere in fairseq's configuration
    gen_subset: str = II("dataset.gen_subset")
    num_shards: int = II("dataset.num_shards")
    shard_id: int = II("dataset.shard_id")
    nbest: int = II("generation.nbest")
    quiet: bool = II("common_eval.quiet")
    post_process: Optional[str] = II("common_eval.post_process")
    results_path: Optional[str] = II("common_eval.results_path")


class RecordsMixin(DataSource):
    """A task that writes a record of every hypothesis of fairseq-generate and fairseq-interactive.

    It is mixed in before :class:`ScoringMixin`.
    """

    def __init__(self, cfg: DictConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(cfg, *args, **kwargs)
        if cfg.uncertainty_path == "":
            raise UsageError("--uncertainty-path is empty: give a file, or remove the option")
        if cfg.uncertainty_path is not None and cfg.no_uncertainty:
            raise UsageError(
                f"--uncertainty-path {cfg.uncertainty_path} and --no-uncertainty contradict each "
                "other: remove one of them"
            )
        self._output = RecordOutput()
        self._decoders = TextDecoders(cfg.post_process)
        self._has_criterion = False

    def build_criterion(self, cfg: DictConfig, from_checkpoint: bool = False) -> torch.nn.Module:
        """Build the criterion of a training or validation, which write no records."""
        self._has_criterion = True
        return super().build_criterion(cfg, from_checkpoint)

    def build_tokenizer(self, args: Any) -> Any:
        """Build fairseq's tokenizer and keep it to detokenise records."""
        self._decoders.tokenizer = _build("--tokenizer", super().build_tokenizer, args)
        return self._decoders.tokenizer

    def build_bpe(self, args: Any) -> Any:
        """Build fairseq's BPE and keep it to detokenise records."""
        self._decoders.bpe = _build("--bpe", super().build_bpe, args)
        return self._decoders.bpe

    def build_generator(self, *args: Any, **kwargs: Any) -> Any:
        """Build fairseq's generator; for fairseq-interactive, open the file of records before."""
        # fairseq-generate has opened its file with the batches
        if self.cfg.uncertainty_path is not None and type(self._output) is RecordOutput:
            self._output = self._interactive_output()
        return super().build_generator(*args, **kwargs)

    def get_batch_iterator(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        """Return fairseq's iterator, and prepare the output for its hypotheses.

        Raises:
            UsageError: a sentence is longer than ``--max-tokens``, there is nothing to
                translate, or there is no such shard.
        """
        generates = self.is_generation_set(dataset)
        if generates and self._is_sharded():
            kwargs.update(self._shard(kwargs))
        try:
            iterator = super().get_batch_iterator(dataset, *args, **kwargs)
            self._output.begin_batches(dataset, iterator)
            if generates:
                self._begin_generation(len(dataset), iterator)
        except AssertionError as error:
            if "max_tokens" not in str(error):
                raise
            limit = kwargs["max_tokens"]
            lengths = [int(dataset.num_tokens(i)) for i in range(len(dataset))]
            long = next(i for i, length in enumerate(lengths) if length > limit)
            raise UsageError(
                f"sentence {self._output.number(long)} has {lengths[long]} tokens, more than "
                f"--max-tokens {limit}: raise it"
            ) from error
        return iterator

    def _is_sharded(self) -> bool:
        return (self.cfg.num_shards, self.cfg.shard_id) != (1, 0)

    def _shard(self, options: Dict[str, Any]) -> Dict[str, int]:
        """Return the shard of ``--num-shards``, which fairseq-generate itself ignores."""
        if options.get("num_shards", 1) > 1:
            raise UsageError(
                "--num-shards and --distributed-world-size both divide the sentences: remove one"
            )
        if self.cfg.results_path is not None:
            raise UsageError(
                f"--results-path {self.cfg.results_path}: each shard would overwrite fairseq's "
                "file there; with --num-shards, give --uncertainty-path, and send standard output "
                "to a file for each shard"
            )
        shard = shard_of(self.cfg.num_shards, self.cfg.shard_id)
        assert shard is not None
        return {"shard_id": shard[0], "num_shards": shard[1]}

    def _begin_generation(self, size: int, iterator: Any) -> None:
        batches = iterator.frozen_batches
        if not self.cfg.no_uncertainty:
            self._report_skipped(size, sum(map(len, batches)))
        elif not batches:  # transfer-set reports it
            return
        shard = batches[iterator.shard_id :: iterator.num_shards]
        if not shard:
            raise UsageError(
                f"there are {len(batches)} batches for {iterator.num_shards} processes: give a "
                "smaller number (--num-shards, --distributed-world-size) or a smaller --max-tokens"
            )
        if not self.cfg.no_uncertainty:
            self._output = self._open_output(
                sum(map(len, shard)), (iterator.shard_id, iterator.num_shards)
            )

    def filter_indices_by_size(
        self,
        indices: Any,
        dataset: Any,
        max_positions: Any = None,
        ignore_invalid_inputs: bool = False,
    ) -> Any:
        """Do fairseq's selection; without ``ignore_invalid_inputs``, name a sentence too long.

        Raises:
            UsageError: a sentence is longer than the models' limits.
        """
        if max_positions is not None and not ignore_invalid_inputs:
            _, long = dataset.filter_indices_by_size(indices, max_positions)
            if len(long) > 0:
                lengths = tuple(np.atleast_1d(dataset.size(long[0])).tolist())
                raise UsageError(
                    f"sentence {self._output.number(int(long[0]))} is too long: its length "
                    f"{lengths} is above the limit {max_positions} of data and "
                    "models; shorten it, or skip such sentences with "
                    "--skip-invalid-size-inputs-valid-test"
                )
        return super().filter_indices_by_size(
            indices, dataset, max_positions, ignore_invalid_inputs
        )

    def is_generation_set(self, dataset: Any) -> bool:
        """Return True if fairseq-generate translates this data set; it builds no criterion."""
        return not self._has_criterion and dataset is self.datasets.get(self.cfg.gen_subset)

    def _report_skipped(self, size: int, batched: int) -> None:
        """Report sentences that fairseq-generate skips without a message."""
        if batched == size:
            return
        message = (
            f"fairseq skips {size - batched} of the {size} sentences of subset "
            f"'{self.cfg.gen_subset}': give --required-batch-size-multiple 1, as a last batch of "
            "another size is dropped, and raise --max-source-positions if some are longer"
        )
        if batched == 0:
            raise UsageError(message)
        logger.warning(message)

    def get_interactive_tokens_and_lengths(self, lines: List[str], encode_fn: Any) -> Any:
        """Encode lines read by fairseq-interactive, and prepare the output of their hypotheses."""
        if not isinstance(self._output, InteractiveOutput):
            self._output = self._interactive_output()
        self._output.read(len(lines))
        return super().get_interactive_tokens_and_lengths(lines, encode_fn)

    def _interactive_output(self) -> InteractiveOutput:
        if self._is_sharded():
            raise UsageError(
                "--num-shards and --shard-id have no effect on fairseq-interactive: remove them, "
                "and give each process its part of the lines"
            )
        return InteractiveOutput(self._new_output(self.cfg.uncertainty_path, None))

    def inference_step(
        self, generator: Any, models: Any, sample: Dict[str, Any], *args: Any, **kwargs: Any
    ) -> List[List[Dict[str, Any]]]:
        """Generate, and write the records of the hypotheses."""
        nbest = self._output.nbest
        if nbest is not None:  # fairseq's commands print no others
            kwargs["nbest"] = nbest
        sample = self._output.numbered(sample)
        hypotheses = super().inference_step(generator, models, sample, *args, **kwargs)
        self._output.write(sample, [hypos[:nbest] for hypos in hypotheses], generator)
        return hypotheses

    def _open_output(self, expected: int, shard: Tuple[int, int]) -> UncertaintyOutput:
        path = self.cfg.uncertainty_path
        if path is None and self.cfg.results_path is not None:
            path = os.path.join(self.cfg.results_path, f"uncertainty-{self.cfg.gen_subset}.jsonl")
        if path is not None and shard[1] > 1 and not is_special(path):
            path = shard_path(path, shard)
        return self._new_output(path, expected)

    def _new_output(self, path: Optional[str], expected: Optional[int]) -> UncertaintyOutput:
        silent = self.cfg.no_uncertainty or (path is None and self.cfg.quiet)
        return UncertaintyOutput(
            path=path,
            silent=silent,
            expected=expected,
            nbest=self.cfg.nbest,
            source_dictionary=self.source_dictionary,
            target_dictionary=self.target_dictionary,
            utterances=getattr(self.datasets.get(self.cfg.gen_subset), "ids", None),
            decoders=self._decoders,
        )


def _build(option: str, build: Callable[[Any], Any], args: Any) -> Any:
    """Build fairseq's tokenizer or BPE; an error names the option."""
    try:
        return build(args)
    except Exception as error:  # each kind raises its own, for files, options and packages
        raise UsageError(
            f"{option} {getattr(args, '_name', args)} cannot be built: {reason_of(error)}"
        ) from error
