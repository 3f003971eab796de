"""The teacher: frozen, apart from student and checkpoint, exact for mixed architectures."""

import shutil
from types import SimpleNamespace

import pytest
import torch
from fairseq import tasks
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY
from fairseq.modules import MultiheadAttention

from fairseq_pdd.checkpoints.fit import languages_of
from fairseq_pdd.core import EnsembleStatistics, ensemble_measures
from fairseq_pdd.errors import UsageError
from fairseq_pdd.teacher import EnsembleTeacher, load_members

from . import commands, inprocess
from .inprocess import batch, build, load, numbers, state, task_for
from .pointer_generator import POINTER_GENERATOR, import_pointer_generator


@pytest.fixture(scope="module")
def training(workspace):
    return build(
        workspace.data, "--task", "distill_translation", "--criterion", "pd_send2",
        "--teacher-paths", workspace.teachers,
    )  # fmt: skip


@pytest.fixture
def sample(training):
    return batch(training[0], "valid", range(10))


def test_members_are_those_of_the_command_line_in_order(training, workspace):
    members = training[0].teacher.members
    assert [type(m).__name__ for m in members] == ["TransformerModel", "LSTMModel"]
    for member, path in zip(members, (workspace.transformer, workspace.lstm)):
        saved = load(path).state_dict()
        assert all(torch.equal(v, saved[k]) for k, v in numbers(member.state_dict()).items())


def test_members_are_frozen(training, sample):
    _, model, criterion = training
    teacher = training[0].teacher
    assert not any(m.training for m in teacher.members)
    assert not any(p.requires_grad for m in teacher.members for p in m.parameters())
    criterion.train()
    model.train()
    assert not any(m.training for m in teacher.members)
    statistics = teacher.statistics(sample, sample["target"].ne(1))
    assert not statistics.mean_probs.requires_grad
    # dropout is off: a second pass gives the same
    again = teacher.statistics(sample, sample["target"].ne(1))
    assert torch.equal(statistics.mean_probs, again.mean_probs)


def test_student_and_criterion_do_not_hold_the_teacher(training):
    task, model, criterion = training
    theirs = {id(p) for m in task.teacher.members for p in m.parameters()}
    assert not list(criterion.parameters())
    assert not criterion.state_dict()
    assert not theirs & {id(p) for p in model.parameters()}
    assert set(task.state_dict()) == {"prior_network", "dictionaries", "languages"}


def test_only_the_student_learns(training, sample):
    task, model, criterion = training
    before = [p.clone() for m in task.teacher.members for p in m.parameters()]
    model.train()
    task.train_step(sample, model, criterion, SimpleNamespace(backward=lambda x: x.backward()), 0)
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())
    members = [p for m in task.teacher.members for p in m.parameters()]
    assert all(p.grad is None and torch.equal(p, b) for p, b in zip(members, before))


