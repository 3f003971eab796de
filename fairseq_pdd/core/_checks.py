"""Checks of the arguments of losses and measures: shapes and options, not values."""

from torch import Tensor


def check_logits(logits: Tensor, name: str = "logits") -> None:
    """Raise ``ValueError`` unless ``logits`` are floating and have at least two classes."""
    if not logits.is_floating_point():
        raise ValueError(f"{name} must be floating point, not {logits.dtype}")
    if logits.dim() == 0 or logits.shape[-1] < 2:
        raise ValueError(f"{name} need at least two classes, got shape {tuple(logits.shape)}")


def check_per_class(name: str, target: Tensor, logits: Tensor) -> None:
    """Raise ``ValueError`` unless ``target`` has the shape of ``logits``."""
    if target.shape != logits.shape:
        raise ValueError(
            f"{name} must have the shape of logits, {tuple(logits.shape)}, "
            f"not {tuple(target.shape)}"
        )


def check_per_row(name: str, target: Tensor, logits: Tensor) -> None:
    """Raise ``ValueError`` unless ``target`` has one value for each row of ``logits``."""
    if target.shape != logits.shape[:-1]:
        raise ValueError(
            f"{name} must have the shape of logits without classes, "
            f"{tuple(logits.shape[:-1])}, not {tuple(target.shape)}"
        )


def check_offset(offset: float) -> None:
    """Raise ``ValueError`` unless ``offset`` can be added to concentrations of a Dirichlet."""
    if not 0 < offset < float("inf"):
        raise ValueError(f"offset must be positive and finite, not {offset} (the paper uses 1)")


def check_measures_offset(offset: float) -> None:
    """Raise ``ValueError`` unless ``offset`` suits measures, where it may be 0."""
    if not 0 <= offset < float("inf"):
        raise ValueError(f"offset must be at least 0 and finite, not {offset}")
