"""Tiny untrained models of several architectures over one dictionary, and their scorers."""

from argparse import Namespace
from types import SimpleNamespace

import torch
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY

from fairseq_pdd.generation import EnsembleEstimator, HypothesisScorer, PriorNetworkEstimator
from fairseq_pdd.models import PriorNetwork

PAD, EOS = 1, 2
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


def build(dictionary, **options):
    """Build models by architecture, in evaluation mode."""
    task = SimpleNamespace(source_dictionary=dictionary, target_dictionary=dictionary)
    made = {}
    for seed, (arch, sizes) in enumerate(SIZES.items()):
        torch.manual_seed(seed)
        args = Namespace(criterion="cross_entropy", **sizes, **options)
        ARCH_CONFIG_REGISTRY[arch](args)
        model = ARCH_MODEL_REGISTRY[arch].build_model(args, task).eval()
        for parameter in model.parameters():
            # untrained models are nearly uniform
            parameter.data *= 3 if parameter.dim() > 1 else 1
        made[arch] = model
    return made


def make_scorer_of(models, names, offset=None):
    """Make the scorer of models by name; a Prior Network's if there is an offset (0: Dir(e))."""
    members = [models[name] for name in names]
    if offset is None:
        estimator = EnsembleEstimator(members)
    else:
        network = PriorNetwork(members[0], offset or 1.0, shifted=offset > 0)
        estimator = PriorNetworkEstimator(network)
    return HypothesisScorer(estimator, PAD, EOS)
