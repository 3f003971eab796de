"""Agreement of checkpoints with the data that their models are given, and with one another."""

import logging
import os
from itertools import combinations
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import torch
from fairseq import utils
from fairseq.data import Dictionary, data_utils
from fairseq.tasks import FairseqTask
from torch import Tensor

from ..errors import UsageError
from .dictionaries import describe_dictionaries, dictionary_files
from .reading import config_of, map_checkpoint

logger = logging.getLogger(__name__)

# keys of the task state of this package's checkpoints
DICTIONARIES = "dictionaries"
"""Key of the descriptions of the dictionaries, by side."""
LANGUAGES = "languages"
"""Key of source and target language."""
PRIOR_NETWORK = "prior_network"
"""Key of the mark of a Prior Network, ``{"offset": δ}``; None for other students."""

_SAME_DICTIONARIES = (
    "prepare the data with the checkpoint's dictionaries (text: fairseq-preprocess "
    "--srcdict/--tgtdict; speech: their vocabulary and tokenizer in the config yaml)"
)


def require_files(paths: Sequence[str], option: str) -> None:
    """Require that checkpoints exist.

    Args:
        paths: checkpoint files.
        option: option that names them, for the message.

    Raises:
        UsageError: a file is missing, or a folder.
    """
    folders = [path for path in paths if os.path.isdir(path)]
    if folders:
        raise UsageError(
            f"{folders[0]} is a folder: give a checkpoint file in it, such as "
            f"{os.path.join(folders[0], 'checkpoint_best.pt')}, with {option}"
        )
    missing = [path or "''" for path in paths if not os.path.exists(path)]
    if missing:
        raise UsageError(
            f"checkpoint not found: {', '.join(missing)} ({option} takes files, several joined "
            "with ':', without patterns such as *)"
        )


def languages_of(path: str) -> Optional[Tuple[str, str]]:
    """Return source and target language that a checkpoint was trained for; None if unknown.

    Raises:
        UsageError: the file cannot be read safely or has no configuration.
    """
    return _trained_languages(path, map_checkpoint(path))


def languages(cfg: Any) -> Optional[Tuple[str, str]]:
    """Return source and target language of a task's configuration; None if it lacks one."""
    source, target = (getattr(cfg, f"{side}_lang", None) for side in ("source", "target"))
    return (source, target) if source and target else None


def check_fit(
    path: str,
    task: FairseqTask,
    state: Optional[Dict[str, Any]] = None,
    is_start: bool = False,
) -> None:
    """Require that a checkpoint is intact and that it fits the data of a task.

    Dictionaries are compared by the description in the checkpoint or, for checkpoints of other
    tasks, with the files of the data folder that it was trained on, if they are found.

    Args:
        path: checkpoint file.
        task: task with the dictionaries that the model is to be used with.
        state: content of the file, if it has been read already.
        is_start: a training starts from the weights; another direction then causes a warning.

    Raises:
        UsageError: the file cannot be read safely; weights are not finite; dictionaries, direction
            or features differ.
    """
    state = map_checkpoint(path) if state is None else state
    cfg = config_of(path, state)
    check_finite(path, state["model"])
    _check_direction(path, _trained_languages(path, state), task, is_start)
    _check_sizes(path, state["model"], cfg.model, task)
    recorded = task_state_of(state).get(DICTIONARIES)
    if recorded is not None:
        compare_dictionaries(path, recorded, task)
    else:
        _compare_dictionary_files(path, cfg.task, task)
    _check_features(path, cfg.model, task)


