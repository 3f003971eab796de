"""What fairseq's search leaves for the scoring of its hypotheses."""

from copy import copy
from typing import Any, Dict, List, Optional

from fairseq.models import BaseFairseqModel
from fairseq.sequence_generator import EnsembleModel
from torch import Tensor


class EncodingOnce(EnsembleModel):
    """The models of a search; keeps what their encoders said of the last batch."""

    _encoder_outs: Optional[List[Any]] = None

    def __getitem__(self, index: int) -> BaseFairseqModel:
        """One of the models, as in the list of them that tasks expect."""
        model: BaseFairseqModel = self.models[index]
        return model

    def forward_encoder(self, net_input: Dict[str, Tensor]) -> Any:
        """Run the encoders."""
        encoder_outs = super().forward_encoder(net_input)
        # copies, as the search of some models reorders what is in the dictionaries
        self._encoder_outs = None if encoder_outs is None else [copy(out) for out in encoder_outs]
        return encoder_outs

    def take(self) -> Optional[List[Any]]:
        """Outputs of the encoders, once; ``None`` where the search did not run them."""
        encoder_outs, self._encoder_outs = self._encoder_outs, None
        return encoder_outs
