"""What a search decoded, kept so that its outputs need no decoding once more."""

from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

import torch
from torch import Tensor

from .passes import Output, Pass

_NOWHERE = -1


class LastLayer(NamedTuple):
    """What made a model's logits in a step of the search."""

    layer: torch.nn.Module
    """Of the decoder."""
    features: Tensor
    """What it was given, ``[n, d]``; logits ``[n, K]`` are what it makes of them."""


class _Rows(NamedTuple):
    """The n prefixes that a step of the search continues, some of each source."""

    sources: Tensor
    """Position of each one's source, ``[n]``."""
    parents: Tensor
    """Row of the step before whose prefix it is but for the last token, ``[n]``."""
    tokens: Tensor
    """The last token, ``[n]``."""


class SearchRecord:
    """Follows the search of one batch.

    What a search returns, it has decoded. Of each prefix it came by the decoders' features are
    kept: they are to the logits as d to K, and less than a layer's keys and values in the
    search's own incremental state.

    Args:
        eos: end-of-sequence symbol, which ends each output.
    """

    def __init__(self, eos: int) -> None:
        self._eos = eos
        self._sources: Optional[Tensor] = None
        self._parents: Optional[Tensor] = None
        # by step
        self._rows: List[_Rows] = []
        self._last_layers: List[Sequence[Optional[LastLayer]]] = []

    def reorder(self, order: Tensor) -> None:
        """Take note of which rows go on, ``[n]``; at first of the sources that rows are of."""
        if self._sources is None:
            self._sources, self._parents = order, torch.zeros_like(order)
        else:
            self._sources, self._parents = self._sources[order], order

    def begin_step(self, tokens: Tensor) -> None:
        """Take note of the prefixes that the models are given, ``[n, L]``."""
        assert self._sources is not None
        assert self._parents is not None
        self._rows.append(_Rows(self._sources, self._parents, tokens[:, -1].clone()))

    def end_step(self, last_layers: Sequence[Optional[LastLayer]]) -> None:
        """Take what made each model's logits then; ``None`` where that is not known."""
        self._last_layers.append(last_layers)

    def passes(self, outputs: Sequence[Output], max_rows: int) -> Iterator[Pass]:
        """Make the logits once more of those outputs that the search came by, by passes of at
        most ``max_rows`` prefixes or one output.
        """
        last_layers = []
        for steps in zip(*self._last_layers):
            known = [step for step in steps if step is not None]
            if len(known) < len(steps):
                return
            features = torch.cat([step.features for step in known])
            last_layers.append(LastLayer(known[0].layer, features))
        paths = self._find(outputs)
        for group in _groups(paths, max_rows):
            path = [row for i in group for row in paths[i]]
            device = outputs[0][1].device
            distinct, rows = torch.tensor(path, device=device).unique(return_inverse=True)
            yield Pass(
                group,
                rows,
                ((layer(features[distinct]).unsqueeze(0),) for layer, features in last_layers),
            )

    def _find(self, outputs: Sequence[Output]) -> Dict[int, List[int]]:
        """By number of the output, of those that the search came by, the row of the prefix before
        each token; rows are counted through all steps.
        """
        first_rows, children = self._prefix_tree()
        paths = {}
        for i, (source, target) in enumerate(outputs):
            tokens = target.tolist()
            path = [first_rows.get(source, _NOWHERE)]
            for token in tokens[:-1]:
                path.append(children.get((path[-1], token), _NOWHERE))
            if tokens[-1] == self._eos and path[-1] != _NOWHERE:
                paths[i] = path
        return paths

    def _prefix_tree(self) -> Tuple[Dict[int, int], Dict[Tuple[int, int], int]]:
        """Rows, numbered through all steps: of the empty prefix by source, and of what continues
        a row by a token. Where rows hold the same prefix, the first one stands for it.
        """
        first_rows: Dict[int, int] = {}
        children: Dict[Tuple[int, int], int] = {}
        before: List[int] = []
        start = 0
        for step, rows in enumerate(self._rows):
            now = []
            for number, (source, parent, token) in enumerate(
                zip(*(part.tolist() for part in rows)), start
            ):
                if step == 0:
                    now.append(first_rows.setdefault(source, number))
                else:
                    now.append(children.setdefault((before[parent], token), number))
            before, start = now, start + len(now)
        return first_rows, children


def _groups(paths: Dict[int, List[int]], max_rows: int) -> Iterator[List[int]]:
    """Split outputs into groups of bounded size. Those of a source, which share prefixes, are
    neighbours.
    """
    group: List[int] = []
    distinct: Set[int] = set()
    for i, path in paths.items():
        if group and len(distinct) + len(path) > max_rows:
            yield group
            group, distinct = [], set()
        group.append(i)
        distinct.update(path)
    if group:
        yield group