def check_members(paths: Sequence[str], states: Sequence[Dict[str, Any]]) -> None:
    """Require that the checkpoints of an ensemble translate in one direction.

    Log a warning if some hold the same weights, or if their languages differ otherwise.

    Args:
        paths: checkpoint files.
        states: their contents.

    Raises:
        UsageError: two members have opposite directions.
    """
    pairs = [_trained_languages(path, state) for path, state in zip(paths, states)]
    alike: List[str] = []
    for i, j in combinations(range(len(paths)), 2):
        first, second = pairs[i], pairs[j]
        if first is not None and second is not None and first != second:
            message = (
                f"{paths[i]} translates {_arrow(first)} and {paths[j]} {_arrow(second)}: the "
                "members of an ensemble translate in one direction"
            )
            if first == second[::-1]:
                raise UsageError(f"{message}; remove one of them")
            logger.warning(message)
        if paths[j] not in alike and _same_weights(states[i]["model"], states[j]["model"]):
            alike.append(paths[j])
            logger.warning("%s holds the same weights as %s", paths[j], paths[i])
    if len(alike) == len(paths) - 1 > 0:
        logger.warning(
            "all members of the ensemble hold the same weights: knowledge uncertainty will be 0"
        )


_UNSET_BUFFER = "_float_tensor"
"""Buffer that fairseq does not initialise, since only its type and device are used."""


def check_finite(path: str, weights: Dict[str, Any]) -> None:
    """Raise :class:`UsageError` for parameters or buffers that are no finite numbers."""
    for name, tensor in weights.items():
        if name.endswith(_UNSET_BUFFER):
            continue
        if isinstance(tensor, Tensor) and not torch.isfinite(tensor).all():
            raise UsageError(
                f"{path} is damaged or its training diverged: {name} holds values that are not "
                "finite; give another checkpoint, or train it again"
            )


def compare_dictionaries(name: str, recorded: Dict[str, Any], task: FairseqTask) -> None:
    """Compare a task's dictionaries with descriptions that a checkpoint records.

    Args:
        name: name of the checkpoint for the message.
        recorded: descriptions by side; see :func:`.dictionaries.describe_dictionaries`.
        task: task with the dictionaries of the data.

    Raises:
        UsageError: they differ.
    """
    for side, ours in describe_dictionaries(task).items():
        theirs = recorded.get(side, ours)
        if theirs != ours:
            size = f"{theirs['symbols']:,} types, of which some differ or have another number"
            raise UsageError(
                f"{name} was trained with another {side} dictionary than that of "
                f"{_folder(_config(task))}: it has {size}; {_SAME_DICTIONARIES}"
            )


def _check_direction(
    path: str, theirs: Optional[Tuple[str, str]], task: FairseqTask, is_start: bool
) -> None:
    ours = languages(_config(task))
    if theirs is None or ours is None or theirs == ours or theirs != ours[::-1]:
        return
    message = (
        f"{path} translates {_arrow(theirs)}, and the data of {_folder(_config(task))} is used "
        f"{_arrow(ours)}"
    )
    if not is_start:
        raise UsageError(
            f"{message}: give --source-lang {theirs[0]} --target-lang {theirs[1]}, or another "
            "checkpoint"
        )
    logger.warning("%s: training starts from its weights", message)


def _check_sizes(path: str, weights: Dict[str, Any], model_cfg: Any, task: FairseqTask) -> None:
    """Compare vocabulary sizes before a model is built, so that the error names a dictionary."""
    sides = {
        "source": ("encoder.embed_tokens.weight", getattr(task, "source_dictionary", None)),
        "target": ("decoder.embed_tokens.weight", task.target_dictionary),
    }
    for side, (key, dictionary) in sides.items():
        if dictionary is None or getattr(weights.get(key), "ndim", 0) != 2:
            continue
        # a pointer-generator has no embeddings of its last types, the positions of unknown words
        size = weights[key].shape[0] + (getattr(model_cfg, "source_position_markers", 0) or 0)
        if size != len(dictionary):
            raise UsageError(
                f"{path} has a {side} dictionary of {size:,} types, the data in "
                f"{_folder(_config(task))} one of {len(dictionary):,}: {_SAME_DICTIONARIES}"
            )


