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
def test_dirichlet(task, model, shifted, offset):
    sample = batch(task, "valid", range(3))
    with torch.no_grad():
        net_output = model(**sample["net_input"])
    result = PriorNetwork(model, 0.7, shifted).dirichlet(net_output)
    expected = net_output[0].double().exp() + offset
    torch.testing.assert_close(result.concentrations.double(), expected, rtol=1e-5, atol=1e-6)
    mean = result.concentrations / result.concentrations.sum(-1, keepdim=True)
    prediction = model.get_normalized_probs(net_output, log_probs=False)
    assert torch.allclose(mean, prediction, atol=1e-6) == (not shifted)
    for b, t in ((0, 0), (2, 1)):
        truth = naive.dirichlet_measures(expected[b, t])
        for name, value in result.measures._asdict().items():
            assert value[b, t].item() == pytest.approx(truth[name], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(("shifted", "offset"), [(False, 0.0), (True, 0.7)])
def test_score(workspace, task, model, shifted, offset):
    sample = batch(task, "valid", range(3))
    references = [row[row.ne(naive.PAD)] for row in sample["target"]]
    hypotheses = [[references[0]], [references[1], references[2]], []]
    scored = PriorNetwork(model, 0.7, shifted).score(sample, hypotheses, naive.PAD, naive.EOS)
    assert [len(s) for s in scored] == [1, 2, 0]
    source = sample["net_input"]["src_tokens"][1]
    logits = naive.decode(load(workspace.pd_send2), source[source.ne(naive.PAD)], references[2])
    lists, means = naive.columns(naive.student_scores(logits, references[2], offset))
    for name, value in means.items():
        assert scored[1][1]["sequence"][name] == pytest.approx(value, rel=1e-4, abs=1e-5)
        assert scored[1][1]["token"][name] == pytest.approx(lists[name], rel=1e-4, abs=1e-5)


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
