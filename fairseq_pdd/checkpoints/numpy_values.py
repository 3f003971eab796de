"""Builders of numpy's scalars and arrays for files that are not trusted.

numpy's own builders trust a file: its ``dtype`` accepts any flags, and an array whose flags lie
about Python objects makes numpy follow addresses that the file holds. These builders take numbers,
booleans and text only, and ignore flags.
"""

import pickle
import re
from typing import Any, Tuple

import numpy as np

# booleans, integers, floats, complex numbers, bytes and text, with their size
_PLAIN = re.compile(r"[biufc]\d{1,2}|[SU]\d{1,9}")


class Dtype:
    """The type of a value, in place of ``numpy.dtype``.

    Args:
        code: numpy's code of the type, such as ``i8``.
        _align: not used; the arguments are those of a pickled ``numpy.dtype``.
        _copy: not used.

    Raises:
        pickle.UnpicklingError: the type can hold anything but numbers, booleans and text.
    """

    def __init__(self, code: str, _align: Any = False, _copy: Any = False) -> None:
        if not isinstance(code, str) or not _PLAIN.fullmatch(code):
            raise pickle.UnpicklingError(f"numpy type {code!r}")
        self.value = np.dtype(code)

    def __setstate__(self, state: Tuple[Any, ...]) -> None:
        """Take the order of bytes from a pickled state, and nothing else."""
        self.value = self.value.newbyteorder(state[1])


class Array(np.ndarray):
    """An array, in place of ``numpy.ndarray``; it is saved as numpy's own."""

    def __setstate__(self, state: Tuple[Any, ...]) -> None:
        """Fill the array from a pickled state, whose type must be a :class:`Dtype`."""
        version, shape, dtype, is_fortran, data = state
        super().__setstate__((version, shape, _value_of(dtype), is_fortran, data))

    def __reduce__(self) -> Any:
        """Return the pickled form of numpy's array."""
        return np.asarray(self).__reduce__()


def empty_array(_kind: Any, _shape: Any, _code: Any) -> Array:
    """Return an array to be filled, in place of ``numpy.core.multiarray._reconstruct``."""
    return np.empty(0).view(Array)


def scalar(dtype: Dtype, data: bytes) -> Any:
    """Return a scalar, in place of ``numpy.core.multiarray.scalar``."""
    return np.frombuffer(data, _value_of(dtype), count=1)[0]


def _value_of(dtype: Any) -> "np.dtype[Any]":
    value = getattr(dtype, "value", None)
    if not isinstance(dtype, Dtype) or not isinstance(value, np.dtype):
        raise pickle.UnpicklingError(f"numpy array of {type(dtype).__name__}")
    return value
