"""A distribution over many classes by its largest probabilities."""

from typing import NamedTuple, Optional, Sequence, Tuple, Union

from torch import Tensor

from ._checks import check_logits, check_per_class, check_per_row


class TopKProbs(NamedTuple):
    """An ensemble mean π̂ by the probabilities of k classes and the mass of the others.

    The losses that need only (π̂, λ) take it instead of a dense ``mean_probs``. They spread the
    remaining mass evenly over the other K - k classes.
    """

    probs: Tensor
    """Probabilities of the listed classes, ``[..., k]``."""
    classes: Tensor
    """The listed classes, distinct integers, ``[..., k]``."""
    rest: Tensor
    """Remaining mass, ``[...]``."""

    @classmethod
    def of(cls, mean_probs: Tensor, k: int) -> "TopKProbs":
        """Select the ``k`` largest of dense probabilities.

        Args:
            mean_probs: ``[..., K]``.
            k: at least 1; all classes where K is not larger.

        Raises:
            ValueError: fewer than two classes, or k < 1.
        """
        check_logits(mean_probs, "mean_probs")
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        num_classes = mean_probs.shape[-1]
        probs, classes = mean_probs.topk(min(k, num_classes), dim=-1)
        # summed on its own: the difference to 1 would have an error of the size of the largest
        rest = mean_probs.scatter(-1, classes, 0.0).sum(-1)
        return cls(probs, classes, rest)

    def each(self, num_classes: int) -> Tensor:
        """Return the probability of each class that is not listed, ``[...]``."""
        return self.rest / max(num_classes - self.probs.shape[-1], 1)

    def dense(self, num_classes: int) -> Tensor:
        """Return all K probabilities, ``[..., K]``."""
        each = self.each(num_classes).unsqueeze(-1)
        return each.expand(*self.rest.shape, num_classes).scatter(-1, self.classes, self.probs)


MeanProbs = Union[Tensor, TopKProbs]
"""Ensemble mean π̂ as the losses accept it."""


def check_mean_probs(mean_probs: MeanProbs, logits: Tensor) -> None:
    """Raise ``ValueError`` unless ``mean_probs`` suit the classes and rows of ``logits``."""
    if not isinstance(mean_probs, TopKProbs):
        check_per_class("mean_probs", mean_probs, logits)
        return
    probs, classes, rest = mean_probs
    k = probs.shape[-1] if probs.dim() else 0
    if classes.shape != probs.shape or not 1 <= k <= logits.shape[-1]:
        raise ValueError(
            f"top-k probabilities have shape {tuple(probs.shape)} and their classes "
            f"{tuple(classes.shape)}; both must be [..., k] with k of 1 to {logits.shape[-1]}"
        )
    if classes.is_floating_point():
        raise ValueError(f"classes of top-k probabilities must be integers, not {classes.dtype}")
    check_per_row("each of the top-k probabilities", probs[..., 0], logits)
    check_per_row("the remaining mass", rest, logits)


def as_tensors(mean_probs: MeanProbs) -> Tuple[Tensor, ...]:
    """Return the tensors of a mean, for a function of rows; :func:`as_dense` is the inverse."""
    return tuple(mean_probs) if isinstance(mean_probs, TopKProbs) else (mean_probs,)


def as_dense(tensors: Sequence[Optional[Tensor]], num_classes: int) -> Tensor:
    """Return dense probabilities from the tensors of :func:`as_tensors`."""
    first, *others = [tensor for tensor in tensors if tensor is not None]
    return TopKProbs(first, *others).dense(num_classes) if others else first