def _compare_dictionary_files(path: str, cfg: Any, task: FairseqTask) -> None:
    """Compare symbols with those of the data that a checkpoint was trained on."""
    ours = {"source": task.source_dictionary, "target": task.target_dictionary}
    for folder in _training_folders(path, _folder(cfg)):
        try:
            files = dictionary_files(cfg, folder)
        except Exception as error:  # a changed folder does not make the checkpoint wrong
            logger.warning("%s cannot be read: %s", folder, error)
            continue
        is_compared = False
        for side, file in files.items():
            dictionary, theirs = ours[side], _load_dictionary(file)
            # The checkpoint has the right size, so a file of another size is not from its
            # training.
            if dictionary is None or theirs is None or len(theirs) != len(dictionary):
                continue
            is_compared = True
            if theirs.symbols != dictionary.symbols:
                position = next(
                    i for i, (a, b) in enumerate(zip(theirs.symbols, dictionary.symbols)) if a != b
                )
                raise UsageError(
                    f"{path} was trained with another {side} dictionary ({file}) than that of "
                    f"{_folder(_config(task))}: symbol number {position} is {theirs[position]!r}, "
                    f"in the data {dictionary[position]!r}; {_SAME_DICTIONARIES}"
                )
        if is_compared:
            return
    logger.warning(
        "%s: the data that it was trained on (%s) is not found, so its dictionaries are not "
        "compared with those of %s",
        path, _folder(cfg), _folder(_config(task)),
    )  # fmt: skip


def _training_folders(path: str, data: str) -> Iterator[str]:
    """Yield the existing folders that a checkpoint may mean by the name of its data."""
    places = [Path(data)]
    if not os.path.isabs(data):  # as seen from the folder of the experiment, at best
        places = [parent / data for parent in Path(os.path.abspath(path)).parents] + places
    return (str(place) for place in places if data and place.is_dir())


def _check_features(path: str, model_cfg: Any, task: FairseqTask) -> None:
    """Compare the number of features per frame, for tasks whose source is speech."""
    ours = getattr(task, "feature_dim", None)
    theirs = getattr(model_cfg, "input_feat_per_channel", None)
    if ours is None or theirs is None:
        return
    # s2t_transformer and vggtransformer name this option differently
    channels = getattr(model_cfg, "input_channels", getattr(model_cfg, "in_channels", 1))
    if theirs * channels != ours:
        raise UsageError(
            f"{path} takes frames of {theirs * channels} features, the data in "
            f"{_folder(_config(task))} has frames of {ours}: compute the same features"
        )


def _same_weights(ours: Dict[str, Any], theirs: Dict[str, Any]) -> bool:
    return ours.keys() == theirs.keys() and all(
        torch.equal(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else a == b
        for a, b in ((ours[name], theirs[name]) for name in ours)
    )


def _trained_languages(path: str, state: Dict[str, Any]) -> Optional[Tuple[str, str]]:
    recorded = task_state_of(state).get(LANGUAGES)
    if recorded is not None:
        return recorded[0], recorded[1]
    cfg = config_of(path, state).task
    if not hasattr(cfg, "source_lang"):
        return None
    found = languages(cfg)
    # If they were not given, fairseq inferred them, and its configuration does not keep them.
    for folder in _training_folders(path, _folder(cfg)) if found is None else ():
        source, target = data_utils.infer_language_pair(folder)
        if source and target:
            return source, target
    return found


def task_state_of(state: Dict[str, Any]) -> Dict[str, Any]:
    """Return what a checkpoint's task recorded; empty if it is not of a known form."""
    found = state.get("task_state")
    return found if isinstance(found, dict) else {}


def _arrow(languages: Tuple[str, str]) -> str:
    return f"{languages[0]} to {languages[1]}"


def _config(task: FairseqTask) -> Any:
    """Return a task's configuration, which legacy tasks keep as ``args``."""
    return getattr(task, "cfg", None) or getattr(task, "args", None)


def _folder(cfg: Any) -> str:
    """Return the first data folder of a task's configuration."""
    return utils.split_paths(getattr(cfg, "data", None) or "")[0]


def _load_dictionary(path: str) -> Optional[Dictionary]:
    if not os.path.isfile(path):
        return None
    try:
        return Dictionary.load(path)
    except (ValueError, UnicodeError, RuntimeError):
        logger.warning("%s is not a dictionary, so it is not compared", path)
        return None
