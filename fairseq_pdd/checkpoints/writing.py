"""Checkpoint files that commands of this package write."""

import os
from typing import Any, Callable, Dict, Sequence

import torch
from omegaconf import OmegaConf

from ..errors import UsageError
from ..records.files import PathLike, cannot_write, replace_file
from .reading import config_of, require_entries


def write_checkpoint(
    destination: PathLike, sources: Sequence[PathLike], make: Callable[[], Dict[str, Any]]
) -> None:
    """Write a checkpoint that is made of others.

    Args:
        destination: file that appears when it is complete.
        sources: checkpoints that ``make`` reads.
        make: returns the content. The destination is opened first, so that a file that cannot be
            written ends the command before the work.

    Raises:
        UsageError: the destination is one of the sources, or cannot be written.
    """
    for source in sources:
        if _is_same_file(source, destination):
            raise UsageError(
                f"cannot write {destination}: it is the checkpoint itself that is read, {source}; "
                "give another file to write"
            )
    with replace_file(destination) as stream:
        state = make()
        try:
            torch.save(state, stream)
        except RuntimeError as error:  # torch wraps the errors of the stream
            raise cannot_write(destination, error) from error


def without_optimizer(path: str, state: Dict[str, Any]) -> Dict[str, Any]:
    """Return the entries of a checkpoint that describe its model, in fairseq's newest format.

    The optimizer's state, meters, validation losses and a moving average of the weights (EMA) are
    those of one moment of the training, and are dropped.

    Raises:
        UsageError: the state lacks an entry that fairseq's commands need.
    """
    require_entries(path, state)
    extra = state["extra_state"]
    return {
        "args": None,
        "cfg": OmegaConf.to_container(config_of(path, state), resolve=True, enum_to_str=True),
        "model": state["model"],
        "criterion": state.get("criterion"),
        "optimizer_history": state["optimizer_history"][-1:],
        "task_state": state.get("task_state") or {},
        "extra_state": {key: extra[key] for key in ("train_iterator",) if key in extra},
    }


def _is_same_file(one: PathLike, other: PathLike) -> bool:
    return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)
