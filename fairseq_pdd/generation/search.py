"""fairseq's ensemble of a search, whose encoder outputs are kept for scoring."""

from typing import Any, Dict, List, Optional

from fairseq.models import BaseFairseqModel
from fairseq.sequence_generator import EnsembleModel
from torch import Tensor

from .teacher_forcing import copy_containers


class EncoderKeepingEnsemble(EnsembleModel):
    """An ensemble that searches as fairseq's does and keeps the encoders' outputs of a batch."""

    encoder_outs: Optional[List[Any]] = None
    """Output of each model's encoder for the last batch; the caller takes it and sets None."""

    def __getitem__(self, index: int) -> BaseFairseqModel:
        """Return a model; tasks expect a list of models."""
        model: BaseFairseqModel = self.models[index]
        return model

    def forward_encoder(self, net_input: Dict[str, Tensor]) -> Any:
        """Run the encoders."""
        encoder_outs = super().forward_encoder(net_input)
        # Copies, since the search of some models reorders the entries of these dictionaries.
        self.encoder_outs = copy_containers(encoder_outs)
        return encoder_outs
