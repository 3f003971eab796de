"""Scores of given outputs, with untrained models."""

import math

import pytest
import torch

from fairseq_pdd.core import dirichlet_measures, ensemble_measures, sequence_ensemble_measures
from fairseq_pdd.errors import UsageError
from fairseq_pdd.scoring import (
    SEQUENCE_FIELDS,
    TOKEN_FIELDS,
    HypothesisScorer,
)
from fairseq_pdd.scoring import (
    hypotheses as module,
)
from fairseq_pdd.scoring.forced import TeacherForcing

ARCHITECTURES = ("transformer_iwslt_de_en", "lstm", "fconv")
ENSEMBLES = [*[(arch,) for arch in ARCHITECTURES], ARCHITECTURES]
PAD, EOS = 1, 2


def scorer(models, names, offset=None):
    return HypothesisScorer([models[name] for name in names], PAD, EOS, offset)


def alone(model, sample, b, tokens):
    """Logits ``[L, K]`` of one output, its source without padding."""
    source = sample["net_input"]["src_tokens"][b]
    source = source[source.ne(PAD)].unsqueeze(0)
    previous = torch.cat([torch.tensor([EOS]), tokens[:-1]]).unsqueeze(0)
    with torch.no_grad():
        return model(source, torch.tensor([source.size(1)]), previous)[0][0]


def pairs(scored, hypotheses):
    for b, (values, outputs) in enumerate(zip(scored, hypotheses)):
        assert len(values) == len(outputs)
        for value, tokens in zip(values, outputs):
            yield b, value, tokens


@pytest.mark.parametrize("offset", [0.0, 1.0, 0.2])
@pytest.mark.parametrize("arch", ["transformer_iwslt_de_en", "lstm"])
def test_prior_network(models, sample, hypotheses, arch, offset):
    scored = scorer(models, [arch], offset).score(sample, hypotheses)
    for b, value, tokens in pairs(scored, hypotheses):
        logits = alone(models[arch], sample, b, tokens)
        for name, expected in dirichlet_measures(logits, offset)._asdict().items():
            assert value["token"][name] == pytest.approx(expected.tolist(), rel=1e-4, abs=1e-5)
        a = logits.double().exp() + offset
        a_y = a.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
        score = -(a_y / a.sum(-1)).log()
        rmi = -score - (torch.digamma(a_y) - torch.digamma(a.sum(-1)))
        assert value["token"]["score"] == pytest.approx(score.tolist(), rel=1e-4, abs=1e-5)
        assert value["token"]["rmi_score"] == pytest.approx(rmi.tolist(), rel=1e-4, abs=1e-5)
        assert value["log_prob"] == pytest.approx(-score.sum().item(), rel=1e-4, abs=1e-5)


def test_ensemble_of_mixed_architectures(models, sample, hypotheses):
    names = ("lstm", "transformer_iwslt_de_en")
    scored = scorer(models, names).score(sample, hypotheses)
    for b, value, tokens in pairs(scored, hypotheses):
        log_probs = torch.stack(
            [alone(models[n], sample, b, tokens).log_softmax(-1) for n in names], dim=1
        )
        for name, expected in ensemble_measures(log_probs)._asdict().items():
            assert value["token"][name] == pytest.approx(expected.tolist(), rel=1e-4, abs=1e-5)
        chosen = log_probs.gather(-1, tokens.view(-1, 1, 1).expand(-1, 2, 1)).squeeze(-1).double()
        log_mean = chosen.exp().mean(1).log()
        assert value["log_prob"] == pytest.approx(log_mean.sum().item(), rel=1e-4)
        expected = (log_mean - chosen.mean(1)).tolist()
        assert value["token"]["rmi_score"] == pytest.approx(expected, rel=1e-3, abs=1e-5)
        # ExPr: what a member said so far is its weight
        prefixes = chosen.cumsum(0).roll(1, 0).index_fill(0, torch.tensor([0]), 0.0)
        weights = prefixes.softmax(1)
        members = log_probs.double().unbind(1)
        _, weighted = sequence_ensemble_measures(members, weights.t().log())
        for name, expected in weighted._asdict().items():
            column = value["expr"]["token"][name]
            assert column == pytest.approx(expected.tolist(), rel=1e-4, abs=1e-5), name
        log_mean = (weights * chosen.exp()).sum(1).log()
        score = value["expr"]["token"]["score"]
        assert score == pytest.approx((-log_mean).tolist(), rel=1e-4, abs=1e-5)
        sequence = chosen.sum(0).exp().mean().log().item()
        assert value["expr"]["log_prob"] == pytest.approx(sequence, rel=1e-4)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_single_model(models, sample, hypotheses, arch):
    for _, value, tokens in pairs(scorer(models, [arch]).score(sample, hypotheses), hypotheses):
        assert "expr" not in value
        for part, fields in (("sequence", SEQUENCE_FIELDS), ("token", TOKEN_FIELDS)):
            assert tuple(value[part]) == fields
            given = {k for k, v in value[part].items() if v is not None}
            assert given == {"total", "score"}
        assert len(value["token"]["total"]) == len(tokens)


