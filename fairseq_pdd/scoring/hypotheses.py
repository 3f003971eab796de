"""Token- and sequence-level measures of hypotheses, teacher-forced in one pass per model."""

import math
from copy import copy
from typing import Any, Dict, List, Optional, Sequence

import torch
from fairseq.models import BaseFairseqModel, FairseqEncoderDecoderModel
from torch import Tensor

from ..core import (
    EnsembleStatistics,
    UncertaintyMeasures,
    dirichlet_measures,
    expected_log_probs,
)
from ..errors import UsageError

# what an ordinary single model has no value for stays None
TOKEN_FIELDS = (*UncertaintyMeasures._fields, "score", "rmi_score")
SEQUENCE_FIELDS = TOKEN_FIELDS
_SINGLE_MODEL_FIELDS = ("total", "score")

# bounds the [tokens, K] tensors of one pass; 256 MiB in float32
_MAX_ELEMENTS = 1 << 26


class HypothesisScorer:
    """Scores outputs of one model or an ensemble.

    * One model read as a Prior Network (``dirichlet_offset`` given): measures of its Dirichlet.
    * Several models: measures of the ensemble; sequences combine as a product of expectations
      (PrEx), averaging the members' token probabilities at each step.
    * One ordinary model: total uncertainty and score only.

    Args:
        models: encoder-decoders that share their dictionaries.
        pad: padding symbol of the target.
        eos: end-of-sequence symbol of the target, which also starts the decoder's input.
        dirichlet_offset: 0 for Dir(e), δ for Dir(e + δ); ``None`` for ordinary models.

    Raises:
        UsageError: a model is no encoder-decoder.
    """

    def __init__(
        self,
        models: Sequence[BaseFairseqModel],
        pad: int,
        eos: int,
        dirichlet_offset: Optional[float] = None,
    ) -> None:
        for model in models:
            if not isinstance(model, FairseqEncoderDecoderModel):
                raise UsageError(
                    f"{type(model).__name__} is no encoder-decoder: its hypotheses cannot be "
                    "scored teacher-forced"
                )
        self.models, self.pad, self.eos = list(models), pad, eos
        self.dirichlet_offset = dirichlet_offset

    @torch.no_grad()
    def score(
        self, sample: Dict[str, Any], hypotheses: Sequence[Sequence[Tensor]]
    ) -> List[List[Dict[str, Any]]]:
        """Score outputs of a batch.

        Args:
            sample: fairseq batch with ``net_input`` on the models' device.
            hypotheses: for each of the B sources its outputs, token ids ``[L]`` that end with
                end-of-sequence.

        Returns:
            For each source and output ``{"log_prob": ln P(y|x), "sequence": {…}, "token": {…}}``
            in nats: ``token`` holds lists of L values, ``sequence`` their means (length includes
            end-of-sequence), for each of :data:`TOKEN_FIELDS`. ``score`` is ``-ln P``,
            ``rmi_score`` the joint estimate of reverse mutual information; ``None`` where the
            model has no such measure.
        """
        flat = [(b, tokens) for b, outputs in enumerate(hypotheses) for tokens in outputs]
        # neighbours in length share a pass, so little of it is padding
        order = sorted(range(len(flat)), key=lambda i: len(flat[i][1]))
        encoder_outs = [self._encode(model, sample) for model in self.models]
        scored: List[Dict[str, Any]] = [{}] * len(flat)
        for group in self._groups([len(flat[i][1]) for i in order]):
            indices = [order[i] for i in group]
            values = self._token_values(
                encoder_outs, [flat[i][0] for i in indices], [flat[i][1] for i in indices]
            )
            for i, columns in zip(indices, values):
                scored[i] = _summarise(columns)
        results = iter(scored)
        return [[next(results) for _ in outputs] for outputs in hypotheses]

    def _groups(self, lengths: Sequence[int]) -> List[range]:
        """Split hypotheses in ascending order of length into passes of bounded size."""
        num_classes = self._num_classes()
        groups, start = [], 0
        for stop in range(1, len(lengths) + 1):
            if stop == len(lengths) or (
                (stop + 1 - start) * lengths[stop] * num_classes > _MAX_ELEMENTS
            ):
                groups.append(range(start, stop))
                start = stop
        return groups

    def _num_classes(self) -> int:
        return len(self.models[0].decoder.dictionary)

    @staticmethod
    def _encode(model: BaseFairseqModel, sample: Dict[str, Any]) -> Any:
        model.eval()
        return model.encoder.forward_torchscript(sample["net_input"])

    def _token_values(
        self, encoder_outs: Sequence[Any], sources: Sequence[int], outputs: Sequence[Tensor]
    ) -> List[Dict[str, Optional[List[float]]]]:
        """For each output its columns of values, one for each of :data:`TOKEN_FIELDS`."""
        device = outputs[0].device
        length = max(len(tokens) for tokens in outputs)
        target = torch.full((len(outputs), length), self.pad, dtype=torch.long, device=device)
        for row, tokens in zip(target, outputs):
            row[: len(tokens)] = tokens
        previous = torch.cat([torch.full_like(target[:, :1], self.eos), target[:, :-1]], dim=1)
        # not `target != pad`: sampling may emit the padding symbol inside an output
        lengths = torch.tensor([len(tokens) for tokens in outputs], device=device)
        mask = torch.arange(length, device=device) < lengths.unsqueeze(1)
        index = torch.tensor(sources, device=device)
        labels = target[mask]

        statistics = EnsembleStatistics()
        for model, encoder_out in zip(self.models, encoder_outs):
            # a copy, as fconv reorders in place
            encoder_out = model.encoder.reorder_encoder_out(copy(encoder_out), index)
            net_output = model.decoder(previous, encoder_out=encoder_out)
            if self.dirichlet_offset is not None:
                logits = net_output[0][mask].float()
            else:
                log_probs = model.get_normalized_probs(net_output, log_probs=True)
                statistics.update(log_probs[mask])
        if self.dirichlet_offset is not None:
            measures = dirichlet_measures(logits, self.dirichlet_offset)
            log_mean, mean_log = expected_log_probs(logits, labels, self.dirichlet_offset)
        else:
            measures = statistics.measures()
            gather = labels.unsqueeze(-1)
            log_mean = statistics.mean_probs.gather(-1, gather).squeeze(-1).log()
            mean_log = statistics.mean_log_probs.gather(-1, gather).squeeze(-1)
        # one transfer from the device for all values
        values = torch.stack([*measures, -log_mean, log_mean - mean_log]).cpu().tolist()
        columns: List[Dict[str, Optional[List[float]]]] = []
        start = 0
        for tokens in outputs:
            stop = start + len(tokens)
            columns.append(
                {
                    name: values[i][start:stop] if self._has(name) else None
                    for i, name in enumerate(TOKEN_FIELDS)
                }
            )
            start = stop
        return columns

    def _has(self, name: str) -> bool:
        single = len(self.models) == 1 and self.dirichlet_offset is None
        return name in _SINGLE_MODEL_FIELDS or not single


def _summarise(columns: Dict[str, Optional[List[float]]]) -> Dict[str, Any]:
    scores = columns["score"]
    assert scores is not None
    return {
        "log_prob": -math.fsum(scores),
        "sequence": {
            name: None if column is None else math.fsum(column) / max(len(column), 1)
            for name, column in columns.items()
        },
        "token": columns,
    }
