"""What a teacher takes of memory: told, and refused where it cannot fit, before it is loaded."""

import logging
import os
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor
from tqdm import tqdm

from ..errors import UsageError

logger = logging.getLogger(__name__)

STATISTICS_TENSORS = 5
"""Tensors ``[N, K]`` of float32 that :meth:`EnsembleTeacher.statistics` holds at most: two sums,
a member's log-probabilities, and in low precision their conversion and the logits themselves."""


class Weights(NamedTuple):
    """Size of a model's weights."""

    parameters: int
    """Numbers, tied ones counted once."""
    bytes: int


def weights_of(state: Dict[str, Any], dtype: torch.dtype) -> Weights:
    """Size that the weights of a checkpoint will have.

    Args:
        state: a checkpoint's ``model``, names to tensors.
        dtype: floating type that they will be cast to.
    """
    parameters = size = 0
    for tensor in _untied(state.values()):
        parameters += tensor.numel()
        itemsize = dtype.itemsize if tensor.is_floating_point() else tensor.element_size()
        size += tensor.numel() * itemsize
    return Weights(parameters, size)


def _untied(tensors: Iterable[Any]) -> List[Tensor]:
    """Those of ``tensors`` that are no copies of another one.

    fairseq saves tied weights under each of their names, and as copies if they lay on a GPU.
    """
    by_shape: Dict[Tuple[torch.dtype, torch.Size], List[Tensor]] = {}
    for tensor in tensors:
        if isinstance(tensor, Tensor):
            alike = by_shape.setdefault((tensor.dtype, tensor.shape), [])
            # small ones are not worth the reading, and some are all zeros or ones
            if tensor.dim() < 2 or not any(torch.equal(tensor, other) for other in alike):
                alike.append(tensor)
    return [tensor for alike in by_shape.values() for tensor in alike]


def statistics_bytes(tokens: int, classes: int) -> int:
    """Memory for the statistics of a batch of ``tokens`` target tokens."""
    return STATISTICS_TENSORS * 4 * tokens * classes


def require_memory(
    weights: Sequence[Weights],
    statistics: int,
    dtype: torch.dtype,
    device: torch.device,
    offload: bool,
) -> None:
    """Log what a teacher will take.

    Args:
        weights: of each member.
        statistics: bytes of a batch's statistics.
        dtype: the members' floating type.
        device: where the student is, and the statistics will be.
        offload: whether the members stay in host memory.

    Raises:
        UsageError: it is more than there is.
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
    mends = ["a teacher cache needs neither (--teacher-cache)"]
    if statistics:
        mends.insert(0, "a smaller --max-tokens")
    if device != host and not offload:
        mends.insert(0, "--teacher-device cpu")
    if dtype.itemsize > 2:
        mends.insert(0, "--teacher-dtype bfloat16")
    if offload and device != host:
        _require(host, total, mends)
        _require(device, max(w.bytes for w in weights) + statistics, mends)
    else:
        _require(device, total + statistics, mends)


def _require(device: torch.device, needed: int, mends: Sequence[str]) -> None:
    available = available_bytes(device)
    if available is not None and needed > available:
        raise UsageError(
            f"the teacher does not fit: it needs {_readable(needed)} of memory on {device}, where "
            f"{_readable(available)} are free; try {', '.join(mends)}"
        )


def available_bytes(device: torch.device) -> Optional[int]:
    """Free memory of ``device`` (of the host for the CPU); ``None`` where nobody tells."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type != "cpu":
        return None
    try:
        with open("/proc/meminfo") as file:  # counts what the system can take back from its caches
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
