"""``fairseq-pdd plain-checkpoint`` for the speech tasks."""

import pytest
import torch
from fairseq import checkpoint_utils
from fairseq.tasks.speech_to_text import SpeechToTextTask

from fairseq_pdd.cli.plain_checkpoint import plain_checkpoint
from fairseq_pdd.speech.examples import import_speech_recognition

from ..plugin.inprocess import numbers, state
from ..plugin.test_plain_checkpoint import globals_of


@pytest.mark.parametrize("name", ["members", "pd_send2", "vgg_members", "vgg_pd_send2"])
def test_fairseqs_own_task_loads_a_speech_model(workspace, tmp_path, name):
    found = getattr(workspace, name)
    original = found[0] if isinstance(found, list) else found
    path = tmp_path / "plain.pt"
    plain_checkpoint(original, path, optimizer=False)
    assert "argparse.Namespace" not in globals_of(path)
    (model,), _, task = checkpoint_utils.load_model_ensemble_and_task([str(path)])
    example = import_speech_recognition().tasks.speech_recognition.SpeechRecognitionTask
    assert type(task) is (example if "vgg" in name else SpeechToTextTask)
    expected = numbers(state(original)["model"])
    assert all(torch.equal(model.state_dict()[key], value) for key, value in expected.items())
    assert state(path)["task_state"] == state(original)["task_state"]
