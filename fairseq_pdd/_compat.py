"""Differences between the versions of fairseq.

Official fairseq 0.12.2 differs from fairseq-fixed 0.12.3.1, which has the code of fairseq's last
development version, in this:

- ``build_criterion`` takes no ``from_checkpoint``.
- It requires omegaconf 2.0.
- ``speech_to_text`` reads ``transforms`` in its config yaml, but none of the later entries
  ``feature_transforms``, ``waveform_transforms`` and ``dataset_transforms``.
- The encoder of a loaded post-norm Transformer takes a fused path of PyTorch, which current
  versions of PyTorch refuse ("Mask Type should be defined"). Its checkpoints hold some weights of
  each encoder layer twice, the second time for this path; other versions refuse such a file.

fairseq's repository, at its last commit, is like fairseq-fixed, but requires omegaconf 2.0 and runs
the code in checkpoints (``weights_only=False``).
"""

import inspect
from typing import Any, Callable, Collection, Dict, List, TypeVar

from fairseq import checkpoint_utils
from fairseq.data.audio.data_cfg import S2TDataConfig
from omegaconf import OmegaConf
from torch import nn

Model = TypeVar("Model", bound=nn.Module)

CONFIGURATIONS_HOLD_OBJECTS = "flags" in inspect.signature(OmegaConf.create).parameters
"""False for omegaconf 2.0, where only fairseq's own functions can put the Namespace of a named
architecture into a configuration."""

RUNS_CODE_IN_CHECKPOINTS = "weights_only=False" in inspect.getsource(
    checkpoint_utils.load_checkpoint_to_cpu
)
"""True if fairseq switches PyTorch's safe loading off."""

FEATURE_TRANSFORMS = (
    "feature_transforms" if hasattr(S2TDataConfig, "get_waveform_transforms") else "transforms"
)
"""Entry of the transforms of features in the config yaml of ``speech_to_text``."""

_FUSED_WEIGHTS = {
    f"{part}_{kind}"
    for part in ("in_proj", "out_proj", "fc1", "fc2")
    for kind in ("weight", "bias")
}
"""Names of the weights for the fused path in an encoder layer."""


def call(function: Callable[..., Any], *args: Any, **optional: Any) -> Any:
    """Call a function of fairseq, with those of the optional arguments that its version takes."""
    known = inspect.signature(function).parameters
    return function(*args, **{name: value for name, value in optional.items() if name in known})


def without_fused_encoder(model: Model) -> Model:
    """Switch off the encoder's fused path in versions of fairseq that have it.

    In other versions, the model ignores the weights for that path in a checkpoint.
    """
    for layer in model.modules():
        if hasattr(layer, "can_use_fastpath"):
            setattr(layer, "can_use_fastpath", False)  # noqa: B010
    model.register_load_state_dict_pre_hook(_ignore_fused_weights)
    return model


def _ignore_fused_weights(model: nn.Module, state: Dict[str, Any], *_: Any) -> None:
    own = model.state_dict()
    for name in fused_weights(state):
        if name not in own:
            del state[name]


def drop_fused_weights(weights: Dict[str, Any]) -> None:
    """Remove the weights for the fused path, which versions that have it make when they load."""
    for name in fused_weights(weights):
        del weights[name]


def fused_weights(state: Collection[str]) -> List[str]:
    """Return the names of the weights for the fused path, all of which are copies of others.

    Args:
        state: names of all weights of a model.
    """
    parts = ((name, *name.rpartition(".")) for name in state)
    return [
        name
        for name, layer, _, last in parts
        if last in _FUSED_WEIGHTS and f"{layer}.self_attn.q_proj.weight" in state
    ]
