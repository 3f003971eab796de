"""The counts of scale.py equal formulas, and sizes of what is really written or allocated."""

import itertools
import sys

import measuring
import numpy as np
import pytest
import scale
import torch
import workload
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fairseq_pdd.core import reverse_kl_proxy_dirichlet
from fairseq_pdd.teacher import EnsembleTeacher

TYPES, LENGTH, BEAM, MEMBERS = 5000, 9, 3, 5
TINY = ["--arch", "transformer_tiny", "--types", str(TYPES), "--tokens-per-pair", str(LENGTH)]
DIM, INNER, LAYERS = 64, 64, 2


@pytest.fixture(scope="module")
def built():
    return scale.build(scale.parse_args(TINY))


@pytest.fixture(scope="module")
def counted(built):
    return scale.count(*built, LENGTH, BEAM, MEMBERS)


def cells(text, row):
    """Find the cells of a row in Markdown tables by the start of its first cell."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {row}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def transformer(dim, inner, layers, types):
    """Count the parameters of a Transformer with one matrix of embeddings."""
    attention, norm = 4 * (dim * dim + dim), 2 * dim
    feed_forward = 2 * dim * inner + dim + inner
    encoder, decoder = attention + 2 * norm, 2 * attention + 3 * norm
    return types * dim + layers * (encoder + decoder + 2 * feed_forward)


def test_parameters(counted):
    assert counted.parameters == transformer(DIM, INNER, LAYERS, TYPES)
    with torch.device("meta"):
        model, _ = scale.build(scale.parse_args([]))
    of_the_recipe = sum(parameter.numel() for parameter in model.parameters())
    assert of_the_recipe == transformer(1024, 4096, 6, 40_000)


def test_operations(counted):
    # multiplications of each token with matrices, and of each pair of positions
    matrices = LAYERS * (12 * DIM * DIM + 4 * DIM * INNER) + TYPES * DIM
    pairs = 3 * LAYERS * LENGTH * 2 * DIM
    assert counted.forward == 2 * (matrices + pairs)
    assert counted.training == 3 * counted.forward


def test_operations_of_a_search(counted):
    encoder = LENGTH * LAYERS * (4 * DIM * DIM + 2 * DIM * INNER + LENGTH * 2 * DIM)
    # keys and values of the encoder's outputs once, all else in each step
    once = LENGTH * LAYERS * 2 * DIM * DIM
    step = LAYERS * (6 * DIM * DIM + 2 * DIM * INNER + LENGTH * 2 * DIM) + TYPES * DIM
    past = LAYERS * 2 * DIM * sum(range(1, LENGTH + 1))
    hypothesis = once + LENGTH * step + past
    assert counted.search * LENGTH == 2 * (encoder + BEAM * hypothesis)


def sample(dictionary, sentences):
    tokens = torch.randint(4, len(dictionary), (sentences, LENGTH))
    tokens[:, -1] = dictionary.eos()
    net_input = {"src_tokens": tokens, "src_lengths": torch.full((sentences,), LENGTH)}
    return net_input, tokens


def test_an_ensemble_costs_as_much_as_its_members(built, counted):
    model, dictionary = built
    net_input, tokens = sample(dictionary, 5)
    batch = {"net_input": {**net_input, "prev_output_tokens": tokens}, "target": tokens}
    teacher = EnsembleTeacher([model] * MEMBERS, torch.bfloat16)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as operations:
        teacher.statistics(batch, torch.ones_like(tokens, dtype=torch.bool))
    assert operations.get_total_flops() == MEMBERS * counted.forward * tokens.numel()


def test_memory_of_a_search():
    # larger than the model from which the ensemble's memory is extrapolated
    model, dictionary = scale.build(
        scale.parse_args(["--arch", "transformer_iwslt_de_en", "--types", "1000"])
    )
    counted = scale.search_bytes(model, dictionary, 3, BEAM, members=4)
    peak = measuring.peak_bytes(lambda: scale.search(model, dictionary, 3, BEAM, members=4))
    assert counted == pytest.approx(peak, rel=0.1)


def test_memory_for_the_backward_pass(counted):
    model, dictionary = scale.build(scale.parse_args(TINY))

    def peak(sentences):
        net_input, tokens = sample(dictionary, sentences)
        targets = torch.rand(*tokens.shape, TYPES).softmax(-1), torch.rand(tokens.shape)

        def forward():
            logits = model(**net_input, prev_output_tokens=tokens)[0]
            return logits, reverse_kl_proxy_dirichlet(logits, *targets, compiled=False)

        return measuring.peak_bytes(forward)

    # the loss needs some memory besides, however many tokens there are
    assert counted.kept * 40 * LENGTH == pytest.approx(peak(60) - peak(20), rel=0.05)


def test_bytes_of_training_and_of_a_checkpoint(tmp_path):
    # 16 bits for weights and gradients; 32 for weights, gradients and Adam's two moments
    assert scale.optimiser_bytes() == (2 + 2 + 4 + 4 + 4 + 4, 4 + 4)

    work = scale._sample(tmp_path / "bin", 20, LENGTH)
    work.size = workload.Size(dim=64, layers=1)
    trainer = work.trainer(*workload.plain(), "--fp16", "--fp16-no-flatten-grads")
    trainer.train_step(list(itertools.islice(workload.batches(trainer), 1)))
    trainer.consolidate_optimizer()
    trainer.save_checkpoint(str(tmp_path / "one.pt"), {})
    saved = sum(tensor.numel() for tensor in trainer.model.state_dict().values())
    parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
    assert saved > parameters
    found = (tmp_path / "one.pt").stat().st_size
    assert 4 * saved + 8 * parameters == pytest.approx(found, rel=0.03)


def test_cache_and_data_have_the_reported_size(counted, tmp_path):
    work = scale._sample(tmp_path / "bin", 300, LENGTH)
    settings = scale.member_and_settings(work, tmp_path, topk=7)[1]
    scale.build_cache(settings)

    cache = sum(np.load(path).nbytes for path in tmp_path.glob("cache/train/*.npy"))
    data = sum(path.stat().st_size for path in tmp_path.glob("bin/*.bin"))
    # as many sentences as make the reported GB exact to a thousandth
    args = scale.parse_args([*TINY, "--topk", "7", "--pairs", "3e9"])
    text = scale.report(args, counted)
    for row, found in (
        ("teacher cache", cache),
        ("data, both sides", data),
    ):
        reported = next(line for line in text.split("### Disk")[1].splitlines() if row in line)
        assert float(reported.split("|")[2].replace(",", "")) == pytest.approx(found / 100, abs=0.1)


def test_times_follow_from_the_assumptions(counted):
    assumed = ["--tflops", "0.0001", "--network", "0.001", "--nodes", "4"]
    text = scale.report(scale.parse_args([*TINY, *assumed]), counted)
    # 193,000 updates of 8 x 4,096 tokens; ten members on four nodes of eight GPUs are three rounds
    hours = 193_000 * 8 * 4096 * counted.training / 1e8 / 3600
    _, operations, one, every = cells(text, "10 members")
    assert operations == f"{10 * hours * 3600 * 1e8 / 1e18:.3g}·10¹⁸"
    assert in_hours(one) == pytest.approx(10 * hours, rel=0.01)
    assert in_hours(every) == pytest.approx(3 * hours / 8, rel=0.01)
    # a transfer set is divided among all
    hours = 4_500_000 * LENGTH * 10 * counted.search / 1e8 / 3600
    assert in_hours(cells(text, "transfer set ")[3]) == pytest.approx(hours / 32, rel=0.01)
    # a ring of 32 GPUs sends a part of the gradients in each of 31 steps, twice
    sent = 2 * sum(2 * counted.parameters / 32 for _ in range(31))
    (row,) = (line for line in text.splitlines() if line.startswith("| member ") and " 32 " in line)
    assert in_hours(row.split("|")[4].strip()) * 3600 == pytest.approx(sent / 1e6, rel=0.01)


def in_hours(cell):
    number, unit = cell.split()
    return (
        float(number.replace(",", ""))
        * {"h": 1, "min": 1 / 60, "s": 1 / 3600, "ms": 1 / 3.6e6}[unit]
    )


def test_work_of_a_sample():
    args = scale.parse_args([*TINY, "--sample", "160"])
    works = {work.part: work for work in scale.measure(args)}
    hypotheses = {index: f"{index} " * (LENGTH - 1) for index in range(1000)}
    expected = sys.getsizeof(hypotheses) + sum(
        map(sys.getsizeof, [*hypotheses, *hypotheses.values()])
    )
    found = works["transfer set: reading hypotheses"].memory
    assert found == pytest.approx(expected / 1000, rel=0.3)
    table = scale.work_table(args, list(works.values()))
    assert all(cells(table, part) for part in works)
