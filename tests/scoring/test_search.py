"""Values taken from a search, against those of the same outputs decoded once more."""

import copy
import math

import pytest
import torch
from fairseq import search
from fairseq.sequence_generator import SequenceGenerator
from .toy import ToyModel
from .toy import dictionary as toy_dictionary

from fairseq_pdd.core import dirichlet_measures
from fairseq_pdd.scoring import HypothesisScorer, LastLayer
from fairseq_pdd.scoring import hypotheses as hypotheses_module
from fairseq_pdd.scoring import search as following
from fairseq_pdd.tasks._generator import RecordedEnsemble

PAD, EOS = 1, 2
BEAM = 4
SEARCHES = {
    "beam": {},
    "short": {"max_len_b": 2},
    "long": {"min_len": 6, "no_repeat_ngram_size": 2, "unk_penalty": 1.0},
    "sampling": {"search_strategy": search.Sampling},
    "diverse": {"search_strategy": lambda d: search.DiverseBeamSearch(d, 2, 0.5)},
    "one": {"beam_size": 1},
    "tempered": {"temperature": 1.5},
}
KINDS = {
    "Prior Network": (["transformer_iwslt_de_en"], 0.0),
    "shifted": (["lstm"], 1.0),
    "single": (["fconv"], None),
    "single with cache": (["transformer_iwslt_de_en"], None),
    "ensemble": (["transformer_iwslt_de_en", "lstm"], None),
    "mixed": (["lstm", "fconv", "transformer_iwslt_de_en"], None),
}


@pytest.fixture(params=[False, True], ids=["afterwards", "at once"])
def at_once(request, monkeypatch):
    """When what is returned is read, whatever costs less."""
    features = 0 if request.param else math.inf
    monkeypatch.setattr(following, "_AT_ONCE_FROM_FEATURES", features)
    return request.param


def run_search(ensemble, symbols, sample, search_strategy=None, **options):
    """Hypotheses of each sentence."""
    torch.manual_seed(3)
    settings = {"beam_size": BEAM, "max_len_b": 9, **options}
    strategy = search_strategy and search_strategy(symbols)
    generator = SequenceGenerator(ensemble, symbols, search_strategy=strategy, **settings)
    return generator.forward(sample)


def follow(members, offset, symbols, sample, share=1.0, **options):
    """Search, and its outputs, scorer and record."""
    scorer, ensemble = HypothesisScorer(members, PAD, EOS, offset), RecordedEnsemble(members)
    ensemble.record = scorer.search_record(share)
    found = run_search(ensemble, symbols, sample, **options)
    encoder_outs, record = ensemble.take()
    assert len(encoder_outs) == len(members)
    return scorer, [[hypo["tokens"] for hypo in hypos] for hypos in found], record


def columns(values):
    """Values of the tokens by reading and name."""
    readings = {"": values, "expr": values["expr"]} if "expr" in values else {"": values}
    return {
        (reading, name): column
        for reading, of_reading in readings.items()
        for name, column in of_reading["token"].items()
    }


def assert_same(scored, expected):
    assert list(map(len, scored)) == list(map(len, expected))
    flat = zip(*([values for row in rows for values in row] for rows in (scored, expected)))
    for ours, theirs in flat:
        assert ours["log_prob"] == pytest.approx(theirs["log_prob"], rel=2e-3, abs=1e-4)
        mine, others = columns(ours), columns(theirs)
        assert mine.keys() == others.keys()
        for name, column in mine.items():
            if column is None:
                assert others[name] is None, name
            else:
                assert column == pytest.approx(others[name], rel=2e-3, abs=1e-4), name


@pytest.mark.parametrize("strategy", SEARCHES)
@pytest.mark.parametrize("kind", KINDS)
def test_values_are_those_of_decoding_once_more(
    talkers, dictionary, sample, kind, strategy, at_once
):
    names, offset = KINDS[kind]
    scorer, outputs, record = follow(
        [talkers[name] for name in names], offset, dictionary, sample, **SEARCHES[strategy]
    )
    # sentences leave the search as they end
    rows = [len(step.sources) for step in record._rows]
    assert rows[-1] < rows[0] or strategy == "short" or kind in ("single", "shifted")
    # the search of a single ordinary model writes to its log-probabilities
    unchanged = strategy != "tempered" and not kind.startswith("single")
    assert (record._at_once is not None) == (at_once and unchanged)
    # without an input nothing can be decoded
    assert_same(scorer.score({}, outputs, None, record), scorer.score(sample, outputs))


