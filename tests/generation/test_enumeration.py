"""Measures of whole sequences, exact by enumeration, against the estimates along outputs.

By the chain rule, token-level measures that are summed over the steps and averaged over outputs by
their probability are the measures of the distribution over sequences.
"""

import itertools
import math

import pytest
import torch

from .build import make_scorer_of
from .toy import EOS, WORDS, ToyModel, sequences

MEASURES = ("total", "data", "mutual_information", "epkl", "rmi")
SEQUENCES = sequences()
CLOSE = {"rel": 1e-5, "abs": 1e-6}


@pytest.fixture(scope="module", params=[(2, 0.5), (3, 2.0), (5, 6.0)], ids=str)
def ensemble(request):
    members, spread = request.param
    return [ToyModel(seed, spread) for seed in range(1, members + 1)]


def scores(models, offset=None, sequences_=SEQUENCES):
    """Score every sequence."""
    source = torch.tensor([[4, EOS]])
    sample = {"net_input": {"src_tokens": source, "src_lengths": torch.tensor([2])}}
    outputs = [torch.tensor(tokens) for tokens in sequences_]
    scorer = make_scorer_of(dict(enumerate(models)), range(len(models)), offset)
    return scorer.score(sample, [outputs])[0]


def expectation(probabilities, scored, name):
    """Return the expectation of a measure's sum over an output's tokens."""
    sums = [sum(values["token"][name]) for values in scored]
    return math.fsum(p * s for p, s in zip(probabilities.tolist(), sums))


def probabilities_of(ensemble):
    """Return the members' probabilities of all sequences, ``[M, sequences]``."""
    return torch.stack([torch.stack([m.probability(y) for y in SEQUENCES]) for m in ensemble])


def entropy(p):
    return -torch.xlogy(p, p).sum().item()


def kl(p, q):
    return (torch.xlogy(p, p) - torch.xlogy(p, q)).sum().item()


def test_everything_is_enumerated(ensemble):
    assert len(SEQUENCES) == 1 + 3 + 9 + 27
    assert probabilities_of(ensemble).sum(1).tolist() == pytest.approx([1.0] * len(ensemble))


def test_expr_is_exact(ensemble):
    members = probabilities_of(ensemble)
    mean = members.mean(0)
    scored = [values["expr"] for values in scores(ensemble)]
    log_probs = [values["log_prob"] for values in scored]
    assert log_probs == pytest.approx(mean.log().tolist(), rel=1e-5)

    data = sum(map(entropy, members)) / len(members)
    epkl = sum(kl(p, q) for p in members for q in members) / len(members) ** 2
    rmi = sum(kl(mean, q) for q in members) / len(members)
    exact = {
        "total": entropy(mean),
        "data": data,
        "mutual_information": sum(kl(p, mean) for p in members) / len(members),
        "epkl": epkl,
        "rmi": rmi,
    }
    assert exact["total"] == pytest.approx(data + exact["mutual_information"])
    for name, value in exact.items():
        assert expectation(mean, scored, name) == pytest.approx(value, **CLOSE), name
    # the joint estimates, from an output's probability alone
    assert expectation(mean, scored, "score") == pytest.approx(exact["total"], **CLOSE)
    assert expectation(mean, scored, "rmi_score") == pytest.approx(rmi, **CLOSE)
    # Jensen's inequality holds of each output, not of each token
    assert min(values["sequence"]["rmi_score"] for values in scored) > -1e-6


