"""The ensemble of a search that keeps the encoders' outputs."""

import pytest
import torch
from fairseq import search
from fairseq.sequence_generator import SequenceGenerator

from fairseq_pdd.generation import EncoderKeepingEnsemble

from .build import make_scorer_of

SEARCHES = {
    "beam": {},
    "sampling": {"search_strategy": search.Sampling},
    "diverse": {"search_strategy": lambda d: search.DiverseBeamSearch(d, 2, 0.5)},
    "one": {"beam_size": 1},
    "tempered": {"temperature": 1.5},
}
KINDS = {
    "Prior Network": (["transformer_iwslt_de_en"], 0.0),
    "single": (["fconv"], None),
    "mixed": (["lstm", "fconv", "transformer_iwslt_de_en"], None),
}


def flat(rows):
    return [each for row in rows for each in row]


def run_search(ensemble, symbols, sample, search_strategy=None, **options):
    """Return the hypotheses of each sentence."""
    torch.manual_seed(3)
    settings = {"beam_size": 4, "max_len_b": 9, **options}
    strategy = search_strategy and search_strategy(symbols)
    generator = SequenceGenerator(ensemble, symbols, search_strategy=strategy, **settings)
    return generator.forward(sample)


@pytest.mark.parametrize("strategy", SEARCHES)
@pytest.mark.parametrize("kind", KINDS)
def test_search_is_fairseqs_and_its_encoder_outputs_give_the_same_scores(
    ending_models, dictionary, sample, kind, strategy
):
    names, offset = KINDS[kind]
    members = [ending_models[name] for name in names]
    ensemble = EncoderKeepingEnsemble(members)
    ours = run_search(ensemble, dictionary, sample, **SEARCHES[strategy])
    expected = run_search(members, dictionary, sample, **SEARCHES[strategy])
    for mine, theirs in zip(flat(ours), flat(expected)):
        for name in ("tokens", "positional_scores"):
            assert torch.equal(mine[name], theirs[name]), name
    assert len(flat(ours)) == len(flat(expected)) > 0
    assert len(ensemble.encoder_outs) == len(members)

    scorer = make_scorer_of(ending_models, names, offset)
    hypotheses = [[hypo["tokens"] for hypo in hypos] for hypos in ours]
    # the source is not needed any more
    kept = scorer.score({}, hypotheses, ensemble.encoder_outs)
    again = scorer.score(sample, hypotheses)
    for values, others in zip(flat(kept), flat(again)):
        assert values["log_prob"] == others["log_prob"]
        assert values["token"]["total"].tolist() == others["token"]["total"].tolist()
    if strategy == "beam":
        for values, hypo in zip(flat(kept), flat(ours)):
            total = hypo["positional_scores"].sum().item()
            assert values["log_prob"] == pytest.approx(total, rel=1e-3, abs=1e-4)


def test_no_encoder_outputs_before_the_first_batch(models):
    ensemble = EncoderKeepingEnsemble([models["lstm"]])
    assert ensemble.encoder_outs is None
    assert ensemble[0] is models["lstm"]
