"""A model small enough to enumerate all that it can say."""

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
    """fairseq's four symbols, of which only end-of-sequence is ever said, and three words."""
    made = Dictionary()
    for i in range(WORDS):
        made.add_symbol(f"w{i}")
    return made


def sequences() -> List[Sequence]:
    """Everything that can be said: up to three words, then end-of-sequence."""
    words = range(4, 4 + WORDS)
    return [
        (*said, EOS)
        for length in range(MAX_WORDS + 1)
        for said in itertools.product(words, repeat=length)
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
        # as in other decoders, a layer comes last; its sums need finite numbers
        self.last = torch.nn.Linear(len(symbols), len(symbols), bias=False, dtype=torch.float64)
        torch.nn.init.eye_(self.last.weight)

    def forward(self, prev_output_tokens: Tensor, encoder_out: Any = None) -> Any:
        rows = [
            [self.of_prefix(tuple(said[1:stop])) for stop in range(1, len(said) + 1)]
            for said in prev_output_tokens.tolist()
        ]
        features = torch.stack([torch.stack(row) for row in rows]).double()
        return self.last(features.nan_to_num(neginf=-1e9)), None

    def of_prefix(self, prefix: Sequence) -> Tensor:
        # beyond the end, where padding stands
        return self.logits.get(prefix, torch.zeros(len(self.dictionary)))


class ToyModel(FairseqEncoderDecoderModel):
    """A table of random logits by prefix; those of different seeds differ by ``spread``."""

    def __init__(self, seed: int, spread: float) -> None:
        symbols = dictionary()
        common = torch.Generator().manual_seed(0)
        own = torch.Generator().manual_seed(seed)
        logits = {}
        for said in sequences():
            row = torch.full((len(symbols),), -torch.inf, dtype=torch.float64)
            possible = [EOS] if len(said) > MAX_WORDS else [EOS, *range(4, 4 + WORDS)]
            row[possible] = torch.randn(len(possible), generator=common, dtype=torch.float64)
            noise = torch.randn(len(possible), generator=own, dtype=torch.float64)
            row[possible] += spread * noise
            logits[said[:-1]] = row
        super().__init__(_Encoder(symbols), _Decoder(symbols, logits))

    def conditionals(self, said: Sequence) -> Tensor:
        """Distributions ``[L, K]`` along a sequence."""
        rows = [self.decoder.of_prefix(said[:step]) for step in range(len(said))]
        return torch.stack(rows).softmax(-1)

    def probability(self, said: Sequence) -> Tensor:
        """P(y)."""
        rows = self.conditionals(said)
        return torch.stack([row[token] for row, token in zip(rows, said)]).prod()
