"""Token- and sequence-level measures of hypotheses: a search's own, or teacher-forced in one pass
per model.
"""

import inspect
import math
from copy import copy
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from fairseq.models import BaseFairseqModel, FairseqEncoderDecoderModel
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..errors import UsageError
from .readings import JOINT, MEASURES, EnsembleReader, PriorNetworkReader, Reader
from .search import SearchRecord

# what an ordinary single model has no value for stays None
TOKEN_FIELDS = (*MEASURES, *JOINT)
SEQUENCE_FIELDS = TOKEN_FIELDS
_SINGLE_MODEL_FIELDS = ("total", "score")

# Bounds the [tokens, K] tensors of one pass: on a CPU to 16 MiB in float32, which are allocated
# again without going back to the system in between, elsewhere to 256 MiB.
_MAX_ELEMENTS = {"cpu": 1 << 22}
_MAX_ELEMENTS_DEFAULT = 1 << 26

# Of a Transformer's decoder: attention weights of no layer, which lets attention take PyTorch's
# fused path, and no logits yet.
_SPARED = {"alignment_layer": -1, "features_only": True}

Columns = Dict[str, Optional[List[float]]]
"""Values of each token of an output by :data:`TOKEN_FIELDS`."""


class _Batch(NamedTuple):
    """Outputs that are scored in one pass: n of them, N tokens together."""

    sources: Tensor
    """Position of each output's source, ``[n]``."""
    previous: Tensor
    """Input of the decoder, ``[n, L]``."""
    mask: Tensor
    """Which positions hold a token, ``[n, L]``."""
    labels: Tensor
    """The tokens, ``[N]``."""


