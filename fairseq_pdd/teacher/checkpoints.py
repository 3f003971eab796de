"""Loading of an ensemble's checkpoints, with every mismatch found before training."""

import argparse
import logging
import os
import pickle
import zipfile
from typing import Any, Callable, Dict, List, Optional, Sequence

import torch
from fairseq import checkpoint_utils, models, utils
from fairseq.data import Dictionary
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.models import BaseFairseqModel, FairseqEncoderDecoderModel
from fairseq.tasks import FairseqTask
from torch import Tensor
from tqdm import tqdm

from ..errors import UsageError
from ..speech.examples import import_if_named
from .dictionaries import dictionary_files

logger = logging.getLogger(__name__)

SAFE_TYPES = (argparse.Namespace,)
"""Types in fairseq's checkpoints that PyTorch does not know to be safe.

From 2.6 on it unpickles only types on its list. A namespace can do nothing but hold attributes.
"""
if hasattr(torch.serialization, "add_safe_globals"):
    torch.serialization.add_safe_globals(list(SAFE_TYPES))

_SAME_DICTIONARIES = (
    "prepare the student's data with the teachers' dictionaries (text: fairseq-preprocess "
    "--srcdict/--tgtdict; speech: their vocabulary and tokenizer in the config yaml)"
)


def load_members(
    paths: Sequence[str],
    task: FairseqTask,
    dtype: Optional[torch.dtype] = None,
    device: Optional[torch.device] = None,
) -> List[BaseFairseqModel]:
    """Load checkpoints as models of one ensemble.

    Args:
        paths: checkpoint files of ``fairseq-train``; architectures may differ.
        task: the student's task, whose dictionaries the members must share.
        dtype: floating type to cast each model to (default: that of the checkpoint).
        device: device to move each model to (default: the CPU).

    Returns:
        The models in the order of ``paths``.

    Raises:
        UsageError: a file is missing, cannot be read safely or does not fit the dictionaries.
    """
    require_files(paths)
    return [
        _load_member(path, task).to(device=device, dtype=dtype)
        for path in tqdm(paths, desc="loading teachers", disable=None)
    ]


def require_files(paths: Sequence[str]) -> None:
    """Raise :class:`UsageError` if one of the checkpoints does not exist."""
    missing = [path for path in paths if not os.path.isfile(path)]
    if missing:
        raise UsageError(
            f"teacher checkpoint not found: {', '.join(missing)} (--teacher-paths, or --path of "
            "fairseq-pdd teacher-cache, takes files joined with ':')"
        )


def read_weights(path: str) -> Dict[str, Tensor]:
    """Return the weights of a checkpoint, mapped into memory: read from disk on access.

    Raises:
        UsageError: the file cannot be read safely.
    """

    def load(path: str) -> Dict[str, Any]:
        # files of PyTorch before 1.6 cannot be mapped
        mmap = zipfile.is_zipfile(path)
        return torch.load(path, map_location="cpu", mmap=mmap, weights_only=True)

    return _read(path, load)["model"]


def read_config(path: str) -> Any:
    """Return the configuration that a checkpoint was trained with.

    Registers fairseq's ``speech_recognition`` example if the checkpoint was trained with it.

    Raises:
        UsageError: the file cannot be read safely or has no configuration.
    """
    return _config(path, _read(path, _load_to_cpu))


def _config(path: str, state: Dict[str, Any]) -> Any:
    args, cfg = state.get("args"), state.get("cfg")
    if args is not None:
        cfg = convert_namespace_to_omegaconf(args)
    if cfg is None:
        raise UsageError(f"{path} is not a checkpoint of fairseq-train: it has no configuration")
    import_if_named(str(getattr(part, "_name", None)) for part in (cfg.task, cfg.model))
    return cfg


def _load_to_cpu(path: str) -> Dict[str, Any]:
    try:
        return checkpoint_utils.load_checkpoint_to_cpu(path)
    except KeyError as error:  # fairseq looks up the task and model of a file in its old format
        if not import_if_named([str(error)]):
            raise
        return checkpoint_utils.load_checkpoint_to_cpu(path)


