"""The online teacher: an ensemble that is run on every batch."""

from typing import Any, Dict, Sequence

import torch
from fairseq import utils
from fairseq.models import BaseFairseqModel
from torch import Tensor

from ..core import EnsembleStatistics


class EnsembleTeacher:
    """Members of an ensemble, frozen, behind one call.

    The members stand in a plain list: they are no part of the student, of the criterion or of
    any checkpoint.

    Args:
        members: models that share their dictionaries; architectures may differ.
        dtype: floating type of the members' weights and activations.
    """

    def __init__(self, members: Sequence[BaseFairseqModel], dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.members = [member.to(dtype).eval().requires_grad_(False) for member in members]

    def __len__(self) -> int:
        return len(self.members)

    @torch.no_grad()
    def statistics(self, sample: Dict[str, Any], mask: Tensor) -> EnsembleStatistics:
        """Statistics of the members' predictions, teacher-forced on the batch's target.

        Args:
            sample: fairseq batch; its ``net_input`` is what the student gets.
            mask: positions that count, booleans ``[B, T]``.

        Returns:
            Statistics over the positions that count, ``[N, K]`` and ``[N]``, float32.
        """
        net_input = utils.apply_to_sample(
            lambda t: t.to(self.dtype) if t.is_floating_point() else t, sample["net_input"]
        )
        statistics = EnsembleStatistics()
        # an autocast of the student's would override the precision chosen for the teacher
        with torch.autocast(mask.device.type, enabled=False):
            for member in self.members:
                member.to(mask.device)
                net_output = member(**net_input)
                # positions that count only: normalising is a pass over the vocabulary
                rows = (net_output[0][mask].unsqueeze(0), *net_output[1:])
                # not told the target: an adaptive softmax would skip clusters without one
                log_probs = member.get_normalized_probs(rows, log_probs=True)
                statistics.update(log_probs.squeeze(0))
        return statistics
