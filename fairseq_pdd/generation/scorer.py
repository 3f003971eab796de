"""Scores of outputs: token- and sequence-level measures."""

import math
from typing import Any, Dict, Iterable, List, Optional, Sequence

import numpy as np
import torch
from fairseq.models import BaseFairseqModel, FairseqEncoderDecoderModel
from fairseq.models.nat import FairseqNATModel
from torch import Tensor

from ..errors import UsageError
from ..models.prior_network import PriorNetwork
from ..records import EXPR, FIELDS
from .estimators import (
    EnsembleEstimator,
    Estimator,
    PriorNetworkEstimator,
    gather_tokens,
    prefix_log_probs,
)
from .teacher_forcing import DecodedBatch, decode_teacher_forced

# Numbers in the outputs of all models along one group: 64 MiB of float32.
_MAX_ELEMENTS = 1 << 24
_SCORE = FIELDS.index("score")


def make_scorer(
    models: Sequence[BaseFairseqModel], pad: int, eos: int, shifted: bool = False
) -> "HypothesisScorer":
    """Make the scorer of a Prior Network, an ensemble or an ordinary model.

    Args:
        models: one model or several, which are an ensemble.
        pad: padding symbol of the target.
        eos: end-of-sequence symbol of the target.
        shifted: read a Prior Network as Dir(e + δ) instead of Dir(e).

    Raises:
        UsageError: a model is no encoder-decoder that predicts token by token, or ``shifted`` is
            set for something else than a Prior Network.
    """
    network = PriorNetwork.from_checkpoint_model(models[0], shifted) if len(models) == 1 else None
    if network is not None:
        return HypothesisScorer(PriorNetworkEstimator(network), pad, eos)
    if shifted:
        raise UsageError(
            "--measures-dirichlet shifted has no effect, as this is no Prior Network: remove it"
        )
    return HypothesisScorer(EnsembleEstimator(models), pad, eos)


class HypothesisScorer:
    """Scores of outputs by an estimator.

    Args:
        estimator: the models and their measures.
        pad: padding symbol of the target.
        eos: end-of-sequence symbol of the target, which also starts the decoder's input.

    Raises:
        UsageError: a model is no encoder-decoder that predicts token by token.
    """

    def __init__(self, estimator: Estimator, pad: int, eos: int) -> None:
        for model in estimator.models:
            if not isinstance(model, FairseqEncoderDecoderModel):
                raise UsageError(
                    f"{type(model).__name__} is no encoder-decoder: its outputs cannot be scored"
                )
            if isinstance(model, FairseqNATModel):
                raise UsageError(
                    f"{type(model).__name__} is not autoregressive: its outputs have no "
                    "probability of each token given the tokens before, and cannot be scored"
                )
        self._estimator, self._pad, self._eos = estimator, pad, eos

    @torch.no_grad()
    def score(
        self,
        sample: Dict[str, Any],
        hypotheses: Sequence[Sequence[Tensor]],
        encoder_outs: Optional[Sequence[Any]] = None,
    ) -> List[List[Dict[str, Any]]]:
        """Score outputs of a batch. The global random generators are left as they are.

        Args:
            sample: fairseq batch with ``net_input`` on the models' device; errors name sentences
                by its ``id``.
            hypotheses: outputs of each of the B sources, token ids ``[L]`` that end with
                end-of-sequence.
            encoder_outs: output of each model's encoder for the batch; computed if not given.

        Returns:
            ``{"log_prob": ln P(y|x), "sequence": {…}, "token": {…}}`` in nats for each source and
            output. ``token`` holds float32 arrays of L values and ``sequence`` their means (the
            length includes end-of-sequence) for each of :data:`~fairseq_pdd.records.FIELDS`;
            ``None`` where the model has no such measure. ``score`` is ``-ln P`` and ``rmi_score``
            the joint estimate of reverse mutual information. An ensemble has all values as a
            product of expectations (PrEx), and under ``"expr"`` as an expectation of products.

            A token that is impossible to the models has ``score`` ``inf`` and ``rmi_score`` 0, or
            ``inf`` if it is impossible to some members only.

        Raises:
            UsageError: a value is not a number, as after an overflow in half precision.
        """
        outputs = [(b, tokens) for b, row in enumerate(hypotheses) for tokens in row]
        scores: Dict[int, Dict[str, Any]] = {}
        if outputs:
            device = outputs[0][1].device
            with torch.random.fork_rng([device] if device.type == "cuda" else []):
                if encoder_outs is None:
                    encoder_outs = [_encode(model, sample) for model in self._estimator.models]
                batches = decode_teacher_forced(
                    self._estimator.models,
                    encoder_outs,
                    outputs,
                    self._pad,
                    self._eos,
                    self._max_tokens(),
                )
                for batch in batches:
                    for i, values in zip(batch.indices, self._score(batch)):
                        _require_numbers(values, sample, outputs[i][0])
                        scores[i] = values
        ordered = (scores[i] for i in range(len(outputs)))
        return [[next(ordered) for _ in row] for row in hypotheses]

    def _max_tokens(self) -> int:
        models = self._estimator.models
        return max(1, _MAX_ELEMENTS // (len(models) * len(models[0].decoder.dictionary)))

    def _score(self, batch: DecodedBatch) -> List[Dict[str, Any]]:
        estimator = self._estimator
        outputs = [
            estimator.outputs(model, net_output)
            for model, net_output in zip(estimator.models, batch.net_outputs)
        ]
        prefixes = None
        if len(outputs) > 1:
            prefixes = prefix_log_probs(gather_tokens(outputs, batch.tokens), batch.lengths)
        values = estimator.measures(outputs, batch.tokens, prefixes).cpu().numpy()
        ends = np.cumsum(batch.lengths)
        starts = ends - np.array(batch.lengths)
        sums = np.add.reduceat(values, starts, axis=-1, dtype=np.float64)
        means = (sums / batch.lengths).transpose(2, 0, 1).tolist()
        log_probs = (-sums[:, _SCORE]).T.tolist()
        tokens = np.split(values, ends[:-1], axis=-1)
        return [self._record(*columns) for columns in zip(log_probs, means, tokens)]

    def _record(
        self, log_probs: List[float], means: List[List[float]], tokens: np.ndarray
    ) -> Dict[str, Any]:
        """Return the scores of an output from one row of values per way to combine the models."""
        record, *expr = (
            {"log_prob": log_prob, "sequence": self._by_name(mean), "token": self._by_name(token)}
            for log_prob, mean, token in zip(log_probs, means, tokens)
        )
        if expr:
            record[EXPR] = expr[0]
        return record

    def _by_name(self, values: Iterable[Any]) -> Dict[str, Any]:
        fields = self._estimator.fields
        return {name: v if name in fields else None for name, v in zip(FIELDS, values)}


def _encode(model: BaseFairseqModel, sample: Dict[str, Any]) -> Any:
    model.eval()
    return model.encoder.forward_torchscript(sample["net_input"])


def _require_numbers(scores: Dict[str, Any], sample: Dict[str, Any], row: int) -> None:
    """Refuse an output's scores that are not numbers; infinite ones are."""
    for part in (scores, scores.get(EXPR, scores)):
        # a mean is not a number if the value of a token is not
        for name, mean in part["sequence"].items():
            if mean is not None and math.isnan(mean):
                ids = sample.get("id")
                sentence = "" if ids is None else f" of sentence {int(ids[row])}"
                raise UsageError(
                    f"measure {name} of an output{sentence} is not a number: the models' outputs "
                    "overflow; compute in float32 (no --fp16 or .half()), and if that does not "
                    "help, train the model again"
                )