def test_statistics_equal_those_of_all_members_at_once(training, sample):
    teacher, mask = training[0].teacher, sample["target"].ne(1)
    with torch.no_grad():
        log_probs = torch.stack(
            [m(**sample["net_input"])[0].log_softmax(-1) for m in teacher.members], dim=2
        )  # [B, T, M, K]
    statistics = teacher.statistics(sample, mask)
    close = {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(statistics.mean_probs, log_probs.exp().mean(2)[mask], **close)
    torch.testing.assert_close(statistics.mean_log_probs, log_probs.mean(2)[mask], **close)
    for name, value in ensemble_measures(log_probs)._asdict().items():
        torch.testing.assert_close(
            getattr(statistics.measures(), name), value[mask], rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize(
    ("args", "dtype"),
    [
        ([], torch.float32),
        (["--fp16"], torch.float16),
        (["--teacher-dtype", "bfloat16"], torch.bfloat16),
        (["--fp16", "--teacher-dtype", "float32"], torch.float32),
    ],
)
def test_dtype(workspace, args, dtype):
    task, _, _ = build(
        workspace.data, "--task", "distill_translation", "--criterion", "send",
        "--teacher-paths", workspace.teachers, *args,
    )  # fmt: skip
    teacher, sample = task.teacher, batch(task, "valid", range(4))
    assert {p.dtype for m in teacher.members for p in m.parameters()} == {dtype}
    exact = EnsembleTeacher([load(workspace.transformer), load(workspace.lstm)], torch.float32)
    mask = sample["target"].ne(1)
    statistics, expected = teacher.statistics(sample, mask), exact.statistics(sample, mask)
    assert statistics.mean_probs.dtype == torch.float32
    error = (statistics.mean_probs - expected.mean_probs).abs().max()
    assert error < 0.05
    assert (error == 0) == (dtype == torch.float32)


def test_autocast_of_the_student_leaves_the_teacher_alone(training, sample):
    teacher, mask = training[0].teacher, sample["target"].ne(1)
    plain = teacher.statistics(sample, mask)
    with torch.autocast("cpu", torch.bfloat16):
        inside = teacher.statistics(sample, mask)
    assert torch.equal(plain.mean_probs, inside.mean_probs)


def test_an_adaptive_softmax_gives_whole_distributions(workspace):
    task = task_for(workspace.data)
    args = SimpleNamespace(
        decoder_embed_dim=16, decoder_hidden_size=16, decoder_out_embed_dim=16,
        encoder_embed_dim=16, encoder_hidden_size=16, adaptive_softmax_cutoff="10,30",
        criterion="adaptive_loss", share_decoder_input_output_embed=False,
        share_all_embeddings=False,
    )  # fmt: skip
    ARCH_CONFIG_REGISTRY["lstm"](args)
    args.adaptive_softmax_cutoff = "10,30"
    member = ARCH_MODEL_REGISTRY["lstm"].build_model(args, task).eval()
    assert member.decoder.adaptive_softmax is not None
    sample = batch(task, "valid", range(10))
    sample["target"][sample["target"] > 10] = 5  # a cluster without a target in the batch
    mask = sample["target"].ne(1)
    statistics = EnsembleTeacher([member], torch.float32).statistics(sample, mask)
    torch.testing.assert_close(
        statistics.mean_probs.sum(-1), torch.ones(int(mask.sum())), rtol=1e-5, atol=1e-5
    )


def test_load_members_serves_python_callers(workspace):
    members = load_members([str(workspace.lstm)], task_for(workspace.data))
    assert isinstance(members[0], ARCH_MODEL_REGISTRY["lstm"])


def test_the_online_teacher_accepts_any_data_set(training):
    training[0].teacher.check("any name", [])


def test_one_member_is_a_teacher_without_diversity(workspace, sample):
    teacher = EnsembleTeacher([load(workspace.lstm)], torch.float32)
    statistics: EnsembleStatistics = teacher.statistics(sample, sample["target"].ne(1))
    assert len(teacher) == 1
    assert statistics.inverse_precision.max() < 1e-7


def test_encoders_run_once_a_batch_without_gradient_or_attention_weights(workspace):
    """Training and validation compute the teacher's statistics in the same way."""
    task, model, criterion = build(
        workspace.data, "--task", "distill_translation", "--criterion", "pd_send2",
        "--teacher-paths", f"{workspace.transformer}:{workspace.lstm}:{workspace.transformer}",
    )  # fmt: skip
    sample = batch(task, "valid", range(10))
    encoders, attention = [], []
    for number, member in enumerate(task.teacher.members):
        member.encoder.register_forward_hook(
            lambda module, *_, number=number: encoders.append(
                (number, module.training, torch.is_grad_enabled())
            )
        )
        for module in member.modules():
            if isinstance(module, MultiheadAttention):
                module.register_forward_hook(lambda *args: attention.append(args[-1][1]))
    expected = [(number, False, False) for number in range(3)]

    task.train_step(sample, model, criterion, SimpleNamespace(backward=lambda x: x.backward()), 0)
    assert encoders == expected
    encoders.clear()
    task.valid_step(sample, model, criterion)
    assert encoders == expected
    # encoder, decoder and what joins them; of two Transformers; in two steps
    assert attention == [None] * 3 * 2 * 2


ONE, SAME = "is the only member", "holds the same weights as"


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        (["transformer"], {ONE}),
        (["lstm", "copy"], {SAME, "uncertainty will be 0"}),
        (["lstm", "transformer", "copy"], {SAME}),
        (["lstm", "transformer"], set()),
    ],
)
def test_members_without_diversity_are_reported(workspace, tmp_path, caplog, members, expected):
    copy = shutil.copy(workspace.lstm, tmp_path / "another-name.pt")
    paths = [str(copy if name == "copy" else getattr(workspace, name)) for name in members]
    device = torch.device("cpu")
    with caplog.at_level("WARNING"):
        EnsembleTeacher.load(paths, task_for(workspace.data), torch.float32, device)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == len(expected)
    assert all(any(part in message for message in messages) for part in expected)
    if SAME in expected:
        assert any(message.startswith(f"{copy} holds") for message in messages)


