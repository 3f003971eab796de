"""What a search decoded, kept so that its outputs need no decoding once more."""

from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from .passes import Output, Pass, Reading
from .readings import Reader, choose

_NOWHERE = -1

# Of all models together, and by the share of the beam that is scored: about where, on a CPU, to run
# the last layer once more for what is returned costs as much as to read twice as many prefixes.
_AT_ONCE_FROM_FEATURES = 256


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


class _AtOnce:
    """Reads each prefix in its step of the search, while what was said of it is there.

    Args:
        eos: end-of-sequence symbol, which ends each output.
        reader: of the models.
    """

    def __init__(self, eos: int, reader: Reader) -> None:
        self._eos, self._reader = eos, reader
        self._said: List[Tensor] = []
        self._versions: List[int] = []
        # what each model said of the rows' last tokens, and of all their tokens
        self._chosen: Optional[Tensor] = None
        self._prefixes = torch.empty(0)
        self._sizes: List[int] = []
        # by row: its context, ``chosen``, and what was said of its end
        self._table = _Table()

    def read(self, said: List[Tensor]) -> None:
        """Read all rows of a step."""
        self._said, self._versions = said, [each._version for each in said]
        ends = torch.stack([each[:, self._eos] for each in said]).double()
        if self._chosen is None:
            # the first rows have no token
            self._chosen = self._prefixes = torch.zeros_like(ends)
        columns = (self._reader.read(said, self._prefixes), self._chosen, ends)
        self._sizes = list(map(len, columns))
        self._table.add(torch.cat(columns).t())

    def follow(self, parents: Tensor, tokens: Tensor) -> bool:
        """Continue rows ``parents`` ``[n]`` by ``tokens``; false where the search has changed what
        was said.
        """
        said, self._said = self._said, []
        if [each._version for each in said] != self._versions:
            return False
        self._chosen = choose(said, parents, tokens)
        self._prefixes = self._prefixes[:, parents] + self._chosen
        return True

    def look_up(self, rows: Tensor, is_last: Tensor) -> Tuple[Tensor, Tensor]:
        """Context and what was said of the N tokens of outputs, by the rows before them."""
        context, chosen, ends = self._table[rows].t().split(self._sizes)
        # a token is the last one of the row after its own
        return context, torch.where(is_last, ends, chosen.roll(-1, dims=1))


class SearchRecord:
    """Follows the search of one batch.

    What a search returns, it has decoded. Of each prefix it came by the decoders' features are
    kept: they are to the logits as d to K, and less than a layer's keys and values in the
    search's own incremental state. Where the last layer is large, each prefix is read at once, and
    it is not run again.

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
        self._at_once: Optional[_AtOnce] = None

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
        if self._at_once is not None and not self._at_once.follow(rows.parents, rows.tokens):
            self._at_once = None

    @property
    def takes(self) -> Optional[str]:
        """What else of a model than its last layer is wanted of this step."""
        is_wanted = self._at_once is not None or len(self._rows) == 1
        return self._reader.takes if is_wanted else None

    def end_step(self, last_layers: Sequence[Optional[LastLayer]]) -> None:
        """Take what made each model's logits then; ``None`` where that is not known."""
        known = [each for each in last_layers if each is not None]
        if self._layers is None or len(known) < len(last_layers):
            self._layers = self._at_once = None
            return
        said = [each.said for each in known if each.said is not None]
        if len(self._rows) == 1:
            self._layers = [each.layer for each in known]
            self._features = [_Table() for _ in known]
            if len(said) == len(known) and self._is_cheaper_at_once(known):
                self._at_once = _AtOnce(self._eos, self._reader)
        for table, each in zip(self._features, known):
            table.add(each.features)
        if self._at_once is not None:
            self._at_once.read(said)

    def _is_cheaper_at_once(self, last_layers: Sequence[LastLayer]) -> bool:
        features = sum(each.features.size(1) for each in last_layers)
        # elsewhere a last layer costs less than reading, and steps should be short
        on_cpu = last_layers[0].features.device.type == "cpu"
        return on_cpu and self._share * features >= _AT_ONCE_FROM_FEATURES

    def reading(self, outputs: Sequence[Output]) -> Optional[Reading]:
        """What was read at once of those outputs that the search came by; ``None`` where nothing
        was.
        """
        paths = {} if self._at_once is None else self._find(outputs)
        if self._at_once is None or not paths:
            return None
        device = outputs[0][1].device
        rows = torch.tensor([row for path in paths.values() for row in path], device=device)
        lengths = torch.tensor([len(path) for path in paths.values()], device=device)
        is_last = torch.zeros(len(rows), dtype=torch.bool, device=device)
        is_last[lengths.cumsum(0) - 1] = True
        return Reading(list(paths), *self._at_once.look_up(rows, is_last))

    def passes(self, outputs: Sequence[Output]) -> Iterator[Pass]:
        """Make the logits once more of those outputs that the search came by, by passes of bounded
        size.
        """
        if not self._layers:
            return
        paths, device = self._find(outputs), outputs[0][1].device
        for group in _groups(paths, self._max_rows(device)):
            path = torch.tensor([row for i in group for row in paths[i]], device=device)
            distinct, rows = path.unique(return_inverse=True)
            net_outputs = (
                (layer(features[distinct]).unsqueeze(0),)
                for layer, features in zip(self._layers, self._features)
            )
            yield Pass(group, rows, net_outputs)

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