@pytest.mark.parametrize("names", ENSEMBLES, ids="+".join)
@pytest.mark.parametrize("limit", [1, 23 * 8, 23 * 17])
def test_passes_of_bounded_size_change_nothing(
    models, sample, hypotheses, monkeypatch, names, limit
):
    whole = scorer(models, names).score(sample, hypotheses)
    monkeypatch.setitem(module._MAX_ELEMENTS, "cpu", limit)
    passes = []
    read = HypothesisScorer._read
    monkeypatch.setattr(
        HypothesisScorer,
        "_read",
        lambda self, *args: passes.append(args) or read(self, *args),
    )
    split = scorer(models, names).score(sample, hypotheses)
    assert len(passes) > 1
    for (_, value, _), (_, other, _) in zip(pairs(whole, hypotheses), pairs(split, hypotheses)):
        for name, column in value["token"].items():
            if column is not None:
                assert other["token"][name] == pytest.approx(column, rel=1e-4, abs=1e-5)
        for name, column in value.get("expr", {"token": {}})["token"].items():
            assert other["expr"]["token"][name] == pytest.approx(column, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("names", ENSEMBLES, ids="+".join)
def test_outputs_do_not_disturb_one_another(models, sample, hypotheses, names):
    together = scorer(models, names).score(sample, hypotheses)
    for b, value, tokens in pairs(together, hypotheses):
        only = [[tokens] if i == b else [] for i in range(5)]
        (expected,) = scorer(models, names).score(sample, only)[b]
        assert value["token"]["total"] == pytest.approx(expected["token"]["total"], rel=1e-4)
        assert value["log_prob"] == pytest.approx(expected["log_prob"], rel=1e-4)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_passes_stay_within_their_bound(models, sample, arch):
    model = models[arch]
    lengths = [1, 1, 2, 5, 5, 5, 9, 30, 2, 7]
    outputs = [(i % 5, torch.full((length,), EOS)) for i, length in enumerate(lengths)]
    chosen = [9, 0, 2, 3, 4, 5, 6, 7, 8]
    encoder_outs = [model.encoder.forward_torchscript(sample["net_input"])]
    forced = TeacherForcing([model], encoder_outs, PAD, EOS)
    for limit in (1, 12, 10_000):
        done = []
        for each in forced.passes(outputs, chosen, limit):
            sizes = [lengths[i] for i in each.outputs]
            assert len(sizes) == 1 or len(sizes) * max(sizes) <= limit
            ((logits, *_),) = each.net_outputs
            assert logits.shape == (1, sum(sizes), len(model.decoder.dictionary))
            assert each.rows.tolist() == list(range(sum(sizes)))
            done += each.outputs
        assert sorted(done) == sorted(chosen)
    assert list(forced.passes(outputs, [], 1)) == []


def test_no_outputs(models, sample):
    assert scorer(models, ["lstm"]).score(sample, [[]] * 5) == [[]] * 5


def test_sequences_are_means(models, sample, hypotheses):
    scored = scorer(models, ["lstm"], 0.0).score(sample, hypotheses)
    for _, value, tokens in pairs(scored, hypotheses):
        for name, column in value["token"].items():
            assert value["sequence"][name] == pytest.approx(math.fsum(column) / len(tokens))


def test_padding_inside_an_output_is_a_token(models, sample):
    """Sampling can draw it."""
    tokens = torch.tensor([5, PAD, 6, EOS])
    (value,) = scorer(models, ["transformer_iwslt_de_en"], 0.0).score(
        sample, [[tokens], [], [], [], []]
    )[0]
    assert all(len(column) == 4 for column in value["token"].values())


def test_evaluation_mode_and_no_graph(models, sample, hypotheses):
    model = models["transformer_iwslt_de_en"]
    first = scorer(models, ["transformer_iwslt_de_en"]).score(sample, hypotheses)
    model.train()
    try:
        second = scorer(models, ["transformer_iwslt_de_en"]).score(sample, hypotheses)
    finally:
        model.eval()
    # with dropout it would be another value altogether
    values = ([v["token"]["total"].tolist() for row in s for v in row] for s in (first, second))
    assert next(values) == next(values)


def test_only_encoder_decoders():
    with pytest.raises(UsageError, match="Linear is no encoder-decoder"):
        HypothesisScorer([torch.nn.Linear(2, 2)], PAD, EOS)
