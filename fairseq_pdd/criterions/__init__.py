"""The losses as fairseq criterions, one file each; importing this package registers them."""

from .distillation import DistillationCriterion
from .pd_send2 import PDSEnD2Criterion
from .pd_send2_forward import PDSEnD2ForwardCriterion
from .send import SEnDCriterion
from .send2 import SEnD2Criterion

__all__ = [
    "DistillationCriterion",
    "PDSEnD2Criterion",
    "PDSEnD2ForwardCriterion",
    "SEnD2Criterion",
    "SEnDCriterion",
]
