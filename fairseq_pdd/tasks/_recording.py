"""Records of the hypotheses of fairseq-generate and fairseq-interactive, written by the task."""

import logging
import os
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

from fairseq.dataclass import FairseqDataclass
from omegaconf import II, DictConfig

from ..errors import UsageError
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
            "fairseq-generate --results-path, uncertainty-<subset>.jsonl there"
        },
    )
    # read from elsewhere in fairseq's configuration
    gen_subset: str = II("dataset.gen_subset")
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
        self._output = RecordOutput()
        self._decoders = TextDecoders(cfg.post_process)

    def build_tokenizer(self, args: Any) -> Any:
        """Build fairseq's tokenizer and keep it to detokenise records."""
        self._decoders.tokenizer = super().build_tokenizer(args)
        return self._decoders.tokenizer

    def build_bpe(self, args: Any) -> Any:
        """Build fairseq's BPE and keep it to detokenise records."""
        self._decoders.bpe = super().build_bpe(args)
        return self._decoders.bpe

    def get_batch_iterator(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        """Return fairseq's iterator, and prepare the output for its hypotheses."""
        iterator = super().get_batch_iterator(dataset, *args, **kwargs)
        self._output.begin_batches(dataset, iterator)
        if self.is_generation_set(dataset):
            batches = iterator.frozen_batches
            self._report_skipped(len(dataset), sum(map(len, batches)))
            shard = batches[iterator.shard_id :: iterator.num_shards]
            self._output = self._open_output(sum(map(len, shard)))
        return iterator

    def is_generation_set(self, dataset: Any) -> bool:
        """Return True if fairseq-generate translates this data set."""
        return dataset is self.datasets.get(self.cfg.gen_subset)

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
            self._output = InteractiveOutput(self._new_output(self.cfg.uncertainty_path, None))
        self._output.read(len(lines))
        return super().get_interactive_tokens_and_lengths(lines, encode_fn)

    def inference_step(
        self, generator: Any, models: Any, sample: Dict[str, Any], *args: Any, **kwargs: Any
    ) -> List[List[Dict[str, Any]]]:
        """Generate, and write the records of the hypotheses."""
        nbest = self._output.nbest
        if nbest is not None:  # fairseq's commands print no others
            kwargs["nbest"] = nbest
        hypotheses = super().inference_step(generator, models, sample, *args, **kwargs)
        self._output.write(sample, [hypos[:nbest] for hypos in hypotheses], generator)
        return hypotheses

    def _open_output(self, expected: int) -> UncertaintyOutput:
        path = self.cfg.uncertainty_path
        if path is None and self.cfg.results_path is not None:
            path = os.path.join(self.cfg.results_path, f"uncertainty-{self.cfg.gen_subset}.jsonl")
        return self._new_output(path, expected)

    def _new_output(self, path: Optional[str], expected: Optional[int]) -> UncertaintyOutput:
        return UncertaintyOutput(
            path=path,
            silent=path is None and self.cfg.quiet,
            expected=expected,
            nbest=self.cfg.nbest,
            source_dictionary=self.source_dictionary,
            target_dictionary=self.target_dictionary,
            utterances=getattr(self.datasets.get(self.cfg.gen_subset), "ids", None),
            decoders=self._decoders,
        )
