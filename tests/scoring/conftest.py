"""Tiny untrained models of several architectures over one dictionary."""

from argparse import Namespace
from types import SimpleNamespace

import pytest
import torch
from fairseq.data import Dictionary
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY

SIZES = {
    "transformer_iwslt_de_en": {
        "encoder_embed_dim": 16,
        "decoder_embed_dim": 16,
        "encoder_ffn_embed_dim": 16,
        "decoder_ffn_embed_dim": 16,
        "encoder_layers": 1,
        "decoder_layers": 1,
    },
    "lstm": {
        "encoder_embed_dim": 16,
        "decoder_embed_dim": 16,
        "encoder_hidden_size": 16,
        "decoder_hidden_size": 16,
        "decoder_out_embed_dim": 16,
    },
    "fconv": {
        "encoder_embed_dim": 16,
        "decoder_embed_dim": 16,
        "decoder_out_embed_dim": 16,
        "encoder_layers": "[(16, 3)]",
        "decoder_layers": "[(16, 3)]",
        "max_source_positions": 64,
        "max_target_positions": 64,
    },
}


BIAS = (8.0, 1.5, 2.0)  # of end-of-sequence


@pytest.fixture(scope="session")
def dictionary() -> Dictionary:
    made = Dictionary()
    for i in range(20):
        made.add_symbol(f"w{i}")
    return made


def build(dictionary):
    """Models by architecture, in evaluation mode."""
    task = SimpleNamespace(source_dictionary=dictionary, target_dictionary=dictionary)
    made = {}
    for seed, (arch, sizes) in enumerate(SIZES.items()):
        torch.manual_seed(seed)
        args = Namespace(criterion="cross_entropy", **sizes)
        ARCH_CONFIG_REGISTRY[arch](args)
        model = ARCH_MODEL_REGISTRY[arch].build_model(args, task).eval()
        for parameter in model.parameters():
            # untrained models are all but uniform
            parameter.data *= 3 if parameter.dim() > 1 else 1
        made[arch] = model
    return made


@pytest.fixture(scope="session")
def models(dictionary):
    """Models by architecture."""
    return build(dictionary)


@pytest.fixture(scope="session")
def talkers(dictionary):
    """Models that end their outputs at several lengths, which untrained ones hardly do."""
    made = build(dictionary)
    projection = made["transformer_iwslt_de_en"].decoder.output_projection
    projection.bias = torch.nn.Parameter(torch.zeros(len(dictionary)))
    layers = (projection, made["lstm"].decoder.fc_out, made["fconv"].decoder.fc3)
    for layer, bias in zip(layers, BIAS):
        layer.bias.data[dictionary.eos()] = bias
    # else it is too sure of itself for any other token to be drawn
    made["fconv"].decoder.fc3.weight_g.data *= 0.05
    return made


@pytest.fixture
def sample(dictionary):
    """Five sources of falling length, left-padded."""
    torch.manual_seed(0)
    lengths = torch.tensor([7, 6, 6, 3, 2])
    tokens = torch.full((5, 7), dictionary.pad())
    for row, length in zip(tokens, lengths):
        row[7 - length :] = torch.randint(4, len(dictionary), (int(length),))
        row[-1] = dictionary.eos()
    return {"id": torch.arange(5), "net_input": {"src_tokens": tokens, "src_lengths": lengths}}


@pytest.fixture
def hypotheses(dictionary):
    """One to three outputs a source, of mixed lengths."""
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