@pytest.mark.parametrize("elements", [1, 100, 1 << 22])
@pytest.mark.parametrize("kind", ["Prior Network", "mixed"])
def test_size_of_a_pass_changes_nothing(
    talkers, dictionary, sample, monkeypatch, kind, at_once, elements
):
    monkeypatch.setitem(hypotheses_module._MAX_ELEMENTS, "cpu", elements)
    names, offset = KINDS[kind]
    scorer, outputs, record = follow([talkers[name] for name in names], offset, dictionary, sample)
    assert_same(scorer.score({}, outputs, None, record), scorer.score(sample, outputs))


def test_of_two_rows_with_the_same_prefix_one_ends(talkers, dictionary, at_once):
    """As sampling may do: what was read of the other one is read of both."""
    scorer = HypothesisScorer([talkers["transformer_iwslt_de_en"]], PAD, EOS, 0.0)
    record, layer = scorer.search_record(1.0), torch.nn.Linear(6, len(dictionary))
    tokens, features = torch.full((2, 1), EOS), torch.randn(3, 6)
    # two rows begin with token 4; the first one ends, and the other one goes on by 5 and by 6
    steps = [([0, 0], [], [0, 0]), ([0, 0], [4, 4], [1, 1]), ([1, 1], [5, 6], [2, 2])]
    for parents, last, number in steps:
        record.reorder(torch.tensor(parents))
        if last:
            tokens = torch.cat((tokens[parents], torch.tensor(last).unsqueeze(1)), dim=1)
        record.begin_step(tokens)
        record.end_step([LastLayer(layer, features[number], layer(features[number]))])
    assert (record._at_once is not None) == at_once
    ((values,),) = scorer.score({}, [[torch.tensor([4, 5, EOS])]], None, record)
    for name, expected in dirichlet_measures(layer(features))._asdict().items():
        assert values["token"][name] == pytest.approx(expected.tolist(), rel=1e-5), name


@pytest.mark.parametrize(("share", "expected"), [(1.0, True), (0.8, True), (0.6, False)])
def test_read_ahead_where_last_layers_are_large(
    talkers, dictionary, sample, monkeypatch, share, expected
):
    """For the share of the beam that is scored."""
    members = [talkers["transformer_iwslt_de_en"]] * 3
    features = sum(model.decoder.output_projection.in_features for model in members)
    monkeypatch.setattr(following, "_AT_ONCE_FROM_FEATURES", 0.7 * features)
    _, _, record = follow(members, None, dictionary, sample, share=share)
    assert (record._at_once is not None) == expected


def test_exact_on_a_model_of_known_probabilities(at_once):
    members = [ToyModel(seed, 2.0) for seed in (1, 2, 3)]
    source = torch.tensor([[4, EOS], [5, EOS]])
    sample = {"net_input": {"src_tokens": source, "src_lengths": torch.tensor([2, 2])}}
    scorer, outputs, record = follow(members, None, toy_dictionary(), sample, beam_size=6)
    assert {len(tokens) for tokens in outputs[1]} >= {2, 3}
    for values, tokens in zip(scorer.score({}, outputs, None, record)[1], outputs[1]):
        said = tuple(tokens.tolist())
        probabilities = torch.stack([model.probability(said) for model in members])
        assert values["expr"]["log_prob"] == pytest.approx(probabilities.mean().log().item())


def test_what_the_search_did_not_come_by_is_decoded(
    models, dictionary, sample, hypotheses, at_once
):
    names = ["transformer_iwslt_de_en", "lstm"]
    scorer, outputs, record = follow([models[n] for n in names], None, dictionary, sample)
    mixed = [found[:1] + given for found, given in zip(outputs, hypotheses)]
    # no end, and an end too early
    mixed[0].append(outputs[0][0][:-1])
    mixed[1].append(torch.tensor([EOS]))
    flat = [(b, tokens) for b, row in enumerate(mixed) for tokens in row]
    found = [i for each in record.passes(flat) for i in each.outputs]
    assert len(outputs) <= len(found) < len(flat)
    assert_same(scorer.score(sample, mixed, None, record), scorer.score(sample, mixed))
    assert list(record.passes([(0, torch.tensor([EOS, EOS]))])) == []


