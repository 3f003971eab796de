"""What a search decoded, kept so that its outputs need no decoding once more."""

from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from .passes import Heads, Output, Pass, last_of
from .readings import Reader, choose

_NOWHERE = -1

# Of all models together, and by the share of the beam that is scored: about where, on a CPU, to run
# the last layer once more for what is returned costs as much as to read twice to four times as many
# prefixes ahead.
_AHEAD_FROM_FEATURES = 256


class LastLayer(NamedTuple):
    """What made a model's logits in a step of the search."""

    layer: torch.nn.Module
    """Of the decoder."""
    features: Tensor
    """What it was given, ``[n, d]``; logits are what it makes of them."""
    said: Optional[Tensor]
    """What is taken of the model, ``[n, K]``, in the search's own memory."""


class _Rows(NamedTuple):
    """The n prefixes that a step of the search continues, some of each source."""

    sources: Tensor
    """Position of each one's source, ``[n]``."""
    parents: Tensor
    """Row of the step before whose prefix it is but for the last token, ``[n]``."""
    tokens: Tensor
    """The last token, ``[n]``."""


class _Table:
    """Rows that are added step by step, in few blocks of memory.

    Were each step's kept by itself, among the large tensors that come and go, the heap would grow
    with the steps.
    """

    _STEPS = 8  # of a block

    def __init__(self) -> None:
        self._blocks: List[Tensor] = []
        self._rows = self._size = 0  # of a block, and of all

    def add(self, rows: Tensor) -> None:
        if not self._blocks:
            self._rows = self._STEPS * len(rows)
        while len(rows) > 0:
            block, start = divmod(self._size, self._rows)
            if block == len(self._blocks):
                self._blocks.append(rows.new_empty(self._rows, *rows.shape[1:]))
            part = rows[: self._rows - start]
            self._blocks[block][start : start + len(part)] = part
            self._size, rows = self._size + len(part), rows[len(part) :]

    def __getitem__(self, numbers: Tensor) -> Tensor:
        result = self._blocks[0].new_empty(len(numbers), *self._blocks[0].shape[1:])
        blocks = numbers.div(self._rows, rounding_mode="floor")
        for block, rows in enumerate(self._blocks):
            chosen = (blocks == block).nonzero().squeeze(1)
            result[chosen] = rows[numbers[chosen] - block * self._rows]
        return result


class _Ahead:
    """Reads the prefixes that the search goes on with, while it still holds what was said of them.

    Args:
        reader: of the models.
        max_rows: how many prefixes are read at once, at most.
    """

    def __init__(self, reader: Reader, max_rows: int) -> None:
        self._reader, self._max_rows = reader, max_rows
        self._said: List[Tensor] = []
        self._versions: List[int] = []
        self._prefixes: Optional[Tensor] = None
        self._sizes: List[int] = []
        # by row: of its last token the context and what was said, and what was of all its tokens
        self._table = _Table()

    def hear(self, said: List[Tensor]) -> None:
        """Take what was said in a step."""
        self._said, self._versions = said, [each._version for each in said]

    def follow(self, parents: Tensor, tokens: Tensor) -> bool:
        """Read the rows ``parents`` ``[n]``, which go on by ``tokens``; false where the search has
        changed what was said.
        """
        said, self._said, prefixes = self._said, [], self._prefixes
        if [each._version for each in said] != self._versions:
            return False
        if prefixes is None:
            prefixes = said[0].new_zeros(len(said), len(said[0]), dtype=torch.float64)
        survivors, row = parents.unique(return_inverse=True)
        read = [
            self._reader.read([each[part] for each in said], prefixes[:, part])
            for part in survivors.split(self._max_rows)
        ]
        context, chosen = torch.cat(read, dim=-1)[:, row], choose(said, parents, tokens)
        if self._prefixes is None:
            # the first rows have no token
            self._add(context.new_zeros(len(context), len(said[0])), prefixes, prefixes)
        self._prefixes = prefixes[:, parents] + chosen
        self._add(context, chosen, self._prefixes)
        return True

    def _add(self, *columns: Tensor) -> None:
        self._sizes = list(map(len, columns))
        self._table.add(torch.cat(columns).t())

    def heads(self, rows: Tensor, ends: Tensor) -> Heads:
        """What was read of the last tokens of ``rows``, and of all tokens of rows ``ends``."""
        context, chosen, _ = self._table[rows].t().split(self._sizes)
        return Heads(context, chosen, self._table[ends].t().split(self._sizes)[-1])


