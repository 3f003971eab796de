"""Memory of a teacher: estimated, logged and compared with the free memory before loading."""

import logging
import os
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor
from tqdm import tqdm

from ..errors import UsageError

logger = logging.getLogger(__name__)

STATISTICS_TENSORS = 5
"""Largest number of float32 tensors ``[N, K]`` that :meth:`EnsembleTeacher.statistics` holds at a
time: two sums, a member's log-probabilities, and in low precision their conversion and the
logits."""


class Weights(NamedTuple):
    """Size of a model's weights."""

    parameters: int
    """Number of parameters; tied ones count once."""
    bytes: int
    """Memory that they take."""


def weights_of(state: Dict[str, Any], dtype: torch.dtype) -> Weights:
    """Compute the size of a checkpoint's weights after casting.

    Args:
        state: a checkpoint's ``model``, names to tensors.
        dtype: floating type to cast to.
    """
    parameters = size = 0
    for tensor in _untied(state.values()):
        parameters += tensor.numel()
        itemsize = dtype.itemsize if tensor.is_floating_point() else tensor.element_size()
        size += tensor.numel() * itemsize
    return Weights(parameters, size)


def _untied(tensors: Iterable[Any]) -> List[Tensor]:
    """Return the tensors without copies of one another.

    fairseq saves tied weights under each of their names, and as copies if they were on a GPU.
    """
    by_shape: Dict[Tuple[torch.dtype, torch.Size], List[Tensor]] = {}
    for tensor in tensors:
        if isinstance(tensor, Tensor):
            alike = by_shape.setdefault((tensor.dtype, tensor.shape), [])
            # vectors are too small to be worth reading, and some are all zeros or ones
            if tensor.dim() < 2 or not any(torch.equal(tensor, other) for other in alike):
                alike.append(tensor)
    return [tensor for alike in by_shape.values() for tensor in alike]


def statistics_bytes(tokens: int, classes: int) -> int:
    """Compute the memory for the statistics of a batch of ``tokens`` target tokens."""
    return STATISTICS_TENSORS * 4 * tokens * classes


def require_memory(
    weights: Sequence[Weights],
    statistics: int,
    dtype: torch.dtype,
    device: torch.device,
    offload: bool,
) -> None:
    """Log the memory that a teacher needs, and require that it is free.

    Args:
        weights: size of each member's weights.
        statistics: bytes of a batch's statistics.
        dtype: the members' floating type.
        device: device of the student and of the statistics.
        offload: whether the members stay in host memory.

    Raises:
        UsageError: less is free.
    """
    host = torch.device("cpu")
    total = sum(w.bytes for w in weights)
    name = str(dtype).replace("torch.", "")
    logger.info(
        "teacher: %d members, %s parameters, %s of %s weights %s; statistics of a batch %s on %s",
        len(weights),
        f"{sum(w.parameters for w in weights):,}",
        _readable(total),
        name,
        "in host memory, one member at a time on the device" if offload else f"on {device}",
        _readable(statistics) if statistics else "of unknown size (no --max-tokens)",
        device,
    )
    remedies = []
    if dtype.itemsize > 2:
        remedies.append("--teacher-dtype bfloat16")
    if device != host and not offload:
        remedies.append("--teacher-device cpu")
    if statistics:
        remedies.append("a smaller --max-tokens")
    remedies.append("--teacher-cache, which needs no teacher in memory")
    if offload and device != host:
        _require(host, total, remedies)
        _require(device, max(w.bytes for w in weights) + statistics, remedies)
    else:
        _require(device, total + statistics, remedies)


def _require(device: torch.device, needed: int, remedies: Sequence[str]) -> None:
    available = available_bytes(device)
    if available is not None and needed > available:
        raise UsageError(
            f"the teacher does not fit: it needs {_readable(needed)} of memory on {device}, where "
            f"{_readable(available)} are free; try {', '.join(remedies)}"
        )


def available_bytes(device: torch.device) -> Optional[int]:
    """Return the free memory of ``device``, the host's for the CPU; ``None`` if unknown."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type != "cpu":
        return None
    try:
        with open("/proc/meminfo") as file:  # includes caches that the system can free
            (line,) = (line for line in file if line.startswith("MemAvailable:"))
        return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


def _readable(size: int) -> str:
    return tqdm.format_sizeof(size, "B")
