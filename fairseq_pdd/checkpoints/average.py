"""The mean of several checkpoints' weights, as one checkpoint."""

import os
import re
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import torch
from torch import Tensor

from .._compat import drop_fused_weights
from ..errors import UsageError
from ..records.files import PathLike
from .agreement import Description, describe, not_one_training, require_same
from .fit import check_finite
from .reading import map_checkpoint
from .writing import without_optimizer, write_checkpoint

_COUNT = "num_batches_tracked"
"""Name of the batch normalisation's count of batches, which grows in training."""


class Series(NamedTuple):
    """Checkpoints that fairseq-train writes at regular intervals."""

    option: str
    name: str
    """Form of the files' names, for messages."""
    pattern: str
    """Regular expression of the names, with the number that orders them as its group."""
    kept_by: str
    """Options of fairseq-train that decide how many there are."""


EPOCHS = Series(
    "--num-epoch-checkpoints",
    "checkpointEPOCH.pt",
    r"checkpoint(\d+)\.pt",
    "--keep-last-epochs and without --no-epoch-checkpoints",
)
UPDATES = Series(
    "--num-update-checkpoints",
    "checkpoint_EPOCH_UPDATE.pt",
    r"checkpoint_\d+_(\d+)\.pt",
    "--save-interval-updates and --keep-interval-updates",
)


def last_checkpoints(
    folder: PathLike, number: int, series: Series, upper_bound: Optional[int] = None
) -> List[str]:
    """Return the last checkpoints of a training, the oldest first.

    Args:
        folder: save folder of the training.
        number: how many to return.
        series: checkpoints of epochs or of updates; other files are ignored.
        upper_bound: last epoch, or update, to use.

    Raises:
        UsageError: this is no folder, or has too few such checkpoints.
    """
    if not os.path.isdir(folder):
        raise UsageError(
            f"{folder} is no folder: with {series.option}, give the --save-dir of a training as "
            "--inputs"
        )
    matches = [(re.fullmatch(series.pattern, name), name) for name in os.listdir(folder)]
    numbered = sorted((int(match[1]), name) for match, name in matches if match)
    found = [name for n, name in numbered if upper_bound is None or n <= upper_bound]
    if len(found) < number:
        bound = "" if upper_bound is None else f" up to {upper_bound} (--checkpoint-upper-bound)"
        raise UsageError(
            f"{folder} has {len(found)} checkpoints {series.name}{bound}, fewer than "
            f"{series.option} {number}: give a smaller number, or train with "
            f"{series.kept_by}"
        )
    return [os.path.join(folder, name) for name in found[-number:]]


def write_average(sources: Sequence[PathLike], destination: PathLike) -> None:
    """Write the mean of the weights of checkpoints.

    The mean is computed in float64 and stored in the type of the last source. Other entries are
    those of the last source, without the optimizer's state. Counts of batches are the last
    source's; other integers have to agree. Memory is needed for the sum and one checkpoint.

    Args:
        sources: checkpoints of one training, in its order.
        destination: file that appears when it is complete.

    Raises:
        UsageError: a source cannot be read safely, has weights that are not finite or does not
            agree with the first; two sources are the same file; the destination is a source or
            cannot be written.
    """
    paths = [os.fspath(source) for source in sources]
    _require_distinct(paths)
    parent = os.path.dirname(os.path.abspath(destination))
    if not os.path.isdir(parent):
        raise UsageError(f"cannot write {destination}: the folder {parent} does not exist; make it")
    write_checkpoint(destination, paths, lambda: _mean_state(paths))


def _require_distinct(paths: Sequence[str]) -> None:
    seen: Dict[str, str] = {}
    for path in paths:
        if os.path.isdir(path):
            raise UsageError(
                f"{path} is a folder: give {EPOCHS.option} or {UPDATES.option} with it, or files "
                "in it"
            )
        file = os.path.realpath(path)
        if file in seen:
            raise UsageError(f"{seen[file]} and {path} are the same file: give it once")
        seen[file] = path


class _Sum:
    """Sums of weights over checkpoints, in float64, and the values that have no mean."""

    def __init__(self) -> None:
        self.count = 0
        self.weights: Dict[str, Any] = {}
        self._first: Optional[Description] = None

    def add(self, path: str, state: Dict[str, Any]) -> None:
        """Add a checkpoint that agrees with the earlier ones."""
        description = describe(path, state)
        self._first = self._first or description
        require_same(self._first, description)
        check_finite(path, state["model"])
        for name, value in state["model"].items():
            if not _has_mean(value):
                self._compare(path, name, value)
            elif name in self.weights:
                self.weights[name] += value
            else:
                wide = torch.promote_types(value.dtype, torch.float64)
                self.weights[name] = value.to(wide, copy=True)
        self.count += 1

    def _compare(self, path: str, name: str, value: Any) -> None:
        earlier = self.weights.setdefault(name, value)
        if not name.endswith(_COUNT) and not _equal(earlier, value):
            raise not_one_training(
                self._first.path if self._first else path, path, f"{name} has no mean, and differs"
            )


def _mean_state(paths: Sequence[str]) -> Dict[str, Any]:
    total = _Sum()
    for path in paths[:-1]:
        total.add(path, _read(path))
    last = _read(paths[-1])
    total.add(paths[-1], last)
    result = without_optimizer(paths[-1], last)
    _replace_by_means(result["model"], total)
    return result


def _read(path: str) -> Dict[str, Any]:
    state = map_checkpoint(path)
    drop_fused_weights(state["model"])  # which a plain form does not have
    return state


def _replace_by_means(weights: Dict[str, Any], total: _Sum) -> None:
    """Replace weights by means; tensors that share memory share that of their mean."""
    places = {name: _place(value) for name, value in weights.items() if _has_mean(value)}
    means: Dict[Any, Tensor] = {}
    for name, place in places.items():
        mean = total.weights.pop(name).div_(total.count).to(weights[name].dtype)
        shared = means.setdefault(place, mean)
        # earlier checkpoints may hold the tensors apart
        weights[name] = shared if torch.equal(shared, mean) else mean


def _has_mean(value: Any) -> bool:
    return isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other)
    return bool(one == other)


def _place(value: Tensor) -> Any:
    """Return the place of a tensor's numbers in memory."""
    memory = value.untyped_storage().data_ptr()
    return memory, value.storage_offset(), value.dtype, value.shape, value.stride()