class SearchRecord:
    """Follows the search of one batch.

    What a search returns, it has decoded. Of each prefix it came by the decoders' features are
    kept: they are to the logits as d to K, and less than a layer's keys and values in the
    search's own incremental state. Where the last layer is large, tokens are read as the search
    takes them, and it is run once more for the ends of outputs only.

    Args:
        eos: end-of-sequence symbol, which ends each output.
        reader: of the models.
        share: of the beam, how much will be scored.
        max_rows: how many prefixes are read at once on a device, at most.
    """

    def __init__(
        self, eos: int, reader: Reader, share: float, max_rows: Callable[[torch.device], int]
    ) -> None:
        self._eos, self._reader, self._share, self._max_rows = eos, reader, share, max_rows
        self._sources: Optional[Tensor] = None
        self._parents: Optional[Tensor] = None
        self._rows: List[_Rows] = []
        # by model; None where one ends in something else than a layer
        self._layers: Optional[List[torch.nn.Module]] = []
        self._features: List[_Table] = []
        self._ahead: Optional[_Ahead] = None

    def reorder(self, order: Tensor) -> bool:
        """Take note of which rows go on, ``[n]``; at first of the sources that rows are of.

        Returns:
            Whether any row is of another source now.
        """
        before = self._sources
        if before is None:
            self._sources, self._parents = order, torch.zeros_like(order)
            return True
        self._sources, self._parents = before[order], order
        return not torch.equal(self._sources, before)

    def begin_step(self, tokens: Tensor) -> None:
        """Take note of the prefixes that the models are given, ``[n, L]``."""
        assert self._sources is not None
        assert self._parents is not None
        rows = _Rows(self._sources, self._parents, tokens[:, -1].clone())
        self._rows.append(rows)
        if self._ahead is not None and not self._ahead.follow(rows.parents, rows.tokens):
            self._ahead = None

    @property
    def takes(self) -> Optional[str]:
        """What else of a model than its last layer is wanted of this step."""
        is_wanted = self._ahead is not None or len(self._rows) == 1
        return self._reader.takes if is_wanted else None

    def end_step(self, last_layers: Sequence[Optional[LastLayer]]) -> None:
        """Take what made each model's logits then; ``None`` where that is not known."""
        known = [each for each in last_layers if each is not None]
        if self._layers is None or len(known) < len(last_layers):
            self._layers = self._ahead = None
            return
        said = [each.said for each in known if each.said is not None]
        if len(self._rows) == 1:
            self._layers = [each.layer for each in known]
            self._features = [_Table() for _ in known]
            if len(said) == len(known) and self._is_ahead_cheaper(known):
                self._ahead = _Ahead(self._reader, self._max_rows(said[0].device))
        for table, each in zip(self._features, known):
            table.add(each.features)
        if self._ahead is not None:
            self._ahead.hear(said)

    def _is_ahead_cheaper(self, last_layers: Sequence[LastLayer]) -> bool:
        features = sum(each.features.size(1) for each in last_layers)
        # elsewhere a last layer costs less than reading, and steps should be short
        on_cpu = last_layers[0].features.device.type == "cpu"
        return on_cpu and self._share * features >= _AHEAD_FROM_FEATURES

    def passes(self, outputs: Sequence[Output]) -> Iterator[Pass]:
        """Make the logits once more of those outputs that the search came by, by passes of bounded
        size.
        """
        if not self._layers:
            return
        paths, device = self._find(outputs), outputs[0][1].device
        ahead = self._ahead if len(self._rows) > 1 else None
        made = paths if ahead is None else {i: path[-1:] for i, path in paths.items()}
        for group in _groups(made, self._max_rows(device)):
            path = torch.tensor([row for i in group for row in made[i]], device=device)
            distinct, rows = path.unique(return_inverse=True)
            net_outputs = (
                (layer(features[distinct]).unsqueeze(0),)
                for layer, features in zip(self._layers, self._features)
            )
            heads = None
            if ahead is not None:
                path = torch.tensor([row for i in group for row in paths[i]], device=device)
                lengths = torch.tensor([len(paths[i]) for i in group], device=device)
                # a token is the last one of the row after its own
                is_first = last_of(lengths).roll(1)
                heads = ahead.heads(path[~is_first], distinct)
            yield Pass(group, rows, net_outputs, heads)

    def _find(self, outputs: Sequence[Output]) -> Dict[int, List[int]]:
        """By number of the output, of those that the search came by, the row of the prefix before
        each token; rows are counted through all steps, and where several hold the same prefix, the
        first one stands for it.
        """
        targets = [target for _, target in outputs]
        tokens = pad_sequence(targets, batch_first=True).cpu().numpy()
        steps = [tuple(part.cpu().numpy() for part in rows) for rows in self._rows]
        classes = 1 + max(tokens.max(), *(last.max() for _, _, last in steps))
        paths = np.full_like(tokens, _NOWHERE)
        before, start = np.empty(0, dtype=np.int64), 0
        for step, (sources, parents, last) in enumerate(steps[: tokens.shape[1]]):
            # a prefix, as one number: where it began, or what it continues and by which token
            if step == 0:
                rows, wanted = sources, np.array([source for source, _ in outputs])
            else:
                rows = before[parents] * classes + last
                wanted = paths[:, step - 1] * classes + tokens[:, step - 1]
            prefixes, first, prefix = np.unique(rows, return_index=True, return_inverse=True)
            place = prefixes.searchsorted(wanted).clip(max=len(prefixes) - 1)
            paths[:, step] = np.where(prefixes[place] == wanted, start + first[place], _NOWHERE)
            before, start = start + first[prefix], start + len(rows)
        return {
            i: path[: len(target)].tolist()
            for i, (path, target) in enumerate(zip(paths, targets))
            if path[len(target) - 1] != _NOWHERE and tokens[i, len(target) - 1] == self._eos
        }


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
