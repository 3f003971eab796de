"""Reading of checkpoint files, without the execution of code in them."""

import pickle
import re
import tempfile
import traceback
import zipfile
from typing import Any, Callable, Dict, Optional

import torch
from fairseq import checkpoint_utils
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from omegaconf import DictConfig, OmegaConf

from .._compat import CONFIGURATIONS_HOLD_OBJECTS
from ..errors import UsageError
from ..speech.examples import import_if_named
from .safe_types import UNSAFE_OPTION  # the import allows the types that checkpoints hold


def read_config(path: str) -> Any:
    """Return the configuration that a checkpoint was trained with.

    Registers fairseq's ``speech_recognition`` example if the checkpoint was trained with it.

    Raises:
        UsageError: the file cannot be read safely or has no configuration.
    """
    return config_of(path, map_checkpoint(path))


def read_checkpoint(path: str) -> Dict[str, Any]:
    """Return the state that fairseq-train saved, in the newest format, on the CPU.

    Raises:
        UsageError: the file cannot be read safely.
    """
    return _read(path, _load_to_cpu)


def map_checkpoint(path: str) -> Dict[str, Any]:
    """Return the state like :func:`read_checkpoint`, mapped into memory: read on access.

    Raises:
        UsageError: the file cannot be read safely.
    """
    state = _read(path, _map_to_memory)
    if state.get("args") is not None or state.get("cfg") is None:
        return read_checkpoint(path)  # fairseq converts its old formats
    if CONFIGURATIONS_HOLD_OBJECTS:
        state["cfg"] = OmegaConf.create(state["cfg"], flags={"allow_objects": True})
    else:
        state["cfg"] = _read(path, lambda _: _config_by_fairseq(state))["cfg"]
    return state


def config_of(path: str, state: Dict[str, Any]) -> Any:
    """Return the configuration in a checkpoint's state; see :func:`read_config`."""
    args, cfg = state.get("args"), state.get("cfg")
    if args is not None:
        cfg = convert_namespace_to_omegaconf(args)
    if not isinstance(cfg, DictConfig) or not {"task", "model"} <= set(cfg):
        raise UsageError(f"{path} is not a checkpoint of fairseq-train: it has no configuration")
    import_if_named(str(getattr(part, "_name", None)) for part in (cfg.task, cfg.model))
    return cfg


def require_entries(path: str, state: Dict[str, Any]) -> None:
    """Require the entries of a checkpoint that fairseq's commands need beside its model.

    Raises:
        UsageError: one is missing.
    """
    line = _missing_entries(path, state)
    if line:
        raise UsageError(line)


def _config_by_fairseq(state: Dict[str, Any]) -> Dict[str, Any]:
    """Return what fairseq makes of a checkpoint without its tensors."""
    small = {k: v for k, v in state.items() if k not in ("model", "last_optimizer_state")}
    with tempfile.NamedTemporaryFile(suffix=".pt") as file:
        torch.save({**small, "model": {}}, file.name)
        return _load_to_cpu(file.name)


def _map_to_memory(path: str) -> Dict[str, Any]:
    # files of PyTorch before 1.6 cannot be mapped
    mmap = zipfile.is_zipfile(path)
    return torch.load(path, map_location="cpu", mmap=mmap)


def _load_to_cpu(path: str) -> Dict[str, Any]:
    try:
        return checkpoint_utils.load_checkpoint_to_cpu(path)
    except KeyError as error:  # fairseq looks up the task and model of a file in its old format
        if not import_if_named([str(error)]):
            raise
        return checkpoint_utils.load_checkpoint_to_cpu(path)


def _read(path: str, load: Callable[[str], Dict[str, Any]]) -> Dict[str, Any]:
    try:
        state = load(path)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(_failure(path, error)) from error
    if not _has_model(state):
        raise UsageError(_no_model(path))
    return state


def describe_uncaught(error: BaseException) -> Optional[str]:
    """Return a line with the file's name for an exception of fairseq's own reading of a checkpoint.

    Args:
        error: exception that would end a command.

    Returns:
        The message, or None if the exception does not come from a checkpoint.
    """
    if not isinstance(error, Exception):  # such as an interrupt
        return None
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        describe = _READERS.get((frame.f_globals.get("__name__"), frame.f_code.co_name))
        line = describe and describe(error, frame.f_locals)
        if line:
            return line
    return None


