"""``fairseq-generate`` on a machine where an earlier run compiled kernels and kept them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

from . import commands
import pytest

AN_EARLIER_RUN = """
import torch
from fairseq_pdd.core import _compile, dirichlet_measures, sequence_ensemble_measures
_compile.MIN_ELEMENTS = 0
logits = torch.zeros(2, 3)
dirichlet_measures(logits)
sequence_ensemble_measures([logits.log_softmax(-1)] * 2, torch.zeros(2, 2))
"""


def test_scores_are_those_of_eager_mode_but_for_rounding(workspace, tmp_path, monkeypatch):
    def records(model: str, name: str) -> List[Dict[str, Any]]:
        file = tmp_path / name
        commands.generate(workspace.data, model, "--nbest", 2, "--uncertainty-path", file)
        return [json.loads(line) for line in file.read_text("utf-8").splitlines()]

    models = [workspace.pd_send2, workspace.teachers]
    eager = [records(model, f"eager{i}") for i, model in enumerate(models)]
    monkeypatch.setenv("FAIRSEQ_PDD_COMPILE", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    # from a folder without the sources: the commands run the package that is installed
    subprocess.run([sys.executable, "-c", AN_EARLIER_RUN], check=True, cwd=tmp_path)
    kernels = Path(tmp_path, "fairseq_pdd", "kernels")
    assert len(list(kernels.iterdir())) == 2
    for i, model in enumerate(models):
        compiled = records(model, f"compiled{i}")
        assert compiled != eager[i], "the kernels were not used"
        assert len(compiled) == len(eager[i])
        for ours, expected in zip(compiled, eager[i]):
            assert ours.keys() == expected.keys()
            for key in ours:
                assert ours[key] == approximately(expected[key])


def approximately(value: Any) -> Any:
    """What compares numbers in dictionaries and lists but for rounding."""
    if isinstance(value, dict):
        return {key: approximately(each) for key, each in value.items()}
    if isinstance(value, list):
        return [approximately(each) for each in value]
    return pytest.approx(value, rel=1e-4, abs=1e-5) if isinstance(value, float) else value
