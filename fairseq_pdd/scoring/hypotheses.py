"""Token- and sequence-level measures of hypotheses, as searched or decoded teacher-forced."""

import math
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from fairseq.models import BaseFairseqModel, FairseqEncoderDecoderModel
from torch import Tensor

from ..errors import UsageError
from .forced import TeacherForcing
from .passes import Output, Pass
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

Columns = Dict[str, Optional[List[float]]]
"""Values of each token of an output by :data:`TOKEN_FIELDS`."""


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
            search: what followed the search for these outputs, if any did. Outputs that it did
                not come by are decoded teacher-forced.

        Returns:
            For each source and output ``{"log_prob": ln P(y|x), "sequence": {…}, "token": {…}}``
            in nats: ``token`` holds lists of L values, ``sequence`` their means (length includes
            end-of-sequence), for each of :data:`TOKEN_FIELDS`. ``score`` is ``-ln P``,
            ``rmi_score`` the joint estimate of reverse mutual information; ``None`` where the
            model has no such measure. An ensemble has the same once more as ``"expr"``.
        """
        outputs = [(b, tokens) for b, row in enumerate(hypotheses) for tokens in row]
        scored: Dict[int, Tensor] = {}
        if outputs and search is not None:
            scored = self._read(search.passes(outputs, self._max_rows(outputs)), outputs)
        missing = [i for i in range(len(outputs)) if i not in scored]
        if missing:
            if encoder_outs is None:
                encoder_outs = [self._encode(model, sample) for model in self.models]
            forced = TeacherForcing(self.models, encoder_outs, self.pad, self.eos)
            passes = forced.passes(outputs, missing, self._max_rows(outputs))
            scored.update(self._read(passes, outputs))
        results = (self._record(scored[i]) for i in range(len(outputs)))
        return [[next(results) for _ in row] for row in hypotheses]

    def search_record(self) -> SearchRecord:
        """Return what is to follow the search for a batch, for :meth:`score`."""
        return SearchRecord(self.eos)

    @staticmethod
    def _encode(model: BaseFairseqModel, sample: Dict[str, Any]) -> Any:
        model.eval()
        return model.encoder.forward_torchscript(sample["net_input"])

    def _max_rows(self, outputs: Sequence[Output]) -> int:
        max_elements = _MAX_ELEMENTS.get(outputs[0][1].device.type, _MAX_ELEMENTS_DEFAULT)
        return max_elements // len(self.models[0].decoder.dictionary)

    def _read(self, passes: Iterable[Pass], outputs: Sequence[Output]) -> Dict[int, Tensor]:
        """Values ``[readings, fields, L]`` of what is in ``passes``."""
        read: Dict[int, Tensor] = {}
        for each in passes:
            targets = [outputs[i][1] for i in each.outputs]
            # one transfer from the device for all values
            values = self._values(each, targets).cpu()
            read.update(zip(each.outputs, values.split(list(map(len, targets)), dim=-1)))
        return read

    def _values(self, each: Pass, targets: Sequence[Tensor]) -> Tensor:
        """Values of all tokens by reading and field, ``[readings, fields, N]``."""
        labels = torch.cat(list(targets))
        chosen: List[Tensor] = []

        def members() -> Iterator[Tuple[Tensor, Tensor]]:
            for model, net_output in zip(self.models, each.net_outputs):
                log_probs = model.get_normalized_probs(net_output, log_probs=True).squeeze(0)
                chosen.append(log_probs[each.rows, labels].double())
                before = _before(chosen[-1], targets)
                # rows that tokens share have the same before them
                yield log_probs, before.new_empty(len(log_probs)).scatter(0, each.rows, before)

        if isinstance(self._reader, PriorNetworkReader):
            logits = next(each.net_outputs)[0].squeeze(0).float()
            chosen.append(logits[each.rows, labels])
            measures, context = self._reader.read(logits)
        else:
            measures, context = self._reader.read(members())
        joint = self._reader.joint(context[:, each.rows], torch.stack(chosen))
        return torch.cat([measures[..., each.rows], joint.to(measures)], dim=1)

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


def _before(log_probs: Tensor, targets: Sequence[Tensor]) -> Tensor:
    """Log-probability of what stands before each token, ``[N]``, from those of tokens ``[N]``."""
    parts = log_probs.split(list(map(len, targets)))
    return torch.cat([F.pad(part.cumsum(0), (1, -1)) for part in parts])


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
