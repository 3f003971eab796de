"""Memory of a teacher, place of its weights, and refusal before loading."""

import gc
import logging
import weakref
from types import SimpleNamespace

import measuring
import pytest
import torch
from fairseq import checkpoint_utils, models
from fairseq.data import Dictionary
from fairseq.models.transformer import TransformerConfig, TransformerModelBase
from tqdm import tqdm

from fairseq_pdd.errors import UsageError
from fairseq_pdd.teacher import EnsembleTeacher, memory
from fairseq_pdd.teacher import ensemble as ensemble_module

from . import inprocess
from .inprocess import batch, build, load, state

TYPES, TOKENS = 5000, 400


def transformer():
    """An untrained Transformer beside whose vocabulary everything else is small."""
    dictionary = Dictionary()
    for number in range(TYPES - len(dictionary)):
        dictionary.add_symbol(f"w{number}")
    cfg = TransformerConfig()
    cfg.share_all_embeddings = True
    for side in (cfg.encoder, cfg.decoder):
        side.embed_dim, side.ffn_embed_dim, side.layers, side.attention_heads = 8, 8, 1, 1
    cfg.decoder.input_dim = cfg.decoder.output_dim = 8
    task = SimpleNamespace(source_dictionary=dictionary, target_dictionary=dictionary)
    return TransformerModelBase.build_model(cfg, task)


