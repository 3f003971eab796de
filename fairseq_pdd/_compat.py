"""Differences between the versions of fairseq.

Official fairseq 0.12.2 differs from fairseq-fixed 0.12.3.1, which has the code of fairseq's last
development version, in this:

- ``build_criterion`` takes no ``from_checkpoint``.
- It requires omegaconf 2.0.
- The encoder of a loaded post-norm Transformer takes a fused path of PyTorch, which current
  versions of PyTorch refuse ("Mask Type should be defined").
"""

import inspect
from typing import Any, Callable, TypeVar

from omegaconf import OmegaConf
from torch import nn

Model = TypeVar("Model", bound=nn.Module)

CONFIGURATIONS_HOLD_OBJECTS = "flags" in inspect.signature(OmegaConf.create).parameters
"""False for omegaconf 2.0, where only fairseq's own functions can put the Namespace of a named
architecture into a configuration."""


def call(function: Callable[..., Any], *args: Any, **optional: Any) -> Any:
    """Call a function of fairseq, with those of the optional arguments that its version takes."""
    known = inspect.signature(function).parameters
    return function(*args, **{name: value for name, value in optional.items() if name in known})


def without_fused_encoder(model: Model) -> Model:
    """Switch off the encoder's fused path, in versions of fairseq that have it."""
    for layer in model.modules():
        if hasattr(layer, "can_use_fastpath"):
            setattr(layer, "can_use_fastpath", False)  # noqa: B010
    return model
