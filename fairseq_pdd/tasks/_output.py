"""Records of hypotheses with text, for fairseq-generate and fairseq-interactive."""

import logging
from collections import deque
from typing import Any, Deque, Dict, Iterable, List, Optional, Sequence, Union

from fairseq.data import Dictionary, FairseqDataset
from torch import Tensor

from ..records import JsonLinesWriter, StdoutWriter, StreamWriter, make_record

logger = logging.getLogger(__name__)


class TextDecoders:
    """Conversion of tokens to the text that fairseq prints.

    Args:
        post_process: fairseq's ``--post-process``.
    """

    def __init__(self, post_process: Optional[str]) -> None:
        self.post_process = post_process
        self.tokenizer: Any = None
        """fairseq's tokenizer, once the command has built it."""
        self.bpe: Any = None
        """fairseq's BPE, once the command has built it."""

    def text(
        self,
        dictionary: Dictionary,
        tokens: Sequence[int],
        ignored: Iterable[int] = (),
        escape_unknown: bool = False,
    ) -> str:
        """Return the detokenised text of tokens, without the ignored ones."""
        text: str = dictionary.string(
            tokens, self.post_process, escape_unknown, extra_symbols_to_ignore=ignored
        )
        for decoder in (self.bpe, self.tokenizer):
            if decoder is not None:
                text = decoder.decode(text)
        return text


class RecordOutput:
    """Output of a run. This base class writes nothing, as is right for training."""

    nbest: Optional[int] = None
    """Number of hypotheses of a sentence that are written, and scored; None for all."""

    def begin_batches(self, dataset: FairseqDataset, iterator: Any) -> None:
        """Prepare for the batches of an iterator."""

    def number(self, index: int) -> int:
        """Return the number of a sentence in its data set, as in fairseq's lines."""
        return index

    def numbered(self, sample: Dict[str, Any]) -> Dict[str, Any]:
        """Return the batch with the numbers of its sentences as ``id``."""
        return sample

    def write(
        self, sample: Dict[str, Any], hypotheses: Sequence[List[Dict[str, Any]]], generator: Any
    ) -> None:
        """Write the scored hypotheses of one batch."""


class UncertaintyOutput(RecordOutput):
    """Output of fairseq-generate, which closes the file after the last sentence.

    fairseq-generate calls a task for every batch but not at the end, hence ``expected``.

    Args:
        path: file for the records, ``None`` for standard output.
        silent: write nothing (``--quiet`` without a file, ``--no-uncertainty``).
        expected: number of sentences of the run, ``None`` if it is not known.
        nbest: number of hypotheses of a sentence that fairseq prints.
        source_dictionary: dictionary of the source; ``None`` where the source is no text.
        target_dictionary: dictionary of the target.
        utterances: names of the sentences by number; ``None`` where they have none.
        decoders: conversion of tokens to text.
    """

    def __init__(
        self,
        path: Optional[str],
        silent: bool,
        expected: Optional[int],
        nbest: int,
        source_dictionary: Optional[Dictionary],
        target_dictionary: Dictionary,
        utterances: Optional[Sequence[str]],
        decoders: TextDecoders,
    ) -> None:
        self.path, self.nbest, self._remaining = path, nbest, expected
        self._source_dictionary, self._target_dictionary = source_dictionary, target_dictionary
        self._utterances, self._decoders = utterances, decoders
        self._writer: Optional[Union[JsonLinesWriter, StreamWriter, StdoutWriter]] = None
        if silent:
            return
        if path is None:
            self._writer = StdoutWriter()
        else:
            self._writer = StreamWriter(path) if expected is None else JsonLinesWriter(path)

    def write(
        self, sample: Dict[str, Any], hypotheses: Sequence[List[Dict[str, Any]]], generator: Any
    ) -> None:
        """Write the scored hypotheses of one batch, and close the file after the last one."""
        if self._writer is None:
            return
        # symbols that fairseq-generate strips from its own lines
        ignored = getattr(generator, "symbols_to_strip_from_output", None) or {generator.eos}
        sources = sample["net_input"].get("src_tokens")
        targets = sample.get("target")
        dictionary = self._target_dictionary
        for i, (sample_id, hypos) in enumerate(zip(sample["id"].tolist(), hypotheses)):
            source = reference = None
            if self._source_dictionary is not None and sources is not None:
                source = self._text(self._source_dictionary, sources[i])
            if targets is not None:
                reference = self._text(dictionary, targets[i], ignored, escape_unknown=True)
            utterance = None if self._utterances is None else self._utterances[sample_id]
            for rank, hypo in enumerate(hypos):
                tokens = hypo["tokens"].tolist()
                self._writer.write(
                    make_record(
                        sample_id=sample_id,
                        rank=rank,
                        source=source,
                        reference=reference,
                        hypothesis=self._decoders.text(dictionary, tokens, ignored),
                        tokens=[dictionary[token] for token in tokens],
                        scores=hypo["uncertainty"],
                        utterance=utterance,
                    )
                )
        if self._remaining is None:
            return
        self._remaining -= len(hypotheses)
        if self._remaining <= 0:
            self._writer.close()
            if self.path is not None:
                logger.info("uncertainty of every hypothesis is in %s (nats)", self.path)
            self._writer = None

    def _text(
        self,
        dictionary: Dictionary,
        padded: Tensor,
        ignored: Iterable[int] = (),
        escape_unknown: bool = False,
    ) -> str:
        tokens = [token for token in padded.tolist() if token != dictionary.pad()]
        return self._decoders.text(dictionary, tokens, ignored, escape_unknown)


class InteractiveOutput(RecordOutput):
    """Output of fairseq-interactive, whose batches have no sentence numbers.

    Args:
        output: output for numbered batches.
    """

    def __init__(self, output: UncertaintyOutput) -> None:
        self._output, self.nbest = output, output.nbest
        self._first = self._next = 0
        self._ids: Deque[Tensor] = deque()

    def read(self, lines: int) -> None:
        """Count the lines of a buffer that was read; its batches follow."""
        self._first = self._next
        self._next += lines

    def begin_batches(self, dataset: FairseqDataset, iterator: Any) -> None:
        """Record the sentence numbers of the batches that follow."""
        self._ids.clear()
        for batch in iterator.frozen_batches:
            # the collater sorts the sentences of a batch by length
            ids = dataset.collater([dataset[i] for i in batch])["id"]
            self._ids.append(ids + self._first)

    def number(self, index: int) -> int:
        """Return the number of the line from its place in the buffer."""
        return self._first + index

    def numbered(self, sample: Dict[str, Any]) -> Dict[str, Any]:
        """Return the next batch with the numbers of its lines."""
        return {**sample, "id": self._ids.popleft()}

    def write(
        self, sample: Dict[str, Any], hypotheses: Sequence[List[Dict[str, Any]]], generator: Any
    ) -> None:
        """Write the scored hypotheses of a numbered batch."""
        self._output.write(sample, hypotheses, generator)
