"""fairseq's Python interface returns the measures with the hypotheses."""

import pytest
import torch
from fairseq import checkpoint_utils, hub_utils
from fairseq.models.transformer import TransformerModel
from inprocess import load

from fairseq_pdd.scoring import HypothesisScorer

SENTENCES = ["baba defi goku", "lala", "日本 größe nini poru"]


@pytest.fixture(scope="module")
def hub(workspace):
    def interface(path):
        models, cfg, task = checkpoint_utils.load_model_ensemble_and_task([str(path)])
        return hub_utils.GeneratorHubInterface(cfg, task, models)

    return interface


@pytest.mark.parametrize("arguments", [{}, {"sampling": True, "beam": 2}])
def test_every_hypothesis_has_its_measures(workspace, hub, capsys, arguments):
    student = hub(workspace.pd_send2)
    encoded = [student.encode(s) for s in SENTENCES]
    capsys.readouterr()
    outputs = student.generate(encoded, **{"beam": 4, **arguments})
    assert "U-" not in capsys.readouterr().out
    assert len(outputs) == len(SENTENCES)
    for source, hypotheses in zip(encoded, outputs):
        assert len(hypotheses) == arguments.get("beam", 4)
        scorer = HypothesisScorer([load(workspace.pd_send2)], 1, 2, dirichlet_offset=0.0)
        sample = {
            "net_input": {
                "src_tokens": source.unsqueeze(0),
                "src_lengths": torch.tensor([len(source)]),
            }
        }
        (expected,) = scorer.score(sample, [[h["tokens"] for h in hypotheses]])
        for hypothesis, values in zip(hypotheses, expected):
            assert hypothesis["uncertainty"]["sequence"] == pytest.approx(
                values["sequence"], rel=1e-4, abs=1e-5
            )
            assert len(hypothesis["uncertainty"]["token"]["rmi"]) == len(hypothesis["tokens"])


def test_from_pretrained(workspace):
    student = TransformerModel.from_pretrained(
        str(workspace.pd_send2.parent), "checkpoint_best.pt", str(workspace.data)
    )
    (hypotheses,) = student.generate([student.encode(SENTENCES[0])], beam=2)
    assert hypotheses[0]["uncertainty"]["sequence"]["rmi"] > 0
    assert isinstance(student.translate(SENTENCES[0]), str)


def test_a_student_of_send_has_total_and_score(workspace, hub):
    student = hub(workspace.send)
    (hypotheses,) = student.generate([student.encode(SENTENCES[0])], beam=2)
    sequence = hypotheses[1]["uncertainty"]["sequence"]
    assert {key for key, value in sequence.items() if value is not None} == {"total", "score"}


def test_an_ensemble(workspace):
    # plain translation checkpoints, so the task has to be named
    _, _, task = checkpoint_utils.load_model_ensemble_and_task([str(workspace.pd_send2)])
    models, cfg, _ = checkpoint_utils.load_model_ensemble_and_task(
        [str(workspace.transformer), str(workspace.lstm)], task=task
    )
    ensemble = hub_utils.GeneratorHubInterface(cfg, task, models)
    (hypotheses,) = ensemble.generate([ensemble.encode(SENTENCES[2])], beam=3)
    for hypothesis in hypotheses:
        assert hypothesis["uncertainty"]["sequence"]["mutual_information"] > 0
        assert hypothesis["uncertainty"]["log_prob"] == pytest.approx(
            hypothesis["positional_scores"].sum().item(), rel=1e-4
        )
