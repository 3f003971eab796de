"""The online teacher: an ensemble that is run on every batch."""

import inspect
from contextlib import contextmanager, nullcontext
from itertools import chain
from typing import Any, ContextManager, Dict, Iterator, Optional, Sequence

import torch
from fairseq import utils
from fairseq.models import BaseFairseqModel
from fairseq.tasks import FairseqTask
from torch import Tensor

from ..core import EnsembleStatistics
from .checkpoints import load_members, read_weights, require_files
from .memory import require_memory, statistics_bytes, weights_of

# Of a Transformer's forward: attention weights of no layer, and no layer's output but the last.
# Attention whose weights nobody asks for takes PyTorch's fused path.
_NOTHING_EXTRA = {"alignment_layer": -1, "return_all_hiddens": False}


class EnsembleTeacher:
    """Members of an ensemble, frozen, behind one call.

    The members stand in a plain list: they are no part of the student, of the criterion or of
    any checkpoint.

    Args:
        members: models that share their dictionaries; architectures may differ. They are taken
            over: cast, and optimised for inference as fairseq-generate does it.
        dtype: floating type of the members' weights and activations.
        offload: leave the members where they are, in host memory, and bring them one at a time
            to the device of the batch; else they move there once.
    """

    def __init__(
        self, members: Sequence[BaseFairseqModel], dtype: torch.dtype, offload: bool = False
    ) -> None:
        self.dtype = dtype
        self.offload = offload
        self.members = [member.to(dtype).requires_grad_(False) for member in members]
        for member in self.members:
            member.make_generation_fast_(need_attn=False)  # also, for good, evaluation mode

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
        """Load the ensemble that a student learns from, and log before what it will take.

        Args:
            paths: checkpoint files of ``fairseq-train``.
            task: the student's task, whose dictionaries the members must share.
            dtype: floating type of the members' weights and activations.
            device: where the student is, and the statistics will be.
            offload: keep the members in host memory.
            max_tokens: target tokens of a batch, ``None`` if not known.

        Raises:
            UsageError: it cannot fit, or one of the checkpoints cannot be loaded or does not
                fit the student's data.
        """
        require_files(paths)
        weights = [weights_of(read_weights(path), dtype) for path in paths]
        statistics = statistics_bytes(max_tokens or 0, len(task.target_dictionary))
        require_memory(weights, statistics, dtype, device, offload)
        home = torch.device("cpu") if offload else device
        return cls(load_members(paths, task, dtype, home), dtype, offload)

    def __len__(self) -> int:
        return len(self.members)

    @torch.no_grad()
    def statistics(self, sample: Dict[str, Any], mask: Tensor) -> EnsembleStatistics:
        """Statistics of the members' predictions, teacher-forced on the batch's target.

        Beside the weights this takes the memory of :data:`STATISTICS_TENSORS` tensors ``[N, K]``
        and of one member's activations, however many members there are.

        Args:
            sample: fairseq batch; its ``net_input`` is what the student gets.
            mask: positions that count, booleans ``[B, T]``.

        Returns:
            Statistics over the positions that count, ``[N, K]`` and ``[N]``, float32, on the
            device of the batch.
        """
        net_input = utils.apply_to_sample(
            lambda t: t.to(self.dtype) if t.is_floating_point() else t, sample["net_input"]
        )
        statistics = EnsembleStatistics()
        # an autocast of the student's would override the precision chosen for the teacher
        with torch.autocast(mask.device.type, enabled=False):
            for member in self.members:
                with self._on_device(member, mask.device):
                    statistics.update(_log_probs(member, net_input, mask))
        return statistics

    def _on_device(self, member: BaseFairseqModel, device: torch.device) -> ContextManager[None]:
        if self.offload:
            return _visiting(member, device)
        if next(member.parameters()).device != device:
            member.to(device)
        return nullcontext()


def _log_probs(member: BaseFairseqModel, net_input: Dict[str, Any], mask: Tensor) -> Tensor:
    """Log-probabilities ``[N, K]`` at the positions that count."""
    parameters = inspect.signature(member.forward).parameters
    spared = {name: value for name, value in _NOTHING_EXTRA.items() if name in parameters}
    net_output = member(**net_input, **spared)
    # positions that count only: normalising is a pass over the vocabulary
    net_output = (net_output[0][mask].unsqueeze(0), *net_output[1:])
    # not told the target: an adaptive softmax would skip clusters without one
    return member.get_normalized_probs(net_output, log_probs=True).squeeze(0)


@contextmanager
def _visiting(member: BaseFairseqModel, device: torch.device) -> Iterator[None]:
    """Have the weights on ``device`` for a while; those in host memory stay as they are.

    From pinned memory the copies are queued behind the work of the member before, whose memory
    they can take over: neither the host waits nor do two members stand on the device.
    """
    tensors = list(chain(member.parameters(), member.buffers()))
    if device.type == "cuda":
        for tensor in tensors:
            if tensor.device.type == "cpu" and not tensor.is_pinned():
                tensor.data = tensor.data.pin_memory()
    at_home = [tensor.data for tensor in tensors]
    try:
        for tensor, home in zip(tensors, at_home):
            tensor.data = _copy(home, device)
        yield
    finally:
        for tensor, home in zip(tensors, at_home):
            tensor.data = home


def _copy(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor.to(device, non_blocking=True)
