"""What models say along outputs, by the pass in which it is read."""

from typing import Any, Iterator, List, NamedTuple, Tuple

from torch import Tensor

Output = Tuple[int, Tensor]
"""Position of its source in the batch, and its tokens ``[L]``."""


class Pass(NamedTuple):
    """Some outputs of a batch, of N tokens together."""

    outputs: List[int]
    """Which ones."""
    rows: Tensor
    """Which of R positions each token is at, ``[N]``."""
    net_outputs: Iterator[Tuple[Any, ...]]
    """Of each model what its decoder returned, logits ``[1, R, K]`` first."""


class Reading(NamedTuple):
    """What was read of some outputs of a batch, of N tokens together."""

    outputs: List[int]
    """Which ones."""
    context: Tensor
    """Of each token's position, ``[C, N]``; see :mod:`.readings`."""
    chosen: Tensor
    """What each of M models said of it, ``[M, N]``."""