def large_batch():
    """Twenty sentences of as many tokens, a fifth of it padding."""
    tokens = torch.randint(4, TYPES, (25, 20))
    tokens[:, 16:] = 1
    lengths = torch.full((25,), 16)
    net_input = {"src_tokens": tokens, "src_lengths": lengths, "prev_output_tokens": tokens}
    return {"net_input": net_input, "target": tokens}, tokens.ne(1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("offload", [False, True])
def test_memory_beyond_the_weights_is_as_documented_for_any_number_of_members(dtype, offload):
    sample, mask = large_batch()
    assert int(mask.sum()) == TOKENS
    members = [transformer() for _ in range(10)]
    peaks = []
    for number in (2, 5, 10):
        teacher = EnsembleTeacher(members[:number], dtype, offload)
        peaks.append(measuring.peak_bytes(lambda t=teacher: t.statistics(sample, mask)))
    documented = memory.statistics_bytes(TOKENS, TYPES)
    assert peaks[0] == peaks[1] == peaks[2]
    assert 0.6 * documented < peaks[0] <= documented


class Watch:
    """Record, at each call of a module, how many tensors of each member are moved."""

    def __init__(self, members):
        self.members = members
        self.home = [[p.data_ptr() for p in m.parameters()] for m in members]
        self.away = []
        for member in members:
            for module in member.modules():
                module.register_forward_pre_hook(self)

    def __call__(self, *_):
        now = [
            sum(p.data_ptr() != home for p, home in zip(m.parameters(), homes))
            for m, homes in zip(self.members, self.home)
        ]
        if not self.away or self.away[-1] != now:
            self.away.append(now)


def test_offloaded_members_are_moved_one_at_a_time(workspace, monkeypatch):
    sample = batch(inprocess.task_for(workspace.data), "valid", range(10))
    mask = sample["target"].ne(1)
    paths = (workspace.transformer, workspace.lstm)
    expected = EnsembleTeacher([load(p) for p in paths], torch.float32).statistics(sample, mask)

    members = [load(path) for path in paths]
    teacher = EnsembleTeacher(members, torch.float32, offload=True)
    before = [{name: v.clone() for name, v in m.state_dict().items()} for m in members]
    watch = Watch(members)
    # the other device is this one again, elsewhere in memory
    monkeypatch.setattr(ensemble_module, "_copy", lambda tensor, device: tensor.clone())
    for _ in range(2):
        statistics = teacher.statistics(sample, mask)
        torch.testing.assert_close(statistics.mean_probs, expected.mean_probs)
    sizes = [len(list(m.parameters())) for m in members]
    assert watch.away == 2 * [[sizes[0], 0], [0, sizes[1]]]
    watch()
    assert watch.away[-1] == [0, 0]
    for member, saved in zip(members, before):
        assert all(torch.equal(v, saved[name]) for name, v in member.state_dict().items())


def test_offloaded_members_are_restored_after_a_failure(workspace, monkeypatch):
    sample = batch(inprocess.task_for(workspace.data), "valid", range(4))
    members = [load(workspace.transformer)]
    teacher = EnsembleTeacher(members, torch.float32, offload=True)
    watch = Watch(members)
    monkeypatch.setattr(ensemble_module, "_copy", lambda tensor, device: tensor.clone())
    with pytest.raises(IndexError):
        teacher.statistics(sample, torch.ones(1, 1, dtype=torch.bool))
    watch()
    assert watch.away[-1] == [0]


def test_members_move_to_the_device_of_the_batch_unless_offloaded(workspace, monkeypatch):
    asked = []

    def to(self, *args, **kwargs):
        asked.append(args[0])
        return self

    for offload in (False, True):
        teacher = EnsembleTeacher([load(workspace.lstm)], torch.float32, offload)
        with monkeypatch.context() as patch:
            patch.setattr(torch.nn.Module, "to", to)
            with teacher._on_device(teacher.members[0], torch.device("cpu")):
                assert asked == []
            if not offload:
                with teacher._on_device(teacher.members[0], torch.device("meta")):
                    assert asked == [torch.device("meta")]
                asked.clear()


def test_a_teacher_in_host_memory_trains_the_same_student(workspace, tmp_path):
    students = []
    for device in ("student", "cpu"):
        logs = inprocess.train(
            workspace.data, tmp_path / device, "--task", "distill_translation",
            "--criterion", "pd_send2", "--teacher-paths", workspace.teachers,
            "--teacher-device", device,
        )  # fmt: skip
        students.append(logs.valid[-1]["valid_loss"])
    assert students[0] == students[1]


# sizes


def size(number):
    return tqdm.format_sizeof(number, "B")


def saved_numbers(member):
    """Count the numbers that a checkpoint holds: weights, and buffers such as a version."""
    weights = sum(p.numel() for p in member.parameters())
    parameters = {name for name, _ in member.named_parameters(remove_duplicate=False)}
    return weights + sum(v.numel() for k, v in member.state_dict().items() if k not in parameters)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_size_of_weights_is_that_after_casting(workspace, dtype):
    for path in (workspace.transformer, workspace.lstm):
        member = load(path).to(dtype)
        weights = memory.weights_of(state(path)["model"], dtype)
        assert weights.parameters == saved_numbers(member)
        assert weights.bytes == weights.parameters * dtype.itemsize


def test_tied_weights_count_once_even_where_saved_as_copies():
    model = transformer()
    for parameter in model.parameters():  # in some versions of fairseq, several of one size are 0
        torch.nn.init.normal_(parameter)
    copies = {name: v.clone() for name, v in model.state_dict().items()}
    assert sum(v.shape == (TYPES, 8) for v in copies.values()) == 3
    weights = memory.weights_of(copies, torch.float32)
    assert weights.parameters == saved_numbers(model)
    copies["decoder.embed_tokens.weight"][-1, -1] += 1
    assert memory.weights_of(copies, torch.float32).parameters == weights.parameters + TYPES * 8


def test_optimizer_state_is_let_go_before_a_model_is_built(workspace, monkeypatch):
    alive = []

    def read(path, load=checkpoint_utils.load_checkpoint_to_cpu):
        saved = load(path)
        if "last_optimizer_state" in saved:  # not a part that versions of fairseq convert
            moments = saved["last_optimizer_state"]["state"][0]
            alive.append(weakref.ref(moments["exp_avg"]))
        return saved

    def build_model(*args, build=models.build_model, **kwargs):
        gc.collect()
        assert [tensor() for tensor in alive] == [None] * len(alive)
        return build(*args, **kwargs)

    monkeypatch.setattr(checkpoint_utils, "load_checkpoint_to_cpu", read)
    monkeypatch.setattr(models, "build_model", build_model)
    task = inprocess.task_for(workspace.data)
    EnsembleTeacher.load(
        workspace.teachers.split(":"), task, torch.float32, torch.device("cpu"), max_tokens=100
    )
    assert len(alive) == 2


def test_checkpoints_of_old_pytorch_are_measured_too(workspace, tmp_path):
    path = tmp_path / "old.pt"
    torch.save(state(workspace.lstm), path, _use_new_zipfile_serialization=False)
    teacher = EnsembleTeacher.load(
        [str(path)], inprocess.task_for(workspace.data), torch.float32, torch.device("cpu")
    )
    assert len(teacher) == 1


# log and refusal


def distil(workspace, *args):
    return build(
        workspace.data, "--task", "distill_translation", "--criterion", "pd_send2",
        "--teacher-paths", workspace.teachers, *args,
    )  # fmt: skip


def test_the_log_gives_the_memory_of_the_teacher(workspace, caplog):
    caplog.set_level(logging.INFO, logger=memory.__name__)
    task, _, _ = distil(workspace, "--max-tokens", 500, "--teacher-dtype", "bfloat16")
    (line,) = [r.getMessage() for r in caplog.records if r.name == memory.__name__]
    parameters = sum(map(saved_numbers, task.teacher.members))
    assert f"2 members, {parameters:,} parameters, {size(2 * parameters)} of bfloat16" in line
    assert "on cpu" in line
    assert f"statistics of a batch {size(5 * 4 * 500 * 56)}" in line


def refused(workspace, monkeypatch, available, *args):
    monkeypatch.setattr(memory, "available_bytes", available)
    monkeypatch.setattr(
        ensemble_module, "load_members", lambda *_: pytest.fail("members were loaded")
    )
    with pytest.raises(UsageError) as caught:
        distil(workspace, *args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_teacher_that_cannot_fit_is_refused_before_loading(workspace, monkeypatch):
    message = refused(workspace, monkeypatch, lambda device: 100_000, "--max-tokens", 600)
    for part in (
        "does not fit", "on cpu", "100kB are free", "--teacher-dtype bfloat16", "--max-tokens",
        "--teacher-cache",
    ):  # fmt: skip
        assert part in message
    assert "--teacher-device cpu" not in message


@pytest.mark.parametrize("offload", [False, True])
@pytest.mark.parametrize("full", ["cuda", "cpu"])
def test_memory_of_device_and_host(monkeypatch, offload, full):
    """Two members of 4 GB and 1 GB of statistics, 6 GB free on one of them."""
    device = torch.device("cuda", 0)
    free = {"cuda": 100e9, "cpu": 100e9, full: 6e9}
    monkeypatch.setattr(memory, "available_bytes", lambda d: free[d.type])
    weights = [memory.Weights(10**9, 4 * 10**9)] * 2
    arguments = (weights, 10**9, torch.float32, device, offload)
    if (offload, full) in ((False, "cpu"), (True, "cuda")):
        memory.require_memory(*arguments)
        return
    with pytest.raises(UsageError) as caught:
        memory.require_memory(*arguments)
    message = str(caught.value)
    needed = "8.00GB of memory on cpu" if offload else "9.00GB of memory on cuda:0"
    assert f"{needed}, where 6.00GB are free" in message
    assert "--teacher-dtype bfloat16" in message
    assert ("--teacher-device cpu" in message) == (not offload)


def test_free_memory_of_the_host():
    with open("/proc/meminfo") as file:
        total = int(file.readline().split()[1]) * 1024
    assert 0 < memory.available_bytes(torch.device("cpu")) < total
    assert memory.available_bytes(torch.device("meta")) is None
