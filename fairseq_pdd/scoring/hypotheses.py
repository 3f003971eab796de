"""Token- and sequence-level measures of hypotheses, as searched or decoded teacher-forced."""

from typing import Any, Dict, Iterable, List, Optional, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from fairseq.models import BaseFairseqModel, FairseqEncoderDecoderModel
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..errors import UsageError
from .forced import TeacherForcing
from .passes import Output, Pass, Reading
from .readings import (
    JOINT,
    MEASURES,
    EnsembleReader,
    PriorNetworkReader,
    Reader,
    choose,
)
from .search import SearchRecord

# what an ordinary single model has no value for stays None
TOKEN_FIELDS = (*MEASURES, *JOINT)
SEQUENCE_FIELDS = TOKEN_FIELDS
_SINGLE_MODEL_FIELDS = ("total", "score")

# Bounds the [tokens, K] tensors of one pass: on a CPU to 16 MiB in float32, which are allocated
# again without going back to the system in between, elsewhere to 256 MiB. Those of all models
# together are bounded by as many times.
_MAX_ELEMENTS = {"cpu": 1 << 22}
_MAX_ELEMENTS_DEFAULT = 1 << 26
_MAX_TENSORS = 4


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
        has_all = dirichlet_offset is not None or len(self.models) > 1
        fields = TOKEN_FIELDS if has_all else _SINGLE_MODEL_FIELDS
        self._missing = dict.fromkeys(name for name in TOKEN_FIELDS if name not in fields)

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
            in nats: ``token`` holds float32 arrays of L values, ``sequence`` their means (length
            includes end-of-sequence), for each of :data:`TOKEN_FIELDS`. ``score`` is ``-ln P``,
            ``rmi_score`` the joint estimate of reverse mutual information; ``None`` where the
            model has no such measure. An ensemble has the same once more as ``"expr"``.
        """
        outputs = [(b, tokens) for b, row in enumerate(hypotheses) for tokens in row]
        scored: Dict[int, Any] = {}
        if outputs and search is not None:
            at_once = search.reading(outputs)
            scored = self._records(
                self._read_all(search.passes(outputs), outputs) if at_once is None else [at_once],
                outputs,
            )
        missing = [i for i in range(len(outputs)) if i not in scored]
        if missing:
            if encoder_outs is None:
                encoder_outs = [self._encode(model, sample) for model in self.models]
            forced = TeacherForcing(self.models, encoder_outs, self.pad, self.eos)
            passes = forced.passes(outputs, missing, self._max_rows(outputs[0][1].device))
            scored.update(self._records(self._read_all(passes, outputs), outputs))
        results = (scored[i] for i in range(len(outputs)))
        return [[next(results) for _ in row] for row in hypotheses]

    def search_record(self, share: float) -> SearchRecord:
        """Return what is to follow the search for a batch, for :meth:`score`.

        Args:
            share: of the beam, how much will be scored.
        """
        return SearchRecord(self.eos, self._reader, share, self._max_rows)

    @staticmethod
    def _encode(model: BaseFairseqModel, sample: Dict[str, Any]) -> Any:
        model.eval()
        return model.encoder.forward_torchscript(sample["net_input"])

    def _max_rows(self, device: torch.device) -> int:
        max_elements = _MAX_ELEMENTS.get(device.type, _MAX_ELEMENTS_DEFAULT)
        tensors = max(len(self.models), _MAX_TENSORS)
        classes = len(self.models[0].decoder.dictionary)
        return max(1, max_elements * _MAX_TENSORS // (tensors * classes))

    def _read(self, each: Pass, targets: Sequence[Tensor]) -> Reading:
        rows = each.rows
        said = [
            self._reader.said(model, net_output)
            for model, net_output in zip(self.models, each.net_outputs)
        ]
        chosen = choose(said, rows, torch.cat(list(targets)))
        prefixes = chosen.new_zeros(len(said), len(said[0]))
        if self._reader.weighs_members:
            lengths = torch.tensor([len(tokens) for tokens in targets], device=rows.device)
            # rows that tokens share have the same before them
            prefixes.scatter_(1, rows.expand_as(chosen), _before(chosen, lengths))
        return Reading(each.outputs, self._reader.read(said, prefixes)[:, rows], chosen)

    def _read_all(self, passes: Iterable[Pass], outputs: Sequence[Output]) -> List[Reading]:
        return [self._read(each, [outputs[i][1] for i in each.outputs]) for each in passes]

    def _records(self, readings: Sequence[Reading], outputs: Sequence[Output]) -> Dict[int, Any]:
        """Scores of the outputs in ``readings``."""
        order = [i for each in readings for i in each.outputs]
        if not order:
            return {}
        context = torch.cat([each.context for each in readings], dim=-1)
        chosen = torch.cat([each.chosen for each in readings], dim=-1)
        # one transfer from the device for all values
        values = self._reader.values(context, chosen).cpu().numpy()
        sizes = np.array([len(outputs[i][1]) for i in order])
        ends = sizes.cumsum()
        sums = np.add.reduceat(values, ends - sizes, axis=-1, dtype=np.float64)
        means = (sums / sizes).transpose(2, 0, 1).tolist()
        log_probs = (-sums[:, TOKEN_FIELDS.index("score")]).T.tolist()
        tokens = np.split(values, ends[:-1], axis=-1)
        return dict(zip(order, map(self._record, log_probs, means, tokens)))

    def _record(
        self, log_probs: List[float], means: List[List[float]], tokens: np.ndarray
    ) -> Dict[str, Any]:
        """Scores of an output, from what each reading says of it."""
        record, *others = (
            {
                "log_prob": log_prob,
                "sequence": self._by_name(sequence),
                "token": self._by_name(token),
            }
            for log_prob, sequence, token in zip(log_probs, means, tokens)
        )
        if others:
            (record["expr"],) = others
        return record

    def _by_name(self, values: Iterable[Any]) -> Dict[str, Any]:
        named = dict(zip(TOKEN_FIELDS, values))
        return {**named, **self._missing}


def _before(log_probs: Tensor, lengths: Tensor) -> Tensor:
    """Log-probability of what stands before each token, from those of tokens; both ``[M, N]``."""
    padded = pad_sequence(log_probs.t().split(lengths.tolist()), batch_first=True)
    before = F.pad(padded.cumsum(1), (0, 0, 1, -1))
    return before[torch.arange(before.size(1), device=lengths.device) < lengths.unsqueeze(1)].t()