@pytest.mark.parametrize("limit", [1, 12, 10_000])
def test_each_prefix_is_read_once_a_pass(talkers, dictionary, sample, monkeypatch, limit):
    monkeypatch.setitem(hypotheses_module._MAX_ELEMENTS, "cpu", limit * len(dictionary))
    _, outputs, record = follow([talkers["transformer_iwslt_de_en"]], 0.0, dictionary, sample)
    flat = [(b, tokens) for b, row in enumerate(outputs) for tokens in row]
    done = []
    for each in record.passes(flat):
        said = [(flat[i][0], tuple(flat[i][1].tolist())) for i in each.outputs]
        prefixes = [(b, tokens[:end]) for b, tokens in said for end in range(len(tokens))]
        assert len(said) == 1 or len(set(prefixes)) <= limit
        ((logits,),) = each.net_outputs
        assert logits.shape == (1, len(set(prefixes)), len(dictionary))
        assert len(set(zip(each.rows.tolist(), prefixes))) == len(set(prefixes))
        done += each.outputs
    assert done == list(range(len(flat)))


@pytest.mark.parametrize(
    "last",
    [lambda x: x * 2, lambda x: x.mul_(2), lambda x: x.mul_(2) + 1],
    ids=["new", "in place", "both"],
)
def test_a_last_step_that_is_no_layer(models, dictionary, sample, last, at_once):
    """Such models are asked once more."""
    model = copy.deepcopy(models["lstm"])
    told = model.decoder.forward
    model.decoder.forward = lambda *args, **kwargs: (last(told(*args, **kwargs)[0]), None)
    members = [models["transformer_iwslt_de_en"], model]
    scorer, outputs, record = follow(members, None, dictionary, sample)
    assert list(record.passes([(0, outputs[0][0])])) == []
    assert_same(scorer.score(sample, outputs, None, record), scorer.score(sample, outputs))


def test_another_layer_of_as_many_outputs(models, dictionary, sample):
    """Of other features, asked before the one that makes the logits."""
    model = copy.deepcopy(models["lstm"])
    told, classes = model.decoder.forward, len(dictionary)
    model.decoder.other = torch.nn.Linear(3, classes)

    def forward(tokens, *args, **kwargs):
        model.decoder.other(torch.zeros(len(tokens), 1, 3))
        return told(tokens, *args, **kwargs)

    model.decoder.forward = forward
    scorer, outputs, record = follow([model], 0.0, dictionary, sample)
    assert_same(scorer.score({}, outputs, None, record), scorer.score(sample, outputs))


def test_models_are_left_as_they_were(models, dictionary, sample):
    model = models["lstm"]
    follow([model], None, dictionary, sample)
    assert not any(module._forward_hooks for module in model.modules())


def test_no_search_was_followed(models, sample, hypotheses):
    scorer = HypothesisScorer([models["lstm"]], PAD, EOS, 0.0)
    record = scorer.search_record(1.0)
    assert_same(scorer.score(sample, hypotheses, None, record), scorer.score(sample, hypotheses))


@pytest.mark.parametrize("strategy", SEARCHES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_followed", [True, False])
def test_search_is_fairseqs_to_the_last_bit(
    talkers, dictionary, sample, kind, strategy, is_followed, at_once
):
    names, offset = KINDS[kind]
    members = [talkers[name] for name in names]
    ensemble = RecordedEnsemble(members)
    if is_followed:
        ensemble.record = HypothesisScorer(members, PAD, EOS, offset).search_record(1.0)
    ours, expected = (
        [
            hypo
            for hypos in run_search(each, dictionary, sample, **SEARCHES[strategy])
            for hypo in hypos
        ]
        for each in (ensemble, members)
    )
    assert len(ours) == len(expected) > 0
    for mine, theirs in zip(ours, expected):
        for name in ("tokens", "positional_scores", "attention"):
            assert (mine[name] is None) == (theirs[name] is None), name
            assert mine[name] is None or torch.equal(mine[name], theirs[name]), name
