"""What models say along outputs, by the pass in which it is read."""

from typing import Any, Iterator, List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor

Output = Tuple[int, Tensor]
"""Position of its source in the batch, and its tokens ``[L]``."""


class Heads(NamedTuple):
    """Of T outputs of N tokens together, what was read before: of all tokens but the last ones."""

    context: Tensor
    """Of these tokens' positions, ``[C, N - T]``."""
    chosen: Tensor
    """What each model said of them, ``[M, N - T]``."""
    prefixes: Tensor
    """What each model gave to them together, by the position that comes after, ``[M, R]``."""


class Pass(NamedTuple):
    """Some outputs of a batch, of N tokens together."""

    outputs: List[int]
    """Which ones."""
    rows: Tensor
    """Which of R positions each token is at, ``[N]``; with heads, of the T last tokens."""
    net_outputs: Iterator[Tuple[Any, ...]]
    """Of each model what its decoder returned, logits ``[1, R, K]`` first."""
    heads: Optional[Heads] = None


def last_of(lengths: Tensor) -> Tensor:
    """Which ones of the N tokens of outputs of these ``lengths`` ``[T]`` are the last, ``[N]``."""
    ends = lengths.cumsum(0)
    is_last = torch.zeros(int(ends[-1]), dtype=torch.bool, device=lengths.device)
    return is_last.index_fill_(0, ends - 1, True)