def _load_member(path: str, task: FairseqTask) -> BaseFairseqModel:
    state = _read(path, _load_to_cpu)
    # frees twice the size of the model
    state.pop("last_optimizer_state", None)
    cfg = _config(path, state)
    _check_sizes(path, state["model"], task)
    _check_dictionaries(path, cfg.task, task)
    _check_features(path, cfg.model, task)
    # The registry's builder instead of the task's, which also sets up the student's validation
    # (BLEU).
    try:
        model = models.build_model(cfg.model, task, from_checkpoint=True)
        model.load_state_dict(state["model"], strict=True, model_cfg=cfg.model)
    except Exception as error:  # models raise anything for weights of another shape
        raise UsageError(
            f"teacher checkpoint {path} does not fit its own model configuration or this task: "
            f"{_reason(error)} (was it trained for another task, or with another --user-dir?)"
        ) from error
    if not isinstance(model, FairseqEncoderDecoderModel):
        raise UsageError(
            f"teacher checkpoint {path} is a {type(model).__name__}, no encoder-decoder: it does "
            "not predict each target token; give encoder-decoders in --teacher-paths"
        )
    _check_finite(path, model)
    return model


def _check_finite(path: str, model: BaseFairseqModel) -> None:
    for name, weights in model.named_parameters():
        if not torch.isfinite(weights).all():
            raise UsageError(
                f"teacher checkpoint {path} is damaged or its training diverged: {name} holds "
                "values that are not finite; train it again, or remove it from --teacher-paths"
            )


def _read(path: str, load: Callable[[str], Dict[str, Any]]) -> Dict[str, Any]:
    try:
        state = load(path)
    except pickle.UnpicklingError as error:
        raise UsageError(
            f"{path} cannot be loaded safely: {_reason(error)} (if the file is damaged, copy it "
            "again; if it holds a type that you trust, allow that type with "
            "torch.serialization.add_safe_globals in a --user-dir of yours)"
        ) from error
    except Exception as error:
        raise UsageError(
            f"{path} cannot be read as a checkpoint of fairseq-train: {_reason(error)}"
        ) from error
    if not isinstance(state, dict) or "model" not in state:
        raise UsageError(f"{path} is not a checkpoint of fairseq-train: it has no model")
    return state


def _reason(error: Exception) -> str:
    """Return an exception's type and message on one short line."""
    text = str(error)
    if isinstance(error, pickle.UnpicklingError):
        # torch surrounds the reason with advice on unsafe loading
        text = text.partition("Check the documentation")[0].strip().rpartition("\n")[2]
        text = text.partition("Please use")[0].rpartition("WeightsUnpickler error:")[2]
    return " ".join(f"{type(error).__name__}: {text}".split())[:300]


def _check_sizes(path: str, weights: Dict[str, Any], task: FairseqTask) -> None:
    """Compare vocabulary sizes before a model is built, so that the error names a dictionary."""
    sides = {
        "source": ("encoder.embed_tokens.weight", getattr(task, "source_dictionary", None)),
        "target": ("decoder.embed_tokens.weight", task.target_dictionary),
    }
    for side, (key, dictionary) in sides.items():
        if dictionary is None or key not in weights:
            continue
        size = weights[key].shape[0]
        if size != len(dictionary):
            raise UsageError(
                f"teacher checkpoint {path} has a {side} dictionary of {size:,} types, the "
                f"student's data has one of {len(dictionary):,}: {_SAME_DICTIONARIES}"
            )


def _check_dictionaries(path: str, cfg: Any, task: FairseqTask) -> None:
    """Compare symbols if the data that the checkpoint was trained on still exists."""
    data = utils.split_paths(getattr(cfg, "data", None) or "")[0]
    if not os.path.isdir(data):
        return
    try:
        files = dictionary_files(cfg, data)
    except Exception as error:  # a changed folder does not make the checkpoint wrong
        logger.warning("%s: %s; the teacher's symbols were not compared", data, error)
        return
    ours = {"source": task.source_dictionary, "target": task.target_dictionary}
    for side, file in files.items():
        dictionary, theirs = ours[side], _load_dictionary(file)
        # The checkpoint has the right size, so a file of another size is not from its training.
        if dictionary is None or theirs is None or len(theirs) != len(dictionary):
            continue
        if theirs.symbols != dictionary.symbols:
            position = next(
                i for i, (a, b) in enumerate(zip(theirs.symbols, dictionary.symbols)) if a != b
            )
            raise UsageError(
                f"teacher checkpoint {path} was trained with another {side} dictionary "
                f"({file}): symbol number {position} is {theirs[position]!r}, in the student's "
                f"dictionary {dictionary[position]!r}; {_SAME_DICTIONARIES}"
            )


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
            f"teacher checkpoint {path} takes frames of {theirs * channels} features, the "
            f"student's data has frames of {ours}: compute features as for the teachers"
        )


def _load_dictionary(path: str) -> Optional[Dictionary]:
    if not os.path.isfile(path):
        return None
    try:
        return Dictionary.load(path)
    except (ValueError, UnicodeError, RuntimeError):
        logger.warning("%s is not a dictionary; the teacher's symbols were not compared", path)
        return None