# positions of members

LIMITS = ("--max-source-positions", 9, "--max-target-positions", 9)


def member_of_nine_positions(workspace, folder, *args):
    """Train a member whose longest sentence has nine tokens, which all sentences fit into."""
    inprocess.train(workspace.data, folder, "--task", "translation", *LIMITS, *args, updates=1)
    return folder / "checkpoint_last.pt"


def build_with(workspace, member, *args):
    return build(
        workspace.data, "--task", "distill_translation", "--criterion", "send",
        "--teacher-paths", f"{workspace.lstm}:{member}", *args,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("option", "side"), [("--encoder-learned-pos", "source"), ("--decoder-learned-pos", "target")]
)
def test_a_member_with_fewer_positions_than_the_student_is_refused(
    workspace, tmp_path, option, side
):
    member = member_of_nine_positions(workspace, tmp_path, option)
    with pytest.raises(UsageError, match=f"{member} has 9 {side} positions") as caught:
        build_with(workspace, member)
    assert f"--max-{side}-positions 9" in str(caught.value)
    build_with(workspace, member, *LIMITS)


def test_a_member_that_computes_its_positions_has_no_limit(workspace, tmp_path):
    member = member_of_nine_positions(workspace, tmp_path)
    task, _, _ = build_with(workspace, member)
    sample = batch(task, "valid", [0])
    target = torch.full((1, 40), 5)
    sample["target"] = sample["net_input"]["prev_output_tokens"] = target
    sample["net_input"]["src_tokens"], sample["net_input"]["src_lengths"] = (
        target,
        torch.tensor([40]),
    )
    assert len(task.teacher.statistics(sample, target.ne(1)).inverse_precision) == 40


# languages


def test_languages_are_those_of_the_teachers(workspace, tmp_path):
    saved = state(workspace.lstm)
    saved["cfg"]["task"].update(source_lang="yy", target_lang="xx")
    member = tmp_path / "member.pt"
    # with dictionaries of the reverse direction
    del saved["task_state"]
    torch.save(saved, member)
    cfg = inprocess.training_config(
        workspace.data, "unused", "--task", "distill_translation", "--teacher-paths", member
    )
    task = tasks.setup_task(cfg.task)
    assert (task.cfg.source_lang, task.cfg.target_lang) == ("yy", "xx")
    # the student's checkpoints hold this configuration
    assert (cfg.task.source_lang, cfg.task.target_lang) == ("yy", "xx")
    assert languages_of(str(member)) == ("yy", "xx")
    assert languages_of(str(workspace.lstm)) == ("xx", "yy")
    assert languages_of(str(workspace.pd_send2)) == ("xx", "yy")


# a member whose output is probabilities


@pytest.fixture(scope="module")
def pointing(workspace, tmp_path_factory):
    """Make data with a joined dictionary, which a pointer-generator needs, and a member."""
    root = tmp_path_factory.mktemp("pointer-generator")
    import_pointer_generator()
    commands.preprocess(workspace.text, root / "bin", "--joined-dictionary")
    task = ("--task", "translation", "--criterion", "cross_entropy")
    inprocess.train(root / "bin", root / "member", *task, *POINTER_GENERATOR)
    return root / "bin", root / "member" / "checkpoint_last.pt"


def build_from(pointing, *args):
    data, member = pointing
    return build(data, "--task", "distill_translation", "--teacher-paths", member, *args)


def test_a_pointer_generator_can_be_a_member(pointing):
    task, _, _ = build_from(pointing, "--criterion", "send")
    sample = batch(task, "valid", range(10))
    mask = sample["target"].ne(1)
    with torch.no_grad():
        probs = load(pointing[1])(**sample["net_input"])[0][mask]
    torch.testing.assert_close(probs.sum(-1), torch.ones(len(probs)))
    statistics = task.teacher.statistics(sample, mask)
    torch.testing.assert_close(statistics.mean_probs, probs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("criterion", ["pd_send2", "send"])
def test_a_pointer_generator_can_not_be_a_student(pointing, criterion):
    with pytest.raises(UsageError, match="PointerGeneratorModel does not return logits"):
        build_from(pointing, *POINTER_GENERATOR, "--criterion", criterion)
