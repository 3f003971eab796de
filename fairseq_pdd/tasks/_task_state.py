"""The part of a checkpoint that its task writes: kind of the student, and its data."""

from typing import Any, Dict, Optional

import torch
from fairseq.models import BaseFairseqModel
from omegaconf import DictConfig

from .._compat import call, without_fused_encoder
from ..checkpoints.dictionaries import describe_dictionaries
from ..checkpoints.fit import (
    DICTIONARIES,
    LANGUAGES,
    PRIOR_NETWORK,
    compare_dictionaries,
    languages,
)
from ..models.prior_network import mark_prior_network, require_logits
from ._data_source import DataSource


class TaskStateMixin(DataSource):
    """A task whose checkpoints record what they were trained for.

    That is the offset δ of a student that is a Prior Network, the dictionaries and the languages.
    """

    def __init__(self, cfg: DictConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(cfg, *args, **kwargs)
        self._saved_state: Dict[str, Any] = {}
        self._loaded_offset: Optional[float] = None

    def build_criterion(self, cfg: DictConfig, from_checkpoint: bool = False) -> torch.nn.Module:
        """Build the criterion; checkpoints record its offset, and the data."""
        criterion = call(super().build_criterion, cfg, from_checkpoint=from_checkpoint)
        offset = getattr(criterion, "offset", None)
        self._saved_state = {
            PRIOR_NETWORK: None if offset is None else {"offset": offset},
            DICTIONARIES: describe_dictionaries(self),
            LANGUAGES: languages(self.cfg),
        }
        self.state.merge_state_dict(self._saved_state)
        return criterion

    def load_state_dict(self, state_dict: Dict[str, Any]) -> None:
        """Load the task state of a checkpoint, whose model is built next.

        Raises:
            UsageError: the checkpoint has other dictionaries.
        """
        compare_dictionaries("the checkpoint", state_dict.get(DICTIONARIES) or {}, self)
        super().load_state_dict(state_dict)
        state = state_dict.get(PRIOR_NETWORK)
        self._loaded_offset = None if state is None else state["offset"]
        # in fine-tuning, the checkpoints describe the new criterion
        self.state.merge_state_dict(self._saved_state)

    def build_model(self, cfg: Any, from_checkpoint: bool = False) -> BaseFairseqModel:
        """Build a model and mark that of a Prior Network's checkpoint."""
        model = without_fused_encoder(super().build_model(cfg, from_checkpoint))
        if not from_checkpoint:
            require_logits(model)
        elif self._loaded_offset is not None:
            mark_prior_network(model, self._loaded_offset)
        self._loaded_offset = None
        return model
