"""Checkpoints that fairseq loads with any PyTorch and without this package."""

import os
from argparse import Namespace
from typing import Any, Collection, Dict, Mapping, NamedTuple

import numpy as np
import torch
from fairseq.dataclass.utils import _set_legacy_defaults
from fairseq.tasks import TASK_DATACLASS_REGISTRY, TASK_REGISTRY

from .._compat import drop_fused_weights
from ..errors import UsageError
from ..records.files import PathLike
from .paths import CHECKPOINT_OPTIONS
from .reading import read_checkpoint
from .writing import without_optimizer, write_checkpoint

_CRITERION: Dict[str, Any] = {"_name": "cross_entropy", "sentence_avg": False}


class Additions(NamedTuple):
    """Names that this package adds to fairseq's registries."""

    tasks: Mapping[str, str]
    """Names of fairseq's tasks by the names of those that extend them."""
    criterions: Collection[str]
    options: Collection[str]
    """Names of the options of these tasks and criterions."""


def write_plain(
    source: PathLike, destination: PathLike, additions: Additions, optimizer: bool = False
) -> None:
    """Write a checkpoint anew, without anything that fairseq alone cannot load.

    Its weights are those of the source, its task is one of fairseq, and its options are plain
    values. Options of this package, the user dir and names of other checkpoints are removed. The
    mark of a Prior Network stays in the task's state, which fairseq ignores.

    Args:
        source: checkpoint of fairseq-train.
        destination: file that appears when it is complete.
        additions: names that fairseq does not know.
        optimizer: keep the optimizer's state.

    Raises:
        UsageError: the source cannot be read safely or holds values that are not plain, or the
            destination cannot be written.
    """
    path = os.fspath(source)
    write_checkpoint(destination, [path], lambda: _plain_state(path, additions, optimizer))


def _plain_state(path: str, additions: Additions, optimizer: bool) -> Dict[str, Any]:
    state = read_checkpoint(path)
    plain = without_optimizer(path, state)
    plain.update(cfg=_plain_config(path, plain["cfg"], additions), criterion=None)
    drop_fused_weights(plain["model"])  # which only some versions load
    if optimizer:
        extra = state["extra_state"]
        plain["optimizer_history"] = state["optimizer_history"]
        plain["last_optimizer_state"] = state.get("last_optimizer_state")
        plain["extra_state"] = {key: extra[key] for key in extra if key != "metrics"}
    return {
        # the attribute of the weights with their versions is plain, and models read it
        name: value if name == "model" else _plain_value(path, value)
        for name, value in plain.items()
    }


def _plain_config(path: str, cfg: Dict[Any, Any], additions: Additions) -> Dict[str, Any]:
    plain: Dict[str, Any] = {}
    for name, section in cfg.items():
        if isinstance(section, Namespace):
            section = {k: v for k, v in vars(section).items() if k not in additions.options}
            section.update((k, v) for k, v in _flat_names(section, additions).items())
        if isinstance(section, dict):
            section = {**section, **_without_paths(section)}
        plain[str(name)] = section
    if not plain.get("criterion") or plain["criterion"]["_name"] in additions.criterions:
        plain["criterion"] = _CRITERION
    plain["task"] = _plain_task(path, plain["task"], plain["criterion"]["_name"], additions)
    return plain


def _flat_names(section: Dict[str, Any], additions: Additions) -> Dict[str, Any]:
    """Return the names that a section with the options of all components has to change."""
    changed = {}
    if section.get("task") in additions.tasks:
        changed["task"] = additions.tasks[section["task"]]
    if section.get("criterion") in additions.criterions:
        changed["criterion"] = _CRITERION["_name"]
    return changed


def _without_paths(section: Dict[str, Any]) -> Dict[str, Any]:
    options = {**CHECKPOINT_OPTIONS, "user_dir": None}
    return {option: value for option, value in options.items() if option in section}


def _plain_task(
    path: str, section: Dict[str, Any], criterion: str, additions: Additions
) -> Dict[str, Any]:
    """Return the section of fairseq's own task."""
    name = additions.tasks.get(section["_name"], section["_name"])
    if name not in TASK_REGISTRY:
        raise UsageError(f"{path} was trained for task {name}, which fairseq does not have")
    dataclass = TASK_DATACLASS_REGISTRY.get(name)
    if dataclass is not None:
        section = {k: v for k, v in section.items() if k in dataclass.__dataclass_fields__}
        return {**section, "_name": name}
    # a task without a config dataclass is found by its option --task, and reads --criterion
    filled = Namespace(**{k: v for k, v in section.items() if k not in additions.options})
    _set_legacy_defaults(filled, TASK_REGISTRY[name])
    return {**vars(filled), "_name": name, "task": name, "criterion": criterion}


def _plain_value(path: str, value: Any) -> Any:
    """Return a value of types that PyTorch loads by default.

    Raises:
        UsageError: there is no plain form of the value.
    """
    if isinstance(value, Namespace):
        value = vars(value)
    if isinstance(value, dict):
        return {_plain_value(path, k): _plain_value(path, v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain_value(path, item) for item in value)
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if value is None or isinstance(value, (bool, int, float, str, torch.Tensor)):
        return value
    raise UsageError(f"{path} holds a {type(value).__name__}, which has no plain form")