def _describe_reading(error: Exception, variables: Dict[str, Any]) -> str:
    return _failure(variables["path"], error)


def _describe_loading(error: Exception, variables: Dict[str, Any]) -> Optional[str]:
    path, state = variables.get("filename"), variables.get("state")
    if isinstance(error, OSError) and str(error).startswith("Model file not found"):
        return f"checkpoint not found: {path}"
    if state is None:
        return None
    return describe_misfit(path, error) if _has_model(state) else _no_model(path)


def _describe_resuming(error: Exception, variables: Dict[str, Any]) -> str:
    path, state = variables["filename"], variables.get("state")
    # fairseq removes the model from the state, but sets extra_state then
    if state is not None and "model" not in state and variables.get("extra_state") is None:
        return _no_model(path)
    # fairseq hides the reason behind a message of its own
    reason = error.__context__ if type(error) is Exception else error
    return (
        f"training cannot start from checkpoint {path}: {reason_of(reason or error)} (give the "
        "options of its training, another --save-dir, or --finetune-from-model)"
    )


_READERS: Dict[Any, Callable[[Any, Dict[str, Any]], Optional[str]]] = {
    ("fairseq.checkpoint_utils", "load_checkpoint_to_cpu"): _describe_reading,
    ("fairseq.checkpoint_utils", "load_model_ensemble_and_task"): _describe_loading,
    ("fairseq.trainer", "load_checkpoint"): _describe_resuming,
}
"""Descriptions of errors by the module and name of the function of fairseq that they leave."""


def _failure(path: str, error: BaseException) -> str:
    """Describe the exception with which the reading of a file ended."""
    reason = reason_of(error)
    if isinstance(error, pickle.UnpicklingError) and "Unsupported operand" not in reason:
        return (
            f"{path} holds more than weights, numbers and options, and nothing of it was run: "
            f"{reason} (if you trust the file, and only then, {UNSAFE_OPTION}=1 in the "
            "environment loads it and runs the code in it)"
        )
    if isinstance(error, (FileNotFoundError, IsADirectoryError, PermissionError)):
        return f"cannot read {path}: {reason}"
    state = _state_read(error)
    if state is None:
        return (
            f"{path} is damaged or not a checkpoint of fairseq-train: {reason}; copy it again, or "
            "give another file"
        )
    if not _has_model(state):
        return _no_model(path)
    return _missing_entries(path, state) or (
        f"checkpoint {path} does not suit this fairseq: {reason} (was it trained with another "
        "version or --user-dir?)"
    )


def _missing_entries(path: str, state: Dict[str, Any]) -> Optional[str]:
    missing = [key for key in ("optimizer_history", "extra_state") if key not in state]
    if not missing:
        return None
    return (
        f"checkpoint {path} has no {' and no '.join(missing)}, which fairseq needs: when you "
        "shrink checkpoints, copy all entries but last_optimizer_state; to average them, use "
        "fairseq-pdd average-checkpoints"
    )


def _state_read(error: BaseException) -> Any:
    """Return the contents of a file if fairseq had read them before the exception."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name == "load_checkpoint_to_cpu":
            return frame.f_locals.get("state")
    return None


def _has_model(state: Any) -> bool:
    return isinstance(state, dict) and isinstance(state.get("model"), dict)


def _no_model(path: Any) -> str:
    return f"{path} is not a checkpoint of fairseq-train: it has no model"


def describe_misfit(path: Any, error: Exception) -> str:
    """Describe the exception of a model that cannot be built with its weights."""
    return (
        f"checkpoint {path} does not fit its own model configuration or this task: "
        f"{reason_of(error)} (was it trained for another task, or with another --user-dir?)"
    )


def reason_of(error: BaseException) -> str:
    """Return an exception's type and message on one short line."""
    text = str(error)
    if isinstance(error, pickle.UnpicklingError):
        # torch surrounds the reason with advice on unsafe loading
        text = text.partition("Check the documentation")[0].strip().rpartition("\n")[2]
        text = text.rpartition("WeightsUnpickler error:")[2].partition("Please use")[0]
        name = re.search(r"GLOBAL (\S+)", text)
        return name[1] if name else " ".join(text.split())[:300]
    return " ".join(f"{type(error).__name__}: {text}".split())[:300]
