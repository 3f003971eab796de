"""Settings of all tests."""

import os
from typing import List

import pytest
import torch
from hypothesis import settings

from . import unfused  # noqa: F401

# Compilation takes longer than most tests. Tests of it, and the benchmarks', switch it on.
os.environ["FAIRSEQ_PDD_COMPILE"] = "0"

# Test machines are busy, so the time of an example is no property of the code.
settings.register_profile("fairseq_pdd", deadline=None)
settings.load_profile("fairseq_pdd")


def pytest_collection_modifyitems(items: List[pytest.Item]) -> None:
    """Skip tests marked ``gpu`` where there is no CUDA device."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu") is not None:
            item.add_marker(pytest.mark.skip(reason="there is no CUDA device here"))
