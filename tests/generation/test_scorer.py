"""Scores of given outputs, with untrained models."""

import math
from argparse import Namespace

import pytest
import torch
from fairseq.models.nat import CMLMNATransformerModel

from fairseq_pdd.core import dirichlet_measures, ensemble_measures, sequence_ensemble_measures
from fairseq_pdd.errors import UsageError
from fairseq_pdd.generation import EnsembleEstimator, HypothesisScorer
from fairseq_pdd.generation import scorer as module
from fairseq_pdd.records import FIELDS

from .build import EOS, PAD, build
from .build import make_scorer_of as scorer

ARCHITECTURES = ("transformer_iwslt_de_en", "lstm", "fconv")
ENSEMBLES = [*[(arch,) for arch in ARCHITECTURES], ARCHITECTURES]


def alone(model, sample, b, tokens):
    """Compute logits ``[L, K]`` of one output, with its source without padding."""
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
        token_log_probs = (
            log_probs.gather(-1, tokens.view(-1, 1, 1).expand(-1, 2, 1)).squeeze(-1).double()
        )
        log_mean = token_log_probs.exp().mean(1).log()
        assert value["log_prob"] == pytest.approx(log_mean.sum().item(), rel=1e-4)
        expected = (log_mean - token_log_probs.mean(1)).tolist()
        assert value["token"]["rmi_score"] == pytest.approx(expected, rel=1e-3, abs=1e-5)
        # ExPr: the weight of a member is its probability of the tokens before
        prefixes = token_log_probs.cumsum(0).roll(1, 0).index_fill(0, torch.tensor([0]), 0.0)
        weights = prefixes.softmax(1)
        members = log_probs.double().unbind(1)
        _, weighted = sequence_ensemble_measures(members, weights.t().log())
        for name, expected in weighted._asdict().items():
            column = value["expr"]["token"][name]
            assert column == pytest.approx(expected.tolist(), rel=1e-4, abs=1e-5), name
        log_mean = (weights * token_log_probs.exp()).sum(1).log()
        score = value["expr"]["token"]["score"]
        assert score == pytest.approx((-log_mean).tolist(), rel=1e-4, abs=1e-5)
        sequence = token_log_probs.sum(0).exp().mean().log().item()
        assert value["expr"]["log_prob"] == pytest.approx(sequence, rel=1e-4)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_single_model(models, sample, hypotheses, arch):
    for _, value, tokens in pairs(scorer(models, [arch]).score(sample, hypotheses), hypotheses):
        assert "expr" not in value
        for part, fields in (("sequence", FIELDS), ("token", FIELDS)):
            assert tuple(value[part]) == fields
            given = {k for k, v in value[part].items() if v is not None}
            assert given == {"total", "score"}
        assert len(value["token"]["total"]) == len(tokens)


@pytest.mark.parametrize("names", ENSEMBLES, ids="+".join)
@pytest.mark.parametrize("limit", [1, 23 * 8, 23 * 17])
def test_groups_of_bounded_size_change_nothing(
    models, sample, hypotheses, monkeypatch, names, limit
):
    whole = scorer(models, names).score(sample, hypotheses)
    monkeypatch.setattr(module, "_MAX_ELEMENTS", limit)
    groups, score_group = [], HypothesisScorer._score
    monkeypatch.setattr(
        HypothesisScorer,
        "_score",
        lambda self, group: groups.append(group) or score_group(self, group),
    )
    split = scorer(models, names).score(sample, hypotheses)
    assert len(groups) > 1
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


def test_no_outputs(models, sample):
    assert scorer(models, ["lstm"]).score(sample, [[]] * 5) == [[]] * 5


def test_sequences_are_means(models, sample, hypotheses):
    scored = scorer(models, ["lstm"], 0.0).score(sample, hypotheses)
    for _, value, tokens in pairs(scored, hypotheses):
        for name, column in value["token"].items():
            assert value["sequence"][name] == pytest.approx(math.fsum(column) / len(tokens))


def test_padding_inside_an_output_is_a_token(models, sample):
    """Sampling can draw the padding symbol."""
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


def test_random_generator_is_untouched(dictionary, sample, hypotheses):
    """Scoring draws random numbers with --retain-dropout; the next search must not depend on it."""
    model = build(dictionary, dropout=0.3)["transformer_iwslt_de_en"]
    options = Namespace(retain_dropout=True, retain_dropout_modules=None)
    model.prepare_for_inference_(Namespace(generation=options))
    of_model = scorer({"model": model}, ["model"])
    torch.manual_seed(5)
    first = of_model.score(sample, hypotheses)
    assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(5)))
    # dropout is at work
    second = of_model.score(sample, hypotheses)
    assert first[0][0]["log_prob"] != second[0][0]["log_prob"]