class HypothesisScorer:
    """Scores outputs of one model or an ensemble.

    * One model read as a Prior Network (``dirichlet_offset`` given): measures of its Dirichlet.
    * Several models: measures of the ensemble, combined in two ways. As a product of
      expectations (PrEx), which is how fairseq decodes, the members' token probabilities are
      averaged at each step; as an expectation of products (ExPr), ``P(y|x) = mean_m P_m(y|x)``,
      each member is weighted by its posterior ``∝ P_m(y_<l|x)``. See
      :class:`~fairseq_pdd.core.EnsembleStatistics` for the measures then.
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
        self._reader: Reader = (
            EnsembleReader(len(self.models))
            if dirichlet_offset is None
            else PriorNetworkReader(dirichlet_offset)
        )

    @torch.no_grad()
    def score(
        self,
        sample: Dict[str, Any],
        hypotheses: Sequence[Sequence[Tensor]],
        encoder_outs: Optional[Sequence[Any]] = None,
        search: Optional[SearchRecord] = None,
    ) -> List[List[Dict[str, Any]]]:
        """Score outputs of a batch.

        Args:
            sample: fairseq batch with ``net_input`` on the models' device.
            hypotheses: for each of the B sources its outputs, token ids ``[L]`` that end with
                end-of-sequence.
            encoder_outs: what each model's encoder says of the batch, where that is known.
            search: what followed the search for these outputs, if any did. Others, and those
                that it did not come by, are decoded, teacher-forced.

        Returns:
            For each source and output ``{"log_prob": ln P(y|x), "sequence": {…}, "token": {…}}``
            in nats: ``token`` holds lists of L values, ``sequence`` their means (length includes
            end-of-sequence), for each of :data:`TOKEN_FIELDS`. ``score`` is ``-ln P``,
            ``rmi_score`` the joint estimate of reverse mutual information; ``None`` where the
            model has no such measure. An ensemble has the same once more as ``"expr"``.
        """
        flat = [(b, tokens) for b, outputs in enumerate(hypotheses) for tokens in outputs]
        scored: Dict[int, Tensor] = {}
        if search is not None:
            scored = search.find([(source, tokens.tolist()) for source, tokens in flat])
        missing = [i for i in range(len(flat)) if i not in scored]
        if missing:
            scored.update(self._score_forced(sample, flat, missing, encoder_outs))
        results = (self._record(scored[i]) for i in range(len(flat)))
        return [[next(results) for _ in outputs] for outputs in hypotheses]

    def _score_forced(
        self,
        sample: Dict[str, Any],
        outputs: Sequence[Tuple[int, Tensor]],
        chosen: Sequence[int],
        encoder_outs: Optional[Sequence[Any]],
    ) -> Dict[int, Tensor]:
        """Values ``[readings, fields, L]`` of the ``chosen`` outputs, teacher-forced."""
        # neighbours in length share a pass, so little of it is padding
        order = sorted(chosen, key=lambda i: len(outputs[i][1]))
        if encoder_outs is None:
            encoder_outs = [self._encode(model, sample) for model in self.models]
        scored: Dict[int, Tensor] = {}
        max_elements = _MAX_ELEMENTS.get(outputs[0][1].device.type, _MAX_ELEMENTS_DEFAULT)
        for group in self._groups([len(outputs[i][1]) for i in order], max_elements):
            indices = [order[i] for i in group]
            batch = self._batch([outputs[i] for i in indices])
            # one transfer from the device for all values
            values = self._forced(encoder_outs, batch).cpu()
            scored.update(zip(indices, values.split(batch.mask.sum(1).tolist(), dim=-1)))
        return scored

    def _groups(self, lengths: Sequence[int], max_elements: int) -> List[range]:
        """Split hypotheses in ascending order of length into passes of bounded size."""
        num_classes = self._num_classes()
        groups, start = [], 0
        for stop in range(1, len(lengths) + 1):
            if stop == len(lengths) or (
                (stop + 1 - start) * lengths[stop] * num_classes > max_elements
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

    def _batch(self, outputs: Sequence[Tuple[int, Tensor]]) -> _Batch:
        device = outputs[0][1].device
        lengths = torch.tensor([len(tokens) for _, tokens in outputs], device=device)
        target = pad_sequence([tokens for _, tokens in outputs], True, self.pad).long()
        # not `target != pad`: sampling may emit the padding symbol inside an output
        mask = torch.arange(target.size(1), device=device) < lengths.unsqueeze(1)
        return _Batch(
            sources=torch.tensor([source for source, _ in outputs], device=device),
            previous=torch.cat([torch.full_like(target[:, :1], self.eos), target[:, :-1]], dim=1),
            mask=mask,
            labels=target[mask],
        )

    def search_record(self) -> SearchRecord:
        """Return what is to follow the search for a batch, for :meth:`score`."""
        return SearchRecord(self._reader, self.eos)

    def _forced(self, encoder_outs: Sequence[Any], batch: _Batch) -> Tensor:
        """Values of all tokens by reading and field, ``[readings, fields, N]``."""
        chosen: List[Tensor] = []

        def members() -> Iterator[Tuple[Tensor, Tensor]]:
            for model, net_output in zip(self.models, decoded):
                log_probs = model.get_normalized_probs(net_output, log_probs=True).squeeze(0)
                chosen.append(_of_labels(log_probs, batch).double())
                yield log_probs, _before(chosen[-1], batch.mask)

        decoded = (self._decode(*each, batch) for each in zip(self.models, encoder_outs))
        if isinstance(self._reader, PriorNetworkReader):
            logits = next(decoded)[0].squeeze(0).float()
            chosen.append(_of_labels(logits, batch))
            measures, context = self._reader.read(logits)
        else:
            measures, context = self._reader.read(members())
        joint = self._reader.joint(context, torch.stack(chosen))
        return torch.cat([measures, joint.to(measures)], dim=1)

    @staticmethod
    def _decode(model: BaseFairseqModel, encoder_out: Any, batch: _Batch) -> Tuple[Any, ...]:
        """The decoder's output; first in it ``[1, N, K]``, the tokens' rows."""
        # a copy, as fconv reorders in place
        encoder_out = model.encoder.reorder_encoder_out(copy(encoder_out), batch.sources)
        decoder = model.decoder
        parameters = inspect.signature(decoder.forward).parameters
        spared = {name: value for name, value in _SPARED.items() if name in parameters}
        rows, *others = decoder(batch.previous, encoder_out=encoder_out, **spared)
        # where the decoder can, what comes last of it is done for tokens only, not for padding
        rows = rows[batch.mask].unsqueeze(0)
        return (decoder.output_layer(rows) if "features_only" in spared else rows, *others)

    def _record(self, values: Tensor) -> Dict[str, Any]:
        """Scores of an output from its values ``[readings, fields, L]``."""
        record, *others = (
            _summarise(
                {
                    name: column if self._has(name) else None
                    for name, column in zip(TOKEN_FIELDS, reading)
                }
            )
            for reading in values.tolist()
        )
        if others:
            (record["expr"],) = others
        return record

    def _has(self, name: str) -> bool:
        single = len(self.models) == 1 and isinstance(self._reader, EnsembleReader)
        return name in _SINGLE_MODEL_FIELDS or not single


def _before(log_probs: Tensor, mask: Tensor) -> Tensor:
    """Log-probability of what stands before each token, ``[N]``, from those of tokens ``[N]``."""
    padded = log_probs.new_zeros(mask.shape).masked_scatter(mask, log_probs)
    return F.pad(padded.cumsum(1), (1, -1))[mask]


def _of_labels(distributions: Tensor, batch: _Batch) -> Tensor:
    """``[N]`` from ``[N, K]``."""
    return distributions.gather(-1, batch.labels.unsqueeze(-1)).squeeze(-1)


def _summarise(columns: Columns) -> Dict[str, Any]:
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
