"""Teacher forcing in groups of bounded size."""

import pytest
import torch

from fairseq_pdd.generation.teacher_forcing import decode_teacher_forced

from .build import EOS, PAD, SIZES


@pytest.mark.parametrize("arch", SIZES)
def test_groups_stay_within_their_bound(models, sample, arch):
    model = models[arch]
    lengths = [1, 1, 2, 5, 5, 5, 9, 30, 2, 7]
    outputs = [(i % 5, torch.full((length,), EOS)) for i, length in enumerate(lengths)]
    encoder_outs = [model.encoder.forward_torchscript(sample["net_input"])]
    for limit in (1, 12, 10_000):
        done = []
        for each in decode_teacher_forced([model], encoder_outs, outputs, PAD, EOS, limit):
            sizes = [lengths[i] for i in each.indices]
            assert each.lengths == sizes
            assert len(sizes) == 1 or len(sizes) * max(sizes) <= limit
            ((logits, *_),) = each.net_outputs
            assert logits.shape == (1, sum(sizes), len(model.decoder.dictionary))
            assert each.tokens.tolist() == [EOS] * sum(sizes)
            done += each.indices
        assert sorted(done) == list(range(10))
    assert list(decode_teacher_forced([model], encoder_outs, [], PAD, EOS, 1)) == []
