"""What fairseq's search leaves for the scoring of its hypotheses."""

from contextlib import ExitStack, contextmanager
from copy import copy
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import torch
from fairseq.models import BaseFairseqModel
from fairseq.sequence_generator import EnsembleModel
from torch import Tensor

from ..core import log_mean_probs
from ..scoring import LOG_PROBS, LOGITS, LastLayer, SearchRecord


class RecordedEnsemble(EnsembleModel):
    """The models of a search; keeps what their encoders said of the last batch, and tells a
    record of what their decoders do.

    fairseq's search sees nothing but the models' mean, so each model is given to it in an
    envelope. Each one decodes by itself, and their mean is made here: it is the same to the last
    bit, in a fraction of the time (see :func:`~fairseq_pdd.core.log_mean_probs`).
    """

    record: Optional[SearchRecord] = None
    """Of the search that comes next; ``None`` where nobody asks for one."""

    def __init__(self, models: Sequence[BaseFairseqModel]) -> None:
        super().__init__([_Overheard(model) for model in models])
        self._alone = [EnsembleModel([model]) for model in self.models]
        self._encoder_outs: Optional[List[Any]] = None

    def __getitem__(self, index: int) -> BaseFairseqModel:
        """One of the models, as in the list of them that tasks expect."""
        model: BaseFairseqModel = self.models[index].model
        return model

    def forward_encoder(self, net_input: Dict[str, Tensor]) -> Any:
        """Run the encoders."""
        encoder_outs = super().forward_encoder(net_input)
        # copies, as the search of some models reorders what is in the dictionaries
        self._encoder_outs = None if encoder_outs is None else [copy(out) for out in encoder_outs]
        return encoder_outs

    def reorder_encoder_out(self, encoder_outs: Optional[List[Any]], new_order: Tensor) -> Any:
        """Have as many sources as rows of a step, in their order."""
        if self.record is not None and not self.record.reorder(new_order):
            # rows of a source have the same, whichever of them go on
            return encoder_outs
        return super().reorder_encoder_out(encoder_outs, new_order)

    def forward_decoder(
        self,
        tokens: Tensor,
        encoder_outs: List[Any],
        incremental_states: List[Any],
        temperature: float = 1.0,
    ) -> Any:
        """Do a step of the search."""
        if self.record is None:
            return self._decode(tokens, encoder_outs, incremental_states, temperature)
        self.record.begin_step(tokens)
        takes = self.record.takes if temperature == 1.0 else None
        with ExitStack() as listening:
            for model in self.models:
                listening.enter_context(model.overhear(takes))
            result = self._decode(tokens, encoder_outs, incremental_states, temperature)
            self.record.end_step([model.last_layer for model in self.models])
        return result

    def _decode(
        self,
        tokens: Tensor,
        encoder_outs: List[Any],
        incremental_states: List[Any],
        temperature: float,
    ) -> Tuple[Tensor, Optional[Tensor]]:
        """Log-probabilities ``[n, K]`` and, where the decoders have any, attention of the models'
        mean.
        """
        log_probs, attentions = [], []
        for m, model in enumerate(self._alone):
            of_model, attention = model.forward_decoder(
                tokens, encoder_outs[m : m + 1], incremental_states[m : m + 1], temperature
            )
            log_probs.append(of_model)
            if attention is not None:
                attentions.append(attention)
        if len(log_probs) == 1:
            return log_probs[0], attentions[0] if attentions else None
        attention = torch.stack(attentions).sum(0) / len(log_probs) if attentions else None
        return log_mean_probs(log_probs), attention

    def take(self) -> Tuple[Optional[List[Any]], Optional[SearchRecord]]:
        """Outputs of the encoders and record of the last search, once; ``None`` where there was
        none.
        """
        taken = self._encoder_outs, self.record
        self._encoder_outs = self.record = None
        return taken


class _Call(NamedTuple):
    """Of a layer of the decoder."""

    layer: torch.nn.Module
    features: Tensor
    output: Tensor
    version: int

    def made(self, logits: Tensor) -> bool:
        """Whether ``logits`` are the last position of its output, which nothing has changed but
        the search when it divided by the temperature.
        """
        return self.output[:, -1:].is_set_to(logits) and self.output._version == self.version + 1


class _Overheard(torch.nn.Module):
    """A model, in all that fairseq's search asks of it; what makes its logits is overheard."""

    last_layer: Optional[LastLayer] = None
    """What made the logits of the step that is overheard; ``None`` where that is no layer of the
    decoder."""

    def __init__(self, model: BaseFairseqModel) -> None:
        super().__init__()
        self.model = model
        classes = len(getattr(getattr(model, "decoder", None), "dictionary", ()))
        self._candidates = [
            layer
            for layer in model.modules()
            if isinstance(layer, torch.nn.Linear) and layer.out_features == classes
        ]
        self._call: Optional[_Call] = None
        self._takes: Optional[str] = None
        self._features: Optional[Tensor] = None

    def __getattr__(self, name: str) -> Any:
        """Attributes of the model are those of its envelope."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("model"), name)

    @contextmanager
    def overhear(self, takes: Optional[str]) -> Iterator[None]:
        """Take note of the decoder's last layer and of the model's logits, log-probabilities or
        neither, for a step.
        """
        self._takes = takes
        handles = [layer.register_forward_hook(self._take_note) for layer in self._candidates]
        try:
            yield
        finally:
            self._call = self.last_layer = None
            for handle in handles:
                handle.remove()

    def _take_note(self, layer: torch.nn.Module, inputs: Tuple[Tensor], output: Tensor) -> None:
        self._call = None
        if output.dim() != 3:
            return
        features, memory = inputs[0][:, -1], self._features
        # copied to memory of our own: were the search's kept, its heap would not be as without us
        if memory is None or len(memory) < len(features) or memory[0].shape != features[0].shape:
            memory = self._features = torch.empty_like(features)
        copy = memory[: len(features)].copy_(features)
        self._call = _Call(layer, copy, output, output._version)

    def get_normalized_probs(
        self, net_output: Any, log_probs: bool, sample: Optional[Dict[str, Tensor]] = None
    ) -> Tensor:
        """Normalise the model's logits."""
        result: Tensor = self.model.get_normalized_probs(net_output, log_probs, sample)
        if self._call is not None and self._call.made(net_output[0]):
            said = None
            # as large as they are, no others are kept beyond the model's turn
            if self._takes == LOGITS:
                said = net_output[0]
            elif self._takes == LOG_PROBS and log_probs:
                said = result
            self.last_layer = LastLayer(
                self._call.layer,
                self._call.features,
                None if said is None else said[:, -1],
            )
        self._call = None
        return result