class Forbidding(EnsembleEstimator):
    """An ensemble whose first members make one token impossible."""

    def __init__(self, models, members):
        super().__init__(models)
        self.members = members

    def outputs(self, model, net_output):
        log_probs = super().outputs(model, net_output).clone()
        if self.models.index(model) < self.members:
            log_probs[:, 5] = -torch.inf
        return log_probs


def test_what_is_impossible_to_all_members_is_infinite_and_no_nan(models, sample):
    members = [models["lstm"], models["transformer_iwslt_de_en"]]
    tokens = torch.tensor([4, 5, 6, EOS])
    (value,), *_ = HypothesisScorer(Forbidding(members, 2), PAD, EOS).score(
        sample, [[tokens], [], [], [], []]
    )
    finite = [i for i in range(4) if i != 1]
    for values in (value, value["expr"]):
        assert values["log_prob"] == -math.inf
        assert values["token"]["score"][1] == math.inf
        assert values["token"]["rmi_score"][1] == 0
        assert values["sequence"]["score"] == math.inf
        for name in FIELDS:
            assert not any(math.isnan(x) for x in values["token"][name]), name
            assert all(math.isfinite(values["token"][name][i]) for i in finite), name
    # after it, the members have equal weights
    for name in FIELDS:
        assert value["expr"]["token"][name][2:] == pytest.approx(value["token"][name][2:], rel=1e-5)


def test_what_is_impossible_to_one_member(models, sample):
    members = [models["lstm"], models["transformer_iwslt_de_en"]]
    tokens = torch.tensor([4, 5, 6, EOS])
    (value,), *_ = HypothesisScorer(Forbidding(members, 1), PAD, EOS).score(
        sample, [[tokens], [], [], [], []]
    )
    second = alone(members[1], sample, 0, tokens).log_softmax(-1)
    second = second.gather(1, tokens.unsqueeze(1)).squeeze(1).double()
    # PrEx: half of what the other member gives; ExPr: the mean of 0 and its probability
    assert value["token"]["score"][1] == pytest.approx(-second[1].item() + math.log(2), rel=1e-4)
    log_prob = second.sum().item() - math.log(2)
    assert value["expr"]["log_prob"] == pytest.approx(log_prob, rel=1e-4)
    # from then on, ExPr is that member
    assert value["expr"]["token"]["score"][2:] == pytest.approx((-second[2:]).tolist(), rel=1e-4)
    for values in (value, value["expr"]):
        assert values["token"]["rmi_score"][1] == math.inf
        assert not any(math.isnan(x) for name in FIELDS for x in values["token"][name])


@pytest.mark.parametrize("level", [-1e4, -200.0, 1e4])
def test_hardly_any_evidence_and_much_of_it_give_no_nan(models, sample, monkeypatch, level):
    """EPKL exceeds float32 where a Dirichlet has hardly any evidence."""
    network = scorer(models, ["lstm"], 0.0)
    outputs = type(network._estimator).outputs
    monkeypatch.setattr(type(network._estimator), "outputs", lambda *args: outputs(*args) + level)
    (value,), *_ = network.score(sample, [[torch.tensor([4, 5, EOS])], [], [], [], []])
    assert (value["sequence"]["epkl"] == math.inf) == (level < 0)
    assert (value["sequence"]["rmi_score"] == math.inf) == (level < 0)
    assert not any(math.isnan(x) for name in FIELDS for x in value["token"][name])


@pytest.mark.parametrize("offset", [None, 0.0])
@pytest.mark.parametrize("number", [None, 103])
def test_a_value_that_is_not_a_number_names_the_sentence(models, sample, number, offset):
    model = models["lstm"]
    bias = model.decoder.fc_out.bias
    weight = bias.data[7].item()
    bias.data[7] = torch.nan
    sample = {"net_input": sample["net_input"]}
    if number is not None:
        sample["id"] = torch.arange(100, 105)
    hypotheses = [[], [], [], [torch.tensor([4, EOS])], []]
    name = "an output" if number is None else "an output of sentence 103"
    try:
        with pytest.raises(UsageError, match=f"{name} is not a number.*fp16"):
            scorer(models, ["lstm"], offset).score(sample, hypotheses)
    finally:
        bias.data[7] = weight


def test_only_encoder_decoders():
    with pytest.raises(UsageError, match="Linear is no encoder-decoder"):
        HypothesisScorer(EnsembleEstimator([torch.nn.Linear(2, 2)]), PAD, EOS)


def test_models_that_predict_all_tokens_at_once_are_refused(dictionary):
    model = object.__new__(CMLMNATransformerModel)
    with pytest.raises(UsageError, match="CMLMNATransformerModel is not autoregressive"):
        HypothesisScorer(EnsembleEstimator([model]), PAD, EOS)
