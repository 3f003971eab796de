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
    """Which of the R distributions each token is of, ``[N]``."""
    net_outputs: Iterator[Tuple[Any, ...]]
    """Of each model what its decoder returned, logits ``[1, R, K]`` first."""
