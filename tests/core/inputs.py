"""Student logits and teacher targets for the tests."""

from typing import Tuple

import torch
from torch import Tensor

MEANS = ("random", "sharp", "one-hot", "flat")


def teacher_mean(kind: str, *shape: int) -> Tensor:
    """Draw an ensemble mean ``[*shape]`` of the given ``kind``, classes last."""
    if kind == "flat":
        return torch.full(shape, 1 / shape[-1])
    if kind == "one-hot":
        index = torch.randint(shape[-1], shape[:-1])
        return torch.nn.functional.one_hot(index, shape[-1]).float()
    return torch.softmax(torch.randn(shape) * (2 if kind == "random" else 20), dim=-1)


def student_and_teacher(*shape: int, dtype=torch.float32) -> Tuple[Tensor, Tensor, Tensor]:
    """Draw logits ``[*shape]``, mean ``[*shape]`` and inverse precision ``[*shape[:-1]]``."""
    logits = torch.randn(shape, dtype=dtype) * 3
    mean = torch.softmax(torch.randn(shape, dtype=dtype) * 2, dim=-1)
    return logits, mean, torch.rand(shape[:-1], dtype=dtype) + 1e-3


def members(*shape: int, dtype=torch.float32) -> Tensor:
    """Draw members' log-probabilities ``[*shape]``, classes last."""
    return torch.log_softmax(torch.randn(shape, dtype=dtype) * 2, dim=-1)
