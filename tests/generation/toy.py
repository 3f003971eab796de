"""A model small enough to enumerate all of its outputs."""

import itertools
from typing import Any, Dict, List, Tuple

import torch
from fairseq.data import Dictionary
from fairseq.models import FairseqDecoder, FairseqEncoder, FairseqEncoderDecoderModel
from torch import Tensor

WORDS = 3
MAX_WORDS = 3
PAD, EOS = 1, 2

Sequence = Tuple[int, ...]


def dictionary() -> Dictionary:
    """Make a dictionary of fairseq's four symbols and three words."""
    made = Dictionary()
    for i in range(WORDS):
        made.add_symbol(f"w{i}")
    return made


def sequences() -> List[Sequence]:
    """List all outputs: up to three words, then end-of-sequence."""
    words = range(4, 4 + WORDS)
    return [
        (*output, EOS)
        for length in range(MAX_WORDS + 1)
        for output in itertools.product(words, repeat=length)
    ]


class _Encoder(FairseqEncoder):
    def forward(self, src_tokens: Tensor, src_lengths: Tensor) -> Any:
        return {"encoder_out": [src_tokens]}

    def reorder_encoder_out(self, encoder_out: Any, new_order: Tensor) -> Any:
        return {"encoder_out": [encoder_out["encoder_out"][0].index_select(0, new_order)]}


class _Decoder(FairseqDecoder):
    def __init__(self, symbols: Dictionary, logits: Dict[Sequence, Tensor]) -> None:
        super().__init__(symbols)
        self.logits = logits

    def forward(self, prev_output_tokens: Tensor, encoder_out: Any = None) -> Any:
        rows = [
            [self.of_prefix(tuple(output[1:stop])) for stop in range(1, len(output) + 1)]
            for output in prev_output_tokens.tolist()
        ]
        features = torch.stack([torch.stack(row) for row in rows]).double()
        return features.nan_to_num(neginf=-1e9), None

    def of_prefix(self, prefix: Sequence) -> Tensor:
        # any values after the end, where the padding is
        return self.logits.get(prefix, torch.zeros(len(self.dictionary)))


class ToyModel(FairseqEncoderDecoderModel):
    """A table of random logits by prefix; the tables of two seeds differ by ``spread``."""

    def __init__(self, seed: int, spread: float) -> None:
        symbols = dictionary()
        common = torch.Generator().manual_seed(0)
        own = torch.Generator().manual_seed(seed)
        logits = {}
        for output in sequences():
            row = torch.full((len(symbols),), -torch.inf, dtype=torch.float64)
            possible = [EOS] if len(output) > MAX_WORDS else [EOS, *range(4, 4 + WORDS)]
            row[possible] = torch.randn(len(possible), generator=common, dtype=torch.float64)
            noise = torch.randn(len(possible), generator=own, dtype=torch.float64)
            row[possible] += spread * noise
            logits[output[:-1]] = row
        super().__init__(_Encoder(symbols), _Decoder(symbols, logits))

    def conditionals(self, output: Sequence) -> Tensor:
        """Return the distributions ``[L, K]`` along a sequence."""
        rows = [self.decoder.of_prefix(output[:step]) for step in range(len(output))]
        return torch.stack(rows).softmax(-1)

    def probability(self, output: Sequence) -> Tensor:
        """Return P(y)."""
        rows = self.conditionals(output)
        return torch.stack([row[token] for row, token in zip(rows, output)]).prod()
