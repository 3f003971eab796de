"""Fixtures of scoring: tiny models, a batch and outputs."""

import pytest
import torch
from fairseq.data import Dictionary

from .build import build

BIAS = (8.0, 1.5, 2.0)  # logit of end-of-sequence, which untrained models hardly give


@pytest.fixture(scope="session")
def dictionary() -> Dictionary:
    made = Dictionary()
    for i in range(20):
        made.add_symbol(f"w{i}")
    return made


@pytest.fixture(scope="session")
def models(dictionary):
    """Models by architecture."""
    return build(dictionary)


@pytest.fixture(scope="session")
def ending_models(dictionary):
    """Models that end their outputs at several lengths."""
    made = build(dictionary)
    projection = made["transformer_iwslt_de_en"].decoder.output_projection
    projection.bias = torch.nn.Parameter(torch.zeros(len(dictionary)))
    layers = (projection, made["lstm"].decoder.fc_out, made["fconv"].decoder.fc3)
    for layer, bias in zip(layers, BIAS):
        layer.bias.data[dictionary.eos()] = bias
    # otherwise this model is so confident that sampling draws one token only
    made["fconv"].decoder.fc3.weight_g.data *= 0.05
    return made


@pytest.fixture
def sample(dictionary):
    """Five sources of decreasing length, left-padded."""
    torch.manual_seed(0)
    lengths = torch.tensor([7, 6, 6, 3, 2])
    tokens = torch.full((5, 7), dictionary.pad())
    for row, length in zip(tokens, lengths):
        row[7 - length :] = torch.randint(4, len(dictionary), (int(length),))
        row[-1] = dictionary.eos()
    return {"id": torch.arange(5), "net_input": {"src_tokens": tokens, "src_lengths": lengths}}


@pytest.fixture
def hypotheses(dictionary):
    """Up to three outputs per source, of mixed lengths."""
    torch.manual_seed(1)

    def output(length: int) -> torch.Tensor:
        words = torch.randint(4, len(dictionary), (length,))
        return torch.cat([words, torch.tensor([dictionary.eos()])])

    return [
        [output(3), output(0), output(6)],
        [output(6)],
        [output(1), output(2)],
        [],
        [output(8), output(3)],
    ]
