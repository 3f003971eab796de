"""What all tests of the numeric core share."""

import pytest
import torch

from fairseq_pdd.core import _compile


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _eager(monkeypatch):
    """Compiling takes a while: only ``test_compile`` does it."""
    monkeypatch.setenv(_compile.SWITCH, "0")
