"""The online teacher: an ensemble that runs on every batch."""

import inspect
import logging
from contextlib import contextmanager, nullcontext
from itertools import chain
from typing import Any, ContextManager, Dict, Iterator, Optional, Sequence

import torch
from fairseq import utils
from fairseq.models import BaseFairseqModel
from fairseq.tasks import FairseqTask
from torch import Tensor

from ..checkpoints.fit import check_members
from ..checkpoints.reading import map_checkpoint
from ..core import EnsembleStatistics
from .members import load_members, require_files
from .memory import require_memory, statistics_bytes, weights_of

logger = logging.getLogger(__name__)

# Arguments of a Transformer's forward that turn off unneeded outputs: attention weights, and the
# outputs of all layers but the last. Attention without weights takes PyTorch's fused path.
_MINIMAL_OUTPUT = {"alignment_layer": -1, "return_all_hiddens": False}


class EnsembleTeacher:
    """The frozen members of an ensemble, as a :class:`~fairseq_pdd.teacher.Teacher`.

    The members are kept in a plain list, so that they are no part of the student, of the
    criterion or of any checkpoint.

    Args:
        members: models that share their dictionaries; architectures may differ. The models are
            changed in place: cast, and optimised for inference as fairseq-generate does it.
        dtype: floating type of the members' weights and activations.
        offload: keep the members in host memory and copy one at a time to the device of the
            batch; otherwise they move to that device once.
    """

    def __init__(
        self, members: Sequence[BaseFairseqModel], dtype: torch.dtype, offload: bool = False
    ) -> None:
        self.dtype = dtype
        self.offload = offload
        self.members = [member.to(dtype).requires_grad_(False) for member in members]
        for member in self.members:
            # also switches to evaluation mode, and blocks a switch back
            member.make_generation_fast_(need_attn=False)

    @classmethod
    def load(
        cls,
        paths: Sequence[str],
        task: FairseqTask,
        dtype: torch.dtype,
        device: torch.device,
        offload: bool = False,
        max_tokens: Optional[int] = None,
    ) -> "EnsembleTeacher":
        """Log the memory that an ensemble needs, then load it.

        Args:
            paths: checkpoint files of ``fairseq-train``.
            task: the student's task, whose dictionaries the members must share.
            dtype: floating type of the members' weights and activations.
            device: device of the student and of the statistics.
            offload: keep the members in host memory.
            max_tokens: target tokens of a batch, ``None`` if unknown.

        Raises:
            UsageError: the memory is too small, or a checkpoint cannot be loaded or does not fit
                the student's data.
        """
        require_files(paths)
        states = [map_checkpoint(path) for path in paths]
        check_members(paths, states)
        if len(paths) == 1:
            logger.warning(
                "teacher: %s is the only member, so its knowledge uncertainty is 0 for each "
                "target; give several checkpoints, joined with ':'",
                paths[0],
            )
        weights = [weights_of(state["model"], dtype) for state in states]
        statistics = statistics_bytes(max_tokens or 0, len(task.target_dictionary))
        require_memory(weights, statistics, dtype, device, offload)
        members_device = torch.device("cpu") if offload else device
        return cls(load_members(paths, task, dtype, members_device), dtype, offload)

    def __len__(self) -> int:
        return len(self.members)

    def check(self, subset: str, dataset: Any) -> None:
        """Accept any data set, since the members run on each batch."""

    @torch.no_grad()
    def statistics(self, sample: Dict[str, Any], mask: Tensor) -> EnsembleStatistics:
        """Compute the statistics of a batch, teacher-forced on its target.

        Beside the weights this needs memory for :data:`STATISTICS_TENSORS` tensors ``[N, K]``
        and for one member's activations, however many members there are.

        Args:
            sample: fairseq batch; its ``net_input`` is also the student's.
            mask: target positions to include, booleans ``[B, T]``; N of them are true.

        Returns:
            Statistics ``[N, K]`` and ``[N]``, float32, on the device of the batch.
        """
        net_input = utils.apply_to_sample(
            lambda t: t.to(self.dtype) if t.is_floating_point() else t, sample["net_input"]
        )
        statistics = EnsembleStatistics()
        # the student's autocast would override the teacher's own dtype
        with torch.autocast(mask.device.type, enabled=False):
            for member in self.members:
                with self._on_device(member, mask.device):
                    statistics.update(_log_probs(member, net_input, mask))
        return statistics

    def _on_device(self, member: BaseFairseqModel, device: torch.device) -> ContextManager[None]:
        if self.offload:
            return _moved(member, device)
        if next(member.parameters()).device != device:
            member.to(device)
        return nullcontext()


def _log_probs(member: BaseFairseqModel, net_input: Dict[str, Any], mask: Tensor) -> Tensor:
    """Return a member's log-probabilities ``[N, K]`` at the positions of the mask."""
    parameters = inspect.signature(member.forward).parameters
    minimal = {name: value for name, value in _MINIMAL_OUTPUT.items() if name in parameters}
    net_output = member(**net_input, **minimal)
    # masked first, since normalising is a pass over the vocabulary
    net_output = (net_output[0][mask].unsqueeze(0), *net_output[1:])
    # Without the sample: given the target, an adaptive softmax skips clusters that it does not
    # need.
    return member.get_normalized_probs(net_output, log_probs=True).squeeze(0)


@contextmanager
def _moved(member: BaseFairseqModel, device: torch.device) -> Iterator[None]:
    """Use copies of the weights on ``device`` within the context.

    The weights in host memory stay as they are. Copies from pinned memory are queued behind the
    previous member's work and reuse its memory, so that the host does not wait and the device
    holds one member at a time.
    """
    tensors = list(chain(member.parameters(), member.buffers()))
    if device.type == "cuda":
        for tensor in tensors:
            if tensor.device.type == "cpu" and not tensor.is_pinned():
                tensor.data = tensor.data.pin_memory()
    originals = [tensor.data for tensor in tensors]
    try:
        for tensor, original in zip(tensors, originals):
            tensor.data = _copy(original, device)
        yield
    finally:
        for tensor, original in zip(tensors, originals):
            tensor.data = original


def _copy(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor.to(device, non_blocking=True)
