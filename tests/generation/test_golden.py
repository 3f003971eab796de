"""Scores against those of an earlier version.

golden/ holds tiny models and the scores of hypotheses of their own beam search (beam 4, best two).
Version 0.1.0 at commit 2e64b39 computed them during the search, without teacher forcing.
"""

import json
from pathlib import Path

import pytest
import torch

from .build import build, make_scorer_of

GOLDEN = Path(__file__).parent / "golden"
EXPECTED = json.loads((GOLDEN / "scores.json").read_text())


@pytest.fixture(scope="module")
def golden_models(dictionary):
    models = build(dictionary)
    projection = models["transformer_iwslt_de_en"].decoder.output_projection
    projection.bias = torch.nn.Parameter(torch.zeros(len(dictionary)))
    for name, weights in torch.load(GOLDEN / "models.pt", weights_only=True).items():
        models[name].load_state_dict(weights)
    return models


def flat(scores):
    """Return all numbers by their path of keys."""
    if isinstance(scores, dict):
        return {f"{k}.{path}": v for k, each in scores.items() for path, v in flat(each).items()}
    return {"": scores if scores is None or isinstance(scores, float) else list(scores)}


@pytest.mark.parametrize("kind", EXPECTED["cases"])
def test_scores_are_those_of_an_earlier_version(golden_models, kind):
    case = EXPECTED["cases"][kind]
    sample = {
        "net_input": {
            "src_tokens": torch.tensor(EXPECTED["source"]),
            "src_lengths": torch.tensor(EXPECTED["lengths"]),
        }
    }
    hypotheses = [[torch.tensor(tokens) for tokens in row] for row in case["hypotheses"]]
    scorer = make_scorer_of(golden_models, case["models"], case["offset"])
    scored = scorer.score(sample, hypotheses)
    assert sum(map(len, scored)) == sum(map(len, case["scores"])) > 5
    for row, expected_row in zip(scored, case["scores"]):
        for ours, expected in zip(row, expected_row):
            ours, expected = flat(ours), flat(expected)
            assert ours.keys() == expected.keys()
            for path, value in expected.items():
                if value is None:
                    assert ours[path] is None, path
                    continue
                assert ours[path] == pytest.approx(value, rel=1e-4, abs=2e-5), path
