"""A Prior Network is an ordinary model whose logits are read as log-concentrations (Eq. 7)."""

from typing import Any, Optional, Sequence

import torch
from fairseq.models import BaseFairseqModel
from fairseq.models.nat import FairseqNATModel
from torch import Tensor

from ..core import (
    TokenMeasures,
    UncertaintyMeasures,
    dirichlet_measures,
    dirichlet_token_measures,
)
from ..errors import UsageError

_ATTRIBUTE = "prior_network_offset"


class PriorNetwork:
    """A fairseq encoder-decoder read as a Dirichlet distribution.

    It owns no parameter: the model's state dict, forward and prediction ``softmax(z)`` are those
    of the plain architecture (Eq. 9), so its checkpoint serves fairseq without this package,
    and an ordinary checkpoint can initialise it.

    Args:
        model: any encoder-decoder whose decoder returns logits.
        offset: δ that the model was trained with.
        shifted: read Dir(e + δ), the Dirichlet of the loss, instead of Dir(e).

    Raises:
        UsageError: the model has no logits.
    """

    def __init__(self, model: BaseFairseqModel, offset: float, shifted: bool = False) -> None:
        require_logits(model)
        self.model = model
        self.offset = offset
        self.measures_offset = offset if shifted else 0.0

    @classmethod
    def from_checkpoint_model(
        cls, model: BaseFairseqModel, shifted: bool = False
    ) -> "Optional[PriorNetwork]":
        """Wrap a model whose checkpoint is that of a Prior Network; return None for others."""
        offset = prior_network_offset(model)
        return None if offset is None else cls(model, offset, shifted)

    def logits(self, net_output: Sequence[Any]) -> Tensor:
        """Return float32 logits ``[..., K]`` from the model's output."""
        logits: Tensor = net_output[0]
        return logits.float()

    def measures(self, logits: Tensor) -> UncertaintyMeasures:
        """Compute the measures of the Dirichlet, each ``[...]``, in nats."""
        return dirichlet_measures(logits, self.measures_offset)

    def token_measures(self, logits: Tensor, tokens: Tensor) -> TokenMeasures:
        """Compute the measures, and log-probabilities of a token, ``[...]``, at each position."""
        return dirichlet_token_measures(logits, tokens, self.measures_offset)


def mark_prior_network(model: BaseFairseqModel, offset: float) -> None:
    """Record on a loaded model that its logits are log-concentrations trained with δ."""
    setattr(model, _ATTRIBUTE, float(offset))


def prior_network_offset(model: BaseFairseqModel) -> Optional[float]:
    """Return δ of a marked model, ``None`` for an ordinary one."""
    return getattr(model, _ATTRIBUTE, None)


def require_logits(model: BaseFairseqModel) -> None:
    """Require that a model's output is logits, whose softmax is its prediction.

    Raises:
        UsageError: the model returns something else, such as probabilities, or does not predict
            token by token.
    """
    if isinstance(model, FairseqNATModel):
        raise UsageError(
            f"{type(model).__name__} is not autoregressive, which a student must be: give another "
            "--arch"
        )
    decoder = getattr(model, "decoder", None)
    if getattr(decoder, "adaptive_softmax", None) is not None:
        raise UsageError(
            "an adaptive softmax has no logits to read as a Dirichlet: train the student without "
            "--adaptive-softmax-cutoff"
        )
    logits = torch.tensor([[[-1.0, 0.0, 2.0]]])
    try:
        log_probs = model.get_normalized_probs((logits, None), log_probs=True)
        has_logits = torch.allclose(log_probs, logits.log_softmax(-1), atol=1e-4)
    except Exception:  # models raise anything for an output that is not of their form
        has_logits = False
    if not has_logits:
        raise UsageError(
            f"{type(model).__name__} does not return logits, which a student must have (a "
            "pointer-generator returns probabilities): give another --arch"
        )
