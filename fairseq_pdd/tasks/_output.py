"""From hypotheses of fairseq-generate and fairseq-interactive to records with text."""

import logging
from collections import deque
from typing import Any, Deque, Dict, Iterable, List, Optional, Sequence, Union

from fairseq.data import Dictionary, FairseqDataset
from fairseq.data.data_utils import post_process
from torch import Tensor

from ..scoring import JsonLinesWriter, StdoutWriter, StreamWriter, make_record

logger = logging.getLogger(__name__)


class UncertaintyOutput:
    """Writes the hypotheses of a run, and closes the file with the last sentence.

    fairseq-generate tells a task of every batch but not of the end, hence ``expected``.

    Args:
        path: file for the records, ``None`` for standard output.
        silent: write nothing (``--quiet`` without a file).
        expected: number of sentences that the run will translate, ``None`` if nobody knows.
        source_dictionary: dictionary of the source; ``None`` where the source is no text.
        target_dictionary: dictionary of the target.
        utterances: names of the sentences by number; ``None`` where they have none.
        post_process: fairseq's ``--post-process``.
        decoders: filled by the task with fairseq's ``tokenizer`` and ``bpe``.
    """

    def __init__(
        self,
        path: Optional[str],
        silent: bool,
        expected: Optional[int],
        source_dictionary: Optional[Dictionary],
        target_dictionary: Dictionary,
        utterances: Optional[Sequence[str]],
        post_process: Optional[str],
        decoders: Dict[str, Any],
    ) -> None:
        self.path, self.remaining = path, expected
        self.source_dictionary, self.target_dictionary = source_dictionary, target_dictionary
        self.utterances = utterances
        self.post_process, self.decoders = post_process, decoders
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
        """Write the scored hypotheses of one batch."""
        if self._writer is None:
            return
        # what fairseq-generate strips from its own lines
        strip = getattr(generator, "symbols_to_strip_from_output", None) or {generator.eos}
        sources = sample["net_input"].get("src_tokens")
        targets = sample.get("target")
        for i, (sample_id, hypos) in enumerate(zip(sample["id"].tolist(), hypotheses)):
            source = reference = None
            if self.source_dictionary is not None and sources is not None:
                dictionary, tokens = self.source_dictionary, sources[i].tolist()
                source = self._text(dictionary, tokens, _symbols(dictionary, tokens))
            if targets is not None:
                dictionary, tokens = self.target_dictionary, targets[i].tolist()
                symbols = _symbols(dictionary, tokens, dictionary.unk_string(escape=True))
                reference = self._text(dictionary, tokens, symbols, strip)
            utterance = None if self.utterances is None else self.utterances[sample_id]
            for rank, hypo in enumerate(hypos):
                dictionary, tokens = self.target_dictionary, hypo["tokens"].tolist()
                symbols = _symbols(dictionary, tokens)
                self._writer.write(
                    make_record(
                        sample_id=sample_id,
                        rank=rank,
                        source=source,
                        reference=reference,
                        hypothesis=self._text(dictionary, tokens, symbols, strip),
                        tokens=symbols,
                        scores=hypo["uncertainty"],
                        utterance=utterance,
                    )
                )
        if self.remaining is None:
            return
        self.remaining -= len(hypotheses)
        if self.remaining <= 0:
            self._writer.close()
            if self.path is not None:
                logger.info("uncertainty of every hypothesis is in %s (nats)", self.path)
            self._writer = None

    def _text(
        self,
        dictionary: Dictionary,
        tokens: List[int],
        symbols: List[str],
        strip: Iterable[int] = (),
    ) -> str:
        """What ``dictionary.string`` gives, which asks of each token whether it is a tensor."""
        left_out = {dictionary.bos(), dictionary.eos(), dictionary.pad(), *strip}
        kept = (symbol for symbol, token in zip(symbols, tokens) if token not in left_out)
        text: str = post_process(" ".join(kept), self.post_process)
        for name in ("bpe", "tokenizer"):
            if self.decoders.get(name) is not None:
                text = self.decoders[name].decode(text)
        return text


def _symbols(
    dictionary: Dictionary, tokens: Iterable[int], unknown: Optional[str] = None
) -> List[str]:
    """Symbols of ``tokens``, with ``unknown`` in place of that of unknown ones."""
    symbols = [dictionary[token] for token in tokens]
    if unknown is None:
        return symbols
    return [unknown if symbol == dictionary.unk_word else symbol for symbol in symbols]


class LineNumbers:
    """Numbers of the sentences of fairseq-interactive, whose batches come without them."""

    def __init__(self) -> None:
        self._first = self._next = 0
        self._batches: Deque[Tensor] = deque()

    def read(self, lines: int) -> None:
        """Count a buffer of lines that was read; its batches follow."""
        self._first = self._next
        self._next += lines

    def announce(self, dataset: FairseqDataset, batches: Sequence[Sequence[int]]) -> None:
        """Take note of the batches that the task will get next."""
        self._batches.clear()
        for batch in batches:
            # collated as the task will see it: sorted by length
            ids = dataset.collater([dataset[i] for i in batch])["id"]
            self._batches.append(ids + self._first)

    def of_next_batch(self) -> Tensor:
        """Numbers of the sentences of the next batch, ``[B]``."""
        return self._batches.popleft()
