"""Values of a search's outputs, taken from what the models said while it went on."""

from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor

from .readings import Reader, Reading, StepReading

_NOWHERE = -1


class _Rows(NamedTuple):
    """The n prefixes that a step of the search continues, some of each source."""

    sources: Tensor
    """Position of each one's source, ``[n]``."""
    parents: Tensor
    """Row of the step before whose prefix it is but for the last token, ``[n]``."""
    tokens: Tensor
    """The last token, ``[n]``."""


class SearchRecord:
    """Follows the search of one batch, and finds the values of what it came by.

    What a search returns, it has decoded: to decode it once more would cost as much as the
    search where all of a beam is returned. Kept are a few values for each prefix, and of the
    distributions those of the running step.

    Args:
        reader: reads what the models say.
        eos: end-of-sequence symbol, which ends each output.
    """

    def __init__(self, reader: Reader, eos: int) -> None:
        self._reader, self._eos = reader, eos
        self._sources: Optional[Tensor] = None
        self._parents: Optional[Tensor] = None
        self._open: Optional[StepReading] = None
        # by step: the rows, what was read of them, what the models said of their end
        self._rows: List[_Rows] = []
        self._readings: List[Reading] = []
        self._ends: List[Tensor] = []
        # and context and what the models said of the tokens that led to the rows of the next one
        self._before: List[Tuple[Tensor, Tensor]] = []

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
        rows = _Rows(self._sources, self._parents, tokens[:, -1].clone())
        self._close(rows.parents, rows.tokens)
        self._rows.append(rows)

    def end_step(self, logits: Sequence[Tensor], log_probs: Sequence[Tensor]) -> None:
        """Take what each model said then, ``[n, K]``."""
        before = self._before[-1] if self._before else None
        self._open = self._reader.read_step(logits, log_probs, before)
        self._readings.append(self._open.reading)

    def _close(self, parents: Tensor, tokens: Tensor) -> None:
        """Look up what continues the last step's rows, and let go of its distributions."""
        if self._open is None:
            return
        (_, context), distributions = self._open
        self._open = None
        count = context.shape[-1]
        rows = torch.cat([torch.arange(count, device=parents.device), parents])
        labels = torch.cat([tokens.new_full((count,), self._eos), tokens])
        chosen = torch.stack([distribution[rows, labels] for distribution in distributions])
        chosen = chosen.to(context)
        self._ends.append(chosen[:, :count])
        self._before.append((context[:, parents], chosen[:, count:]))

    def find(self, outputs: Sequence[Tuple[int, Sequence[int]]]) -> Dict[int, Tensor]:
        """Values of outputs after the search.

        Args:
            outputs: position of the source and tokens of each.

        Returns:
            By number of the output those that the search came by,
            ``[readings, measures and joint values, L]`` on the CPU.
        """
        if not self._rows:
            return {}
        last = self._rows[-1]
        self._close(last.parents[:0], last.tokens[:0])
        first_rows, children = self._prefix_tree()
        paths = {}
        for i, (source, tokens) in enumerate(outputs):
            path = [first_rows.get(source, _NOWHERE)]
            for token in tokens[:-1]:
                path.append(children.get((path[-1], token), _NOWHERE))
            if tokens[-1] == self._eos and path[-1] != _NOWHERE:
                paths[i] = path
        return self._values(paths) if paths else {}

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

    def _values(self, paths: Dict[int, List[int]]) -> Dict[int, Tensor]:
        """Values along the rows of each path."""
        measures, contexts = (torch.cat(parts, dim=-1) for parts in zip(*self._readings))
        before, entered = (torch.cat(parts, dim=-1) for parts in zip(*self._before))
        ended = self._reader.joint(contexts, torch.cat(self._ends, dim=-1))
        entered = self._reader.joint(before, entered)
        # nothing led to the first rows
        first = entered.new_zeros((*entered.shape[:2], len(self._rows[0].sources)))
        joint = torch.cat([first, entered, ended], dim=-1).to(measures).cpu()
        measures, count = measures.cpu(), measures.shape[-1]
        rows = [row for path in paths.values() for row in path]
        chosen = [row for path in paths.values() for row in (*path[1:], count + path[-1])]
        values = torch.cat([measures[..., rows], joint[..., chosen]], dim=1)
        parts = values.split([len(path) for path in paths.values()], dim=-1)
        return dict(zip(paths, parts))
