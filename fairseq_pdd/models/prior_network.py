"""A Prior Network is an ordinary model whose logits are read as log-concentrations (Eq. 7)."""

from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from fairseq.models import BaseFairseqModel
from torch import Tensor

from ..core import UncertaintyMeasures, dirichlet_measures
from ..errors import UsageError
from ..scoring import HypothesisScorer

_ATTRIBUTE = "prior_network_offset"


class DirichletOutput(NamedTuple):
    """What a Prior Network says of each position."""

    concentrations: Tensor
    """``[B, T, K]``, float32."""
    measures: UncertaintyMeasures
    """Each ``[B, T]``, nats."""


class PriorNetwork:
    """Dirichlet reading of a fairseq encoder-decoder.

    Owns no parameter: the model's state dict, forward and prediction ``softmax(z)`` are those
    of the plain architecture (Eq. 9), so its checkpoint serves fairseq without this package,
    and an ordinary checkpoint can initialise it.

    Args:
        model: any encoder-decoder whose decoder returns logits.
        offset: δ that the model was trained with.
        shifted: read Dir(e + δ), the Dirichlet of the loss, instead of Dir(e).

    Raises:
        UsageError: the model has no logits (adaptive softmax).
    """

    def __init__(self, model: BaseFairseqModel, offset: float, shifted: bool = False) -> None:
        require_logits(model)
        self.model = model
        self.offset = offset
        self.measures_offset = offset if shifted else 0.0

    def dirichlet(self, net_output: Sequence[Any]) -> DirichletOutput:
        """Read the model's output.

        Args:
            net_output: what ``model(**sample["net_input"])`` returned; logits ``[B, T, K]`` first.

        Returns:
            Concentrations ``e`` (``e + δ`` where ``shifted``) and the measures of that Dirichlet.
        """
        logits = net_output[0].float()
        return DirichletOutput(
            logits.exp() + self.measures_offset, dirichlet_measures(logits, self.measures_offset)
        )

    def score(
        self, sample: Dict[str, Any], hypotheses: Sequence[Sequence[Tensor]], pad: int, eos: int
    ) -> List[List[Dict[str, Any]]]:
        """Score given outputs teacher-forced.

        Args:
            sample: fairseq batch with ``net_input``.
            hypotheses: for each of the B sources its outputs, token ids that end with ``eos``.
            pad: padding symbol.
            eos: end-of-sequence symbol.

        Returns:
            For each source and output what :meth:`HypothesisScorer.score` describes.
        """
        scorer = HypothesisScorer([self.model], pad, eos, dirichlet_offset=self.measures_offset)
        return scorer.score(sample, hypotheses)


def mark_prior_network(model: BaseFairseqModel, offset: float) -> None:
    """Remember on a loaded model that its logits are log-concentrations trained with δ."""
    setattr(model, _ATTRIBUTE, float(offset))


def prior_network_offset(model: BaseFairseqModel) -> Optional[float]:
    """δ of a marked model, ``None`` for an ordinary one."""
    return getattr(model, _ATTRIBUTE, None)


def require_logits(model: BaseFairseqModel) -> None:
    """Raise :class:`UsageError` for a model without logits."""
    decoder = getattr(model, "decoder", None)
    if getattr(decoder, "adaptive_softmax", None) is not None:
        raise UsageError(
            "an adaptive softmax has no logits to read as a Dirichlet: train the student without "
            "--adaptive-softmax-cutoff"
        )
