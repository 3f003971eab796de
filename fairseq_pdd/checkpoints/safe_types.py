"""Types in fairseq's checkpoints that PyTorch does not know to be safe.

From 2.6 on, PyTorch unpickles only types on its list. Importing this module adds those that
fairseq-train, fairseq-hydra-train and older versions of fairseq write. A file can call each with
any arguments and set any attributes of its objects, so each must be harmless then, too.
"""

import argparse
import collections
import logging
import os
import typing
from typing import Any, Dict, List

import torch
from fairseq.data import Dictionary
from fairseq.distributed import utils as distributed
from fairseq.logging import meters
from omegaconf import DictConfig, ListConfig, base, nodes

from .._compat import RUNS_CODE_IN_CHECKPOINTS
from . import numpy_values

logger = logging.getLogger(__name__)

UNSAFE_OPTION = "FAIRSEQ_PDD_UNSAFE_CHECKPOINTS"
"""Environment variable; 1 loads any file and runs the code in it."""
_TORCH_OPTION = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
_TORCH_SAFE_OPTION = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


def _named(*types: Any) -> Dict[str, Any]:
    return {f"{kind.__module__}.{kind.__qualname__}": kind for kind in types}


def _present(module: Any, name: str) -> List[Any]:
    """Return a class that older versions of a library do not have."""
    return [getattr(module, name)] if hasattr(module, name) else []


# Options of a command; it only holds attributes.
_NAMESPACES = _named(argparse.Namespace)

# Configurations. They hold values by key. What an interpolation in them can read (other values,
# environment variables) does not leave the process.
_CONFIGURATIONS = {
    **_named(DictConfig, ListConfig, base.Metadata, base.ContainerMetadata),
    **_named(nodes.AnyNode, nodes.StringNode, nodes.IntegerNode, nodes.FloatNode),
    **_named(nodes.BooleanNode, collections.defaultdict, *_present(nodes, "BytesNode")),
    # types of keys and values; those that can be called make plain values
    **_named(bool, bytes, dict, float, int, list, str, tuple),
    **{f"typing.{name}": getattr(typing, name) for name in ("Any", "Dict", "List")},
}

# Values of metrics, such as the n-gram counts of --eval-bleu, with the names of numpy 1 and 2.
# Builders of ours replace numpy's, which trust the file.
_NUMPY = {
    "numpy.dtype": numpy_values.Dtype,
    "numpy.ndarray": numpy_values.Array,
    **{
        f"numpy.{core}.multiarray.{name}": builder
        for core in ("core", "_core")
        for name, builder in (
            ("_reconstruct", numpy_values.empty_array),
            ("scalar", numpy_values.scalar),
        )
    },
}

# Sums, counts and times of fairseq 0.8 and older, under the name of their old module too.
_METER_TYPES = (
    meters.AverageMeter,
    *_present(meters, "ConcatTensorMeter"),
    meters.StopwatchMeter,
    meters.SumMeter,
    meters.TimeMeter,
)
_METERS = {
    f"{module}.{kind.__name__}": kind
    for module in ("fairseq.meters", "fairseq.logging.meters")
    for kind in _METER_TYPES
}

# Symbols and their counts, in the task state of fairseq's speech tasks.
_DICTIONARIES = _named(Dictionary)

# Number of a tensor, in the copy of a checkpoint that a process sends to the others.
_PLACEHOLDERS = _named(distributed._TensorPlaceholder)

SAFE_TYPES: Dict[str, Any] = {
    **_NAMESPACES,
    **_CONFIGURATIONS,
    **_NUMPY,
    **_METERS,
    **_DICTIONARIES,
    **_PLACEHOLDERS,
}
"""Type or function that is called for each name in a file."""


def _is_set(option: str) -> bool:
    return os.environ.get(option, "0").lower() in ("1", "y", "yes", "true")  # as PyTorch reads it


def _set_pytorchs_options() -> None:
    if _is_set(UNSAFE_OPTION):
        os.environ[_TORCH_OPTION] = "1"
    if _is_set(_TORCH_OPTION):
        option = UNSAFE_OPTION if _is_set(UNSAFE_OPTION) else _TORCH_OPTION
        logger.warning(
            "UNSAFE: %s is set, so a checkpoint can run any code on this machine; unset it unless "
            "you trust every file that is loaded",
            option,
        )
    elif RUNS_CODE_IN_CHECKPOINTS:
        os.environ[_TORCH_SAFE_OPTION] = "1"


torch.serialization.add_safe_globals([(kind, name) for name, kind in SAFE_TYPES.items()])
_set_pytorchs_options()