def test_prex_is_exact_in_total_and_rmi(ensemble):
    """PrEx is a distribution over sequences, but no mixture of the members' distributions."""
    predictive = torch.stack(
        [
            torch.stack(
                [row[token] for row, token in zip(sum(m.conditionals(y) for m in ensemble), y)]
            ).prod()
            / len(ensemble) ** len(y)
            for y in SEQUENCES
        ]
    )
    assert predictive.sum().item() == pytest.approx(1)
    scored = scores(ensemble)
    log_probs = [values["log_prob"] for values in scored]
    assert log_probs == pytest.approx(predictive.log().tolist(), rel=1e-5)
    rmi = sum(kl(predictive, q) for q in probabilities_of(ensemble)) / len(ensemble)
    for total in ("total", "score"):
        assert expectation(predictive, scored, total) == pytest.approx(entropy(predictive), **CLOSE)
    for knowledge in ("rmi", "rmi_score"):
        assert expectation(predictive, scored, knowledge) == pytest.approx(rmi, **CLOSE)


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_chain_rule_and_joint_estimates_of_a_prior_network_agree(offset):
    """Two symbols of any kind: a Dirichlet leaves some mass to every class."""
    model, classes = ToyModel(1, 1.0), range(4 + WORDS)
    logits = {prefix: torch.randn(len(classes)) for prefix in [(), *((k,) for k in classes)]}
    model.decoder.logits = logits
    pairs = list(itertools.product(classes, repeat=2))
    scored = scores([model], offset, pairs)
    predictive = {
        prefix: (row.exp() + offset) / (row.exp() + offset).sum() for prefix, row in logits.items()
    }
    probabilities = torch.stack([predictive[()][a] * predictive[(a,)][b] for a, b in pairs])
    for total in ("total", "score"):
        assert expectation(probabilities, scored, total) == pytest.approx(
            entropy(probabilities), **CLOSE
        )
    joint = expectation(probabilities, scored, "rmi_score")
    assert joint == pytest.approx(expectation(probabilities, scored, "rmi"), **CLOSE)


def test_identities(ensemble):
    scored = scores(ensemble)
    for values in (*scored, *(v["expr"] for v in scored), *scores(ensemble[:1], 0.0)):
        rows = [dict(zip(values["token"], row)) for row in zip(*values["token"].values())]
        for row in (values["sequence"], *rows):
            assert all(row[name] >= 0 for name in MEASURES)
            information = row["mutual_information"]
            assert row["total"] == pytest.approx(row["data"] + information, rel=1e-6)
            assert row["epkl"] == pytest.approx(row["rmi"] + information, rel=1e-6)


def test_two_members_worked_by_hand():
    """The members give the word 0.8 and 0.4, and then the end 0.5 and 0.25."""
    members = [ToyModel(seed, 1.0) for seed in (1, 2)]
    for model, word, end in zip(members, (0.8, 0.4), (0.5, 0.25)):
        for prefix, token, p in (((), 4, word), ((4,), EOS, end)):
            row = model.decoder.logits[prefix]
            row[row.isfinite()] = -torch.inf
            row[token], row[5] = math.log(p), math.log(1 - p)
    values = scores(members)[SEQUENCES.index((4, EOS))]
    assert math.exp(values["log_prob"]) == pytest.approx(0.6 * 0.375)
    # after the word the first member weighs 2/3, the second one 1/3
    expr = values["expr"]
    assert math.exp(expr["log_prob"]) == pytest.approx((0.8 * 0.5 + 0.4 * 0.25) / 2)
    assert math.exp(-expr["token"]["score"][1]) == pytest.approx(2 / 3 * 0.5 + 1 / 3 * 0.25)
    assert [column[0] for column in expr["token"].values()] == pytest.approx(
        [column[0] for column in values["token"].values()]
    )
    half, quarter = 0.6931471806, 0.5623351446
    assert values["token"]["data"][1] == pytest.approx(half / 2 + quarter / 2)
    assert expr["token"]["data"][1] == pytest.approx(2 / 3 * half + 1 / 3 * quarter)
    p = 5 / 12
    assert expr["token"]["total"][1] == pytest.approx(-p * math.log(p) - (1 - p) * math.log(1 - p))
    rmi = [p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)) for q in (0.5, 0.25)]
    assert expr["token"]["rmi"][1] == pytest.approx(sum(rmi) / 2, rel=1e-5)
    joint = math.log(p) - (math.log(0.5) + math.log(0.25)) / 2
    assert expr["token"]["rmi_score"][1] == pytest.approx(joint)
