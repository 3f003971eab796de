"""Scores of fairseq's other encoder-decoders, against fairseq's search and a forward pass."""

import math
from argparse import Namespace
from types import SimpleNamespace

import pytest
import torch
from fairseq.data import Dictionary
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY

from fairseq_pdd.generation import EncoderKeepingEnsemble, EnsembleEstimator, HypothesisScorer

from ..plugin.pointer_generator import import_pointer_generator
from .build import EOS, PAD, SIZES
from .test_search import run_search

import_pointer_generator()

MARKERS = 6
TRANSFORMER = SIZES["transformer_iwslt_de_en"]
ARCHITECTURES = {
    "transformer_pointer_generator": {
        **TRANSFORMER,
        "source_position_markers": MARKERS,
        "alignment_layer": 0,
        "alignment_heads": 1,
        "force_generation": None,
        "share_decoder_input_output_embed": True,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
    },
    "transformer_align": {**TRANSFORMER, "alignment_layer": 0, "alignment_heads": 1},
    "lightconv_iwslt_de_en": {
        **TRANSFORMER,
        "encoder_kernel_size_list": [3],
        "decoder_kernel_size_list": [3],
        "encoder_conv_dim": 16,
        "encoder_conv_type": "lightweight",
        "decoder_conv_type": "lightweight",
        "weight_softmax": True,
        "encoder_glu": True,
        "decoder_glu": True,
        "decoder_conv_dim": 16,
    },
    "fconv_self_att": {
        "encoder_embed_dim": 16,
        "encoder_layers": "[(16, 3)]",
        "decoder_embed_dim": 16,
        "decoder_layers": "[(16, 3)]",
        "decoder_out_embed_dim": 16,
        "decoder_attention": "True",
        "self_attention": "False",
        "encoder_attention": "False",
        "encoder_attention_nheads": 1,
        "decoder_attention_nheads": 1,
        "multihead_attention_nheads": 1,
        "multihead_self_attention_nheads": 1,
        "encoder_attention_downsample": "False",
        "project_input": "False",
        "gated_attention": "False",
        "downsample": "False",
        "pretrained": "False",
        "max_source_positions": 64,
        "max_target_positions": 64,
    },
}


@pytest.fixture(scope="module")
def symbols():
    """Words, and for the pointer-generator a symbol for each position of an unknown word."""
    made = Dictionary()
    for i in range(20):
        made.add_symbol(f"w{i}")
    for i in range(MARKERS):
        made.add_symbol(f"<unk-{i}>")
    return made


def build_model(arch, symbols):
    torch.manual_seed(3)
    args = Namespace(criterion="cross_entropy", **ARCHITECTURES[arch])
    ARCH_CONFIG_REGISTRY[arch](args)
    task = SimpleNamespace(source_dictionary=symbols, target_dictionary=symbols)
    model = ARCH_MODEL_REGISTRY[arch].build_model(args, task).eval()
    if arch != "fconv_self_att":  # the others are nearly uniform
        for parameter in model.parameters():
            parameter.data *= 3 if parameter.dim() > 1 else 1
    return model


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_scores_are_those_of_the_search_and_of_a_forward_pass(symbols, sample, arch):
    model = build_model(arch, symbols)
    ensemble = EncoderKeepingEnsemble([model])
    found = run_search(ensemble, symbols, sample)
    scorer = HypothesisScorer(EnsembleEstimator([model]), PAD, EOS)
    outputs = [[hypo["tokens"] for hypo in hypos] for hypos in found]
    scored = scorer.score({}, outputs, ensemble.encoder_outs)
    for b, (hypos, values) in enumerate(zip(found, scored)):
        for hypo, value in zip(hypos, values):
            tokens = hypo["tokens"]
            expected = -hypo["positional_scores"]
            assert value["token"]["score"] == pytest.approx(expected.tolist(), rel=1e-3, abs=1e-3)
            previous = torch.cat([torch.tensor([EOS]), tokens[:-1]]).expand(5, -1)
            with torch.no_grad():
                # the whole batch, as padding has an effect on some architectures
                output = model(**sample["net_input"], prev_output_tokens=previous)
                log_probs = model.get_normalized_probs(output, log_probs=True)[b].double()
            entropy = [math.fsum(-math.exp(x) * x for x in row) for row in log_probs.tolist()]
            assert value["token"]["total"] == pytest.approx(entropy, rel=1e-3, abs=1e-4)
            score = -log_probs.gather(1, tokens.unsqueeze(1)).squeeze(1)
            assert value["token"]["score"] == pytest.approx(score.tolist(), rel=1e-3, abs=1e-3)
