"""What fairseq's search leaves for the scoring of its hypotheses."""

from copy import copy
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import torch
from fairseq.models import BaseFairseqModel
from fairseq.sequence_generator import EnsembleModel
from torch import Tensor

from ..scoring import SearchRecord


class RecordedEnsemble(EnsembleModel):
    """The models of a search; keeps what their encoders said of the last batch, and tells a
    record of what their decoders say.

    fairseq's search asks for the models' mean alone, so each model is given to it in an
    envelope that is told of the distributions.
    """

    record: Optional[SearchRecord] = None
    """Of the search that comes next; ``None`` where nobody asks for one."""

    def __init__(self, models: Sequence[BaseFairseqModel]) -> None:
        super().__init__([_Overheard(model, self._overhear) for model in models])
        self._encoder_outs: Optional[List[Any]] = None
        self._said: List[Tuple[Tensor, Tensor]] = []

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
        if self.record is not None:
            self.record.reorder(new_order)
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
            return super().forward_decoder(tokens, encoder_outs, incremental_states, temperature)
        self.record.begin_step(tokens)
        self._said.clear()
        result = super().forward_decoder(tokens, encoder_outs, incremental_states, temperature)
        self.record.end_step(*zip(*self._said))
        self._said.clear()
        return result

    def _overhear(self, logits: Tensor, log_probs: Tensor) -> None:
        if self.record is not None:
            self._said.append((logits[:, -1], log_probs[:, -1]))

    def take(self) -> Tuple[Optional[List[Any]], Optional[SearchRecord]]:
        """Outputs of the encoders and record of the last search, once; ``None`` where there was
        none.
        """
        taken = self._encoder_outs, self.record
        self._encoder_outs = self.record = None
        return taken


class _Overheard(torch.nn.Module):
    """A model, in all that fairseq's search asks of it; what it says is passed on as well."""

    def __init__(self, model: BaseFairseqModel, overhear: Callable[[Tensor, Tensor], None]) -> None:
        super().__init__()
        self.model, self._overhear = model, overhear

    def __getattr__(self, name: str) -> Any:
        """Attributes of the model are those of its envelope."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("model"), name)

    def get_normalized_probs(
        self, net_output: Any, log_probs: bool, sample: Optional[Dict[str, Tensor]] = None
    ) -> Tensor:
        """Normalise the model's logits."""
        result: Tensor = self.model.get_normalized_probs(net_output, log_probs, sample)
        self._overhear(net_output[0], result)
        return result
