"""Agreement of checkpoints whose weights are combined: one model, one data set, one kind."""

import logging
import re
from argparse import ArgumentParser, Namespace
from typing import Any, Dict, Iterator, NamedTuple, Tuple

from fairseq.data import Dictionary
from fairseq.models import ARCH_MODEL_REGISTRY, MODEL_DATACLASS_REGISTRY
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from ..errors import UsageError
from .dictionaries import describe_dictionary
from .fit import DICTIONARIES, LANGUAGES, PRIOR_NETWORK, task_state_of
from .reading import config_of

logger = logging.getLogger(__name__)

# options of a model that act in its training only, or that its weights' shapes already show
_TRAINING_OPTIONS = re.compile(
    r"drop|zoneout|mask_|freez|noise|_activations$|min_params_to_wrap|pretrained|_path$|^data$"
    r"|max_(source_|target_)?positions$|^fp16$|^tpu$"
)
_ABSENT = "absent"


class Description(NamedTuple):
    """Properties that checkpoints must share for their weights to be combined."""

    path: str
    architecture: str
    options: Dict[str, Any]
    """Options of the model that change its outputs."""
    kind: str
    """Prior Network with its offset, or plain model."""
    data: Dict[str, Any]
    """Dictionaries and languages, as far as the checkpoint records them."""
    weights: Dict[str, str]
    """Shapes of the parameters and buffers by name."""
    seed: Any


def describe(path: str, state: Dict[str, Any]) -> Description:
    """Describe a checkpoint.

    Args:
        path: checkpoint file.
        state: its content.

    Raises:
        UsageError: it has no configuration.
    """
    config = config_of(path, state)
    cfg = config.model
    mark = task_state_of(state).get(PRIOR_NETWORK)
    return Description(
        path,
        _architecture(cfg),
        _model_options(cfg),
        "a plain model" if mark is None else f"a Prior Network with offset {mark['offset']}",
        dict(_recorded_data(task_state_of(state))),
        {name: _shape(value) for name, value in state["model"].items()},
        getattr(config.get("common"), "seed", None),
    )


def require_same(first: Description, second: Description) -> None:
    """Require that two checkpoints have the same model, the same data and the same kind.

    Options, dictionaries and languages that only one of them records are not compared. Log a
    warning if the seeds differ, as those of an ensemble's members do.

    Raises:
        UsageError: they differ; the message names both files and the difference.
    """
    for difference in _differences(first, second):
        raise not_one_training(first.path, second.path, difference)
    if first.seed != second.seed:
        logger.warning(
            "%s was trained with --seed %s and %s with %s: the mean of two trainings is of no use, "
            "unless one continues the other",
            first.path, first.seed, second.path, second.seed,
        )  # fmt: skip


def not_one_training(first: str, second: str, difference: str) -> UsageError:
    """Return the error of two checkpoint files that do not agree."""
    return UsageError(
        f"{first} and {second} cannot be averaged: {difference}; give checkpoints of one training"
    )


def _differences(first: Description, second: Description) -> Iterator[str]:
    """Yield what distinguishes two checkpoints, the most telling difference first."""
    if first.architecture != second.architecture:
        yield f"their architectures are {first.architecture} and {second.architecture}"
    for name, ours, theirs in _both(first.options, second.options):
        yield f"their option {name} is {ours!r} and {theirs!r}"
    if first.kind != second.kind:
        yield f"the first is {first.kind}, the second {second.kind}"
    for name, ours, theirs in _both(first.data, second.data):
        is_dictionary = name != LANGUAGES
        yield (
            f"their {name} dictionaries differ"
            if is_dictionary
            else (f"they translate {' to '.join(ours)} and {' to '.join(theirs)}")
        )
    for name in {**first.weights, **second.weights}:
        ours, theirs = (d.weights.get(name, _ABSENT) for d in (first, second))
        if ours != theirs:
            yield f"{name} is {ours} in the first and {theirs} in the second"


def _both(first: Dict[str, Any], second: Dict[str, Any]) -> Iterator[Tuple[str, Any, Any]]:
    """Yield key and values where two mappings differ, for the keys that both have."""
    for key in first:
        if key in second and first[key] != second[key]:
            yield key, first[key], second[key]


def _architecture(cfg: Any) -> str:
    return str(getattr(cfg, "_name", None) or getattr(cfg, "arch", None))


def _model_options(cfg: Any) -> Dict[str, Any]:
    """Return the options of a model; a Namespace has those of all components.

    They are unknown, and not compared, for a Namespace of an architecture that is not registered.
    """
    options = dict(_flat(_mapping(cfg)))
    model = ARCH_MODEL_REGISTRY.get(_architecture(cfg))
    if model is not None and _architecture(cfg) not in MODEL_DATACLASS_REGISTRY:
        parser = ArgumentParser(add_help=False)
        model.add_args(parser)
        known = {action.dest for action in parser._actions}
        options = {name: value for name, value in options.items() if name in known}
    elif isinstance(cfg, Namespace) and model is None:
        options = {}
    return {
        name: value
        for name, value in options.items()
        if not name.startswith("_") and not _TRAINING_OPTIONS.search(name)
    }


def _mapping(cfg: Any) -> Dict[str, Any]:
    if isinstance(cfg, DictConfig):
        found: Any = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
        return found
    return vars(cfg)


def _flat(options: Dict[str, Any], prefix: str = "") -> Iterator[Tuple[str, Any]]:
    for name, value in options.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _recorded_data(state: Dict[str, Any]) -> Iterator[Tuple[str, Any]]:
    """Yield dictionaries and languages that a task state records."""
    yield from (state.get(DICTIONARIES) or {}).items()
    if state.get(LANGUAGES):
        yield LANGUAGES, list(state[LANGUAGES])
    for name, value in state.items():
        if isinstance(value, Dictionary):  # fairseq's speech tasks record the dictionary itself
            yield name.replace("_dictionary", ""), describe_dictionary(value)


def _shape(value: Any) -> str:
    if not isinstance(value, Tensor):
        return "no tensor"
    numbers = "integers, " if not (value.is_floating_point() or value.is_complex()) else ""
    return f"of shape {numbers}{list(value.shape)}"
