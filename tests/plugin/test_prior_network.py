"""The wrapper that makes a Prior Network of any encoder-decoder."""

from types import SimpleNamespace

import pytest
import torch
from fairseq import checkpoint_utils
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY

from fairseq_pdd.errors import UsageError
from fairseq_pdd.models import PriorNetwork
from fairseq_pdd.models.prior_network import mark_prior_network, prior_network_offset

from . import inprocess, naive
from .inprocess import batch, build, load, task_for


@pytest.fixture(scope="module")
def task(workspace):
    return task_for(workspace.data)


@pytest.fixture(scope="module")
def model(workspace):
    return load(workspace.pd_send2)


@pytest.mark.parametrize(("shifted", "offset"), [(False, 0.0), (True, 0.7)])
def test_measures(task, model, shifted, offset):
    sample = batch(task, "valid", range(3))
    with torch.no_grad():
        net_output = model(**sample["net_input"])
    network = PriorNetwork(model, 0.7, shifted)
    logits = network.logits(net_output)
    expected = logits.double().exp() + offset
    mean = expected / expected.sum(-1, keepdim=True)
    prediction = model.get_normalized_probs(net_output, log_probs=False)
    assert torch.allclose(mean.float(), prediction, atol=1e-6) == (not shifted)
    tokens = sample["target"]
    with_tokens = network.token_measures(logits, tokens)
    for b, t in ((0, 0), (2, 1)):
        truth = naive.dirichlet_measures(expected[b, t])
        for name, value in network.measures(logits)._asdict().items():
            assert value[b, t].item() == pytest.approx(truth[name], rel=1e-4, abs=1e-6)
            assert getattr(with_tokens.measures, name)[b, t] == value[b, t]
        log_mean = mean[b, t, tokens[b, t]].log().item()
        assert with_tokens.log_mean[b, t].item() == pytest.approx(log_mean, rel=1e-4, abs=1e-6)


def test_only_marked_models_are_prior_networks(workspace, model):
    network = PriorNetwork.from_checkpoint_model(model, shifted=True)
    assert (network.offset, network.measures_offset) == (1.0, 1.0)
    assert PriorNetwork.from_checkpoint_model(model).measures_offset == 0.0
    assert PriorNetwork.from_checkpoint_model(load(workspace.transformer)) is None


def test_has_no_parameters_and_does_not_change_the_model(model):
    keys, call = list(model.state_dict()), model.forward
    network = PriorNetwork(model, 1.0)
    assert list(model.state_dict()) == keys
    assert model.forward == call
    assert network.model is model


def test_marks_are_set_and_read(workspace, model):
    assert prior_network_offset(model) == 1.0
    ordinary = load(workspace.transformer)
    assert prior_network_offset(ordinary) is None
    mark_prior_network(ordinary, 0.25)
    assert prior_network_offset(ordinary) == 0.25
    assert "prior_network" not in str(list(ordinary.state_dict()))


def test_marks_are_those_of_each_checkpoint(workspace, task):
    models, _, _ = checkpoint_utils.load_model_ensemble_and_task(
        [str(workspace.pd_send2), str(workspace.transformer), str(workspace.send)], task=task
    )
    assert [prior_network_offset(m) for m in models] == [1.0, None, None]


ADAPTIVE = ("--arch", "transformer_iwslt_de_en", "--adaptive-softmax-cutoff", "10,30")


def test_adaptive_softmax_is_refused(workspace, task):
    with pytest.raises(UsageError, match="--adaptive-softmax-cutoff"):
        build(
            workspace.data, "--task", "distill_translation", "--criterion", "pd_send2",
            "--teacher-paths", workspace.teachers, *ADAPTIVE,
        )  # fmt: skip
    args = SimpleNamespace(adaptive_softmax_cutoff="10,30", criterion="adaptive_loss")
    ARCH_CONFIG_REGISTRY["lstm"](args)
    args.adaptive_softmax_cutoff = "10,30"
    member = ARCH_MODEL_REGISTRY["lstm"].build_model(args, task)
    with pytest.raises(UsageError, match="adaptive softmax"):
        PriorNetwork(member, 1.0)


def test_ordinary_ensembles_may_have_an_adaptive_softmax(workspace, tmp_path):
    inprocess.train(
        workspace.data, tmp_path, "--task", "translation", "--criterion", "adaptive_loss",
        "--ddp-backend", "legacy_ddp", *ADAPTIVE,
    )  # fmt: skip
    path = tmp_path / "checkpoint_last.pt"
    output = inprocess.generate(workspace.data, f"{path}:{workspace.lstm}", "--max-len-b", 9)
    assert sum(line.startswith("U-") for line in output) == 43
