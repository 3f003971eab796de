"""Print what a run costs at any size, as Markdown: the tables of docs/scale.md.

Parameters, operations and bytes are counted on a model of the recipe, which runs on two sentences.
The work beside the models is measured on a sample of random sentences. Times of models follow
from assumptions: operations / sustained speed, and bytes / bandwidth.
"""

import argparse
import contextlib
import math
import re
import sys
import tempfile
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, List, NamedTuple, Tuple, cast

import measuring
import numpy as np
import torch
import workload
from fairseq import models, optim, options, utils
from fairseq.data import Dictionary, indexed_dataset
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.sequence_generator import SequenceGenerator
from omegaconf import DictConfig
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fairseq_pdd._compat import without_fused_encoder
from fairseq_pdd.core import reverse_kl_proxy_dirichlet
from fairseq_pdd.teacher import CachedTeacher
from fairseq_pdd.teacher.cache.layout import SAMPLE, SHARD_SENTENCES, token_dtype
from fairseq_pdd.teacher.memory import statistics_bytes
from fairseq_pdd.transfer.cache_builder import _Worker, build_cache
from fairseq_pdd.transfer.cache_inputs import CacheSettings
from fairseq_pdd.transfer.pairs import SentencePairCorpus
from fairseq_pdd.transfer.translate import _read

RECIPE = Path(__file__).parents[1] / "examples" / "wmt17_en_de" / "run.sh"
OPTIMIZER = ("--optimizer", "adam", "--lr", "0.0005", "--lr-scheduler", "inverse_sqrt")
CARDS = (24, 40, 80)  # GB; a tenth of a card's memory is left to what is not counted
PAIR = ("xx", "yy")
EACH_FILE = "each file"


def parse_args(argv: Any = None) -> argparse.Namespace:
    """Read the options of the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    recipe = settings()
    count = lambda text: int(float(text))  # noqa: E731  (takes 450e6)
    add = parser.add_argument
    add("--arch", help="architecture (default: that of the recipe)")
    add("--members", type=int, default=int(recipe["MEMBERS"]), help="members of the ensemble")
    add("--pairs", type=count, default=4_500_000, help="sentence pairs of the transfer set")
    add("--tokens-per-pair", type=int, default=29, help="tokens of a sentence of each side")
    add("--types", type=int, default=40_000, help="size of the joined dictionary")
    add("--topk", type=int, default=64, help="classes that a cache lists for each token")
    add("--beam", type=int, default=5, help="beam of the transfer set")
    add("--gpus", type=int, default=8, help="GPUs of a node")
    add("--nodes", type=int, default=1, help="nodes")
    add("--tflops", type=float, default=50, help="assumed 10^12 operations per second of a GPU")
    add("--network", type=float, default=10, help="assumed GB per second between two GPUs")
    add("--disk", type=float, default=1, help="assumed GB per second of the shared folder")
    add("--sample", type=int, default=2 * SHARD_SENTENCES, help="measured sentences; 0: none")
    return parser.parse_args(argv)


def settings() -> Dict[str, str]:
    """Read the defaults of the recipe's settings."""
    return dict(re.findall(r"\b([A-Z_]+)=\$\{\1:-([^}]*)\}", RECIPE.read_text("utf-8")))


# ------------------------------------------------------------------------------------------ counted


class Model(NamedTuple):
    """Counts of one model; tokens are target tokens that have as many source tokens."""

    parameters: int
    """Number of parameters; tied ones count once."""
    saved: int
    """Numbers in a checkpoint's model, where fairseq saves tied ones under each name."""
    forward: float
    """Operations of a forward pass per token."""
    training: float
    """Operations of forward and backward per token."""
    search: float
    """Operations of a beam search per token, one member's."""
    kept: float
    """Bytes per token that the backward pass needs, and logits, with 16 bits per number."""
    search_bytes: float
    """Peak bytes per source token of the ensemble's search, with 16 bits per number."""
    state_bytes: float
    """Those of them that decoders keep of past tokens."""


def dictionary_of(types: int) -> Dictionary:
    """Make a dictionary of a size."""
    dictionary = Dictionary()
    for number in range(types - len(dictionary)):
        dictionary.add_symbol(f"w{number}")
    return dictionary


def config(*args: Any) -> DictConfig:
    """Build the configuration of ``fairseq-train`` for the recipe's model."""
    argv = ["data", *settings()["MODEL"].split(), *OPTIMIZER, *args]
    parsed = options.parse_args_and_arch(options.get_training_parser(), [str(arg) for arg in argv])
    return convert_namespace_to_omegaconf(parsed)


def build(args: argparse.Namespace) -> Tuple[torch.nn.Module, Dictionary]:
    """Build the recipe's model in bfloat16, of the size of float16, and its dictionary."""
    dictionary = dictionary_of(args.types)
    task = SimpleNamespace(source_dictionary=dictionary, target_dictionary=dictionary)
    arch = ["--arch", args.arch] if args.arch else []
    model = without_fused_encoder(models.build_model(config(*arch).model, cast(Any, task)))
    return model.bfloat16(), dictionary


def count(
    model: torch.nn.Module, dictionary: Dictionary, length: int, beam: int, members: int
) -> Model:
    """Count operations and bytes of a model on a sentence."""
    source = _source(dictionary, length)
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: Dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    mean = torch.full((1, length, len(dictionary)), 1 / len(dictionary))
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    # PyTorch's counter does not know the fused attention of CPUs
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as operations:
        with hooks:
            logits = model(**source, prev_output_tokens=source["src_tokens"].roll(1, 1))[0]
            loss = reverse_kl_proxy_dirichlet(logits, mean, mean[..., 0], compiled=False).sum()
        forward = operations.get_total_flops()
        loss.backward()
        training = operations.get_total_flops()
    kept[logits.untyped_storage().data_ptr()] = logits.nbytes

    model.eval()
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as operations:
        search(model, dictionary, length, beam, members=1)
    return Model(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        saved=sum(tensor.numel() for tensor in model.state_dict().values()),
        forward=forward / length,
        training=training / length,
        search=operations.get_total_flops() / length,
        kept=sum(kept.values()) / length,
        search_bytes=search_bytes(model, dictionary, length, beam, members) / length,
        state_bytes=members * beam * decoder_state(model, length) / length,
    )


def search_bytes(model: Any, dictionary: Dictionary, length: int, beam: int, members: int) -> float:
    """Return the peak bytes of an ensemble's search, of a sentence.

    Only small ensembles of small members are run: the difference is what decoders keep.
    """
    small, _ = build(parse_args(["--arch", "transformer_tiny", f"--types={len(dictionary)}"]))
    small.eval()
    two, three = (
        measuring.peak_bytes(lambda n=n: search(small, dictionary, length, beam, n)) for n in (2, 3)
    )
    difference = decoder_state(model, length) - decoder_state(small, length)
    return two + (members - 2) * (three - two) + members * beam * difference


def _source(dictionary: Dictionary, length: int) -> Dict[str, torch.Tensor]:
    tokens = torch.randint(dictionary.nspecial, len(dictionary), (1, length))
    tokens[:, -1] = dictionary.eos()
    return {"src_tokens": tokens, "src_lengths": torch.tensor([length])}


def search(model: Any, dictionary: Dictionary, length: int, beam: int, members: int) -> None:
    """Search the translation of a sentence, of the same length, with copies of a model."""
    ensemble = [model] * members
    lengths = {"max_len_a": 0, "max_len_b": length - 1, "min_len": length - 1}
    generator = SequenceGenerator(ensemble, dictionary, beam_size=beam, **lengths)
    generator.generate(ensemble, {"net_input": _source(dictionary, length)})


@torch.no_grad()
def decoder_state(model: Any, length: int) -> int:
    """Return the bytes that a decoder keeps of past tokens and of the encoder's output."""
    source = _source(model.decoder.dictionary, length)
    encoded = model.encoder.forward_torchscript(source)
    state: Dict[str, Dict[str, torch.Tensor]] = {}
    for step in range(1, length + 1):
        model.decoder(source["src_tokens"][:, :step], encoded, incremental_state=state)
    return sum(t.nbytes for part in state.values() for t in part.values() if t is not None)


def optimiser_bytes() -> Tuple[float, float]:
    """Return the bytes per parameter of training with ``--fp16``: in memory, in a checkpoint.

    The first holds weights, gradients and Adam's state; the second Adam's state only.
    """
    layer = torch.nn.Linear(64, 64, bias=False).half()
    # the flat copy of the weights has the same size, and needs a GPU
    fp16 = config("--fp16", "--fp16-no-flatten-grads")
    optimizer = optim.FP16Optimizer.build_optimizer(fp16, [layer.weight])
    optimizer.backward(layer(torch.ones(1, 64, dtype=torch.half)).sum())
    optimizer.step()
    own = optimizer.fp32_params
    state = utils.move_to_cpu(optimizer.state_dict())["state"]
    adam = sum(t.nbytes for part in state.values() for t in part.values() if torch.is_tensor(t))
    weights = sum(p.nbytes + p.grad.nbytes for p in (layer.weight, *own))
    return (weights + adam) / layer.weight.numel(), adam / layer.weight.numel()


# ----------------------------------------------------------------------------------------- measured


class Work(NamedTuple):
    """Work beside the models, of a sample or per sentence."""

    part: str
    process: str
    """Processes that do it."""
    seconds: float
    memory: float
    """Bytes of arrays and Python objects: those that stay, or the peak where nothing stays."""


def measure(args: argparse.Namespace) -> List[Work]:
    """Measure what grows with the corpus, per sentence, in one thread.

    It is the difference between a sample of random sentences and a quarter of it, so that fixed
    costs do not count.
    """
    torch.set_num_threads(1)  # several threads wait for each other where cores are shared
    sizes = args.sample // 4, args.sample
    small, large = (_measure(size, args.tokens_per_pair, args.topk) for size in sizes)
    grown = sizes[1] - sizes[0]
    return [
        b._replace(seconds=(b.seconds - a.seconds) / grown, memory=(b.memory - a.memory) / grown)
        for a, b in zip(small, large)
    ]


def _measure(sentences: int, length: int, topk: int) -> List[Work]:
    found: List[Work] = []

    def add(part: str, process: str, case: Callable[[], Any], repeated: int = 1) -> Any:
        seconds = min(measuring.interleaved({part: case}, 3)[part])
        tracemalloc.start()
        result = case()
        stays, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        memory = peak if result is None else stays
        found.append(Work(part, process, seconds / repeated, memory / repeated))
        return result

    measuring.say(f"measuring {sentences:,} sentences")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        work = _sample(folder / "bin", sentences, length)
        _measure_transfer_set(work.data, folder, sentences, add)
        _measure_cache(work, folder, sentences, topk, add)
    return found


def _sample(data: Path, sentences: int, length: int) -> workload.Workload:
    """Write binarised random sentences of equal length."""
    data.mkdir()
    dictionary = dictionary_of(1000)
    tokens = torch.randint(dictionary.nspecial, len(dictionary), (sentences, length))
    tokens[:, -1] = dictionary.eos()
    for language in PAIR:
        dictionary.save(str(data / f"dict.{language}.txt"))
        prefix = data / f"train.{'-'.join(PAIR)}.{language}"
        builder = indexed_dataset.make_builder(f"{prefix}.bin", "mmap", len(dictionary))
        for row in tokens:
            builder.add_item(row)
        builder.finalize(f"{prefix}.idx")
    return workload.Workload(data, [], workload.TINY)


def _measure_transfer_set(
    data: Path, folder: Path, sentences: int, add: Callable[..., Any]
) -> None:
    corpus = SentencePairCorpus(data, "train", *PAIR)
    text = corpus.dictionaries[1].string(corpus.sources[0])
    lines = "S-{0}\t{1}\nH-{0}\t-0.5\t{1}\nD-{0}\t-0.5\t{1}\nP-{0}\t-0.5\n"
    output = folder / "generate.txt"
    output.write_text("".join(lines.format(i, text) for i in range(sentences)), encoding="utf-8")

    def stage() -> None:
        with tempfile.TemporaryDirectory() as new:
            corpus.stage(Path(new))

    def write() -> None:
        with tempfile.TemporaryDirectory() as new, corpus.writer(Path(new)) as writer:
            for index in range(sentences):
                writer.add_hypothesis(index, hypotheses[index])

    add("transfer set: copy of the sources", "each shard", stage)
    hypotheses = add("transfer set: reading hypotheses", "the join", lambda: _read(output, "H"))
    add("transfer set: writing pairs", "the join", write)


def member_and_settings(
    work: workload.Workload, folder: Path, topk: int
) -> Tuple[Any, CacheSettings]:
    """Save an untrained member; return its task, and the settings of its cache."""
    trainer = work.trainer(*workload.plain())
    trainer.consolidate_optimizer()
    trainer.save_checkpoint(str(folder / "member.pt"), {})
    return trainer.task, CacheSettings(
        data=work.data, checkpoints=(str(folder / "member.pt"),), destdir=folder / "cache",
        subsets=("train",), topk=topk, dtype="float16", teacher_dtype="float32", max_tokens=4000,
        workers=1, cpu=True,
    )  # fmt: skip


def _measure_cache(
    work: workload.Workload, folder: Path, sentences: int, topk: int, add: Callable[..., Any]
) -> None:
    task, settings = member_and_settings(work, folder, topk)
    build_cache(settings)

    def load() -> CachedTeacher:
        teacher = CachedTeacher(str(settings.destdir), task)
        teacher.check("train", task.dataset("train"))
        return teacher

    def batches() -> Any:
        task.load_dataset("train")
        return task.get_batch_iterator(task.dataset("train"), max_tokens=1024).frozen_batches

    def read() -> None:
        for sample in samples:
            teacher.statistics(sample, sample["target"].ne(dictionary.pad()))

    def find() -> None:
        # without a sentence to find, the search is all that remains
        list(_Worker._batches(cast(Any, worker), "train", -1, -1))

    task.load_dataset("train")
    repeated = 100
    order = np.random.default_rng(0).permutation(repeated * sentences)
    worker = SimpleNamespace(
        task=task, settings=settings, max_positions=None, _orders={"train": order}
    )
    add("teacher cache: finding the sentences of a file", EACH_FILE, find, repeated)
    teacher = add("training: checksums and index of the cache", "each process", load)
    drawn = add("training: fairseq's index and batches", "each process", batches)
    dataset, dictionary = task.dataset("train"), task.target_dictionary
    samples = [dataset.collater([dataset[i] for i in batch]) for batch in drawn]
    add("training: reading the cache", "each process", read)


# ------------------------------------------------------------------------------------------- tables


def main() -> None:
    """Print the tables."""
    args = parse_args()
    measuring.say("counting")
    model = count(*build(args), args.tokens_per_pair, args.beam, args.members)
    print(report(args, model))
    if args.sample:
        with contextlib.redirect_stdout(sys.stderr):  # standard output is the tables'
            works = measure(args)
        print(work_table(args, works))


def report(args: argparse.Namespace, model: Model) -> str:
    """Format the counts of a model, and memory, time, network and disk of a run."""
    recipe = {name: int(value) for name, value in settings().items() if value.isdigit()}
    students = len(settings()["STUDENTS"].split()) * recipe["STUDENT_SEEDS"]
    tokens = args.pairs * args.tokens_per_pair
    member = recipe["BATCHES"] * recipe["TOKENS"]
    student = recipe["STUDENT_BATCHES"] * recipe["STUDENT_TOKENS"]
    seen = recipe["STUDENT_UPDATES"] * student
    state, adam = optimiser_bytes()
    record = token_dtype(args.topk, args.types, "float16").itemsize
    index = np.dtype(indexed_dataset.best_fitting_int_dtype(args.types)).itemsize
    head = (
        f"{args.pairs:,} pairs of {args.tokens_per_pair} tokens per side, {args.types:,} types, "
        f"{args.members} members, {students} students\nthat see {seen / tokens:.2g} × the corpus "
        f"each; {args.nodes} × {args.gpus} GPUs. Assumed: {args.tflops:g}·10¹² operations per "
        f"second of a\nGPU, {args.network:g} GB/s between GPUs, {args.disk:g} GB/s of disk."
    )

    counts = [
        ["parameters", f"{model.parameters:,}"],
        ["operations per token: forward", f"{model.forward / 1e9:.3f}·10⁹"],
        ["forward and backward", f"{model.training / 1e9:.3f}·10⁹"],
        [f"beam search, beam {args.beam}", f"{model.search / 1e9:.3f}·10⁹"],
        ["bytes per parameter in training (fp16, Adam)", f"{state:.0f}"],
        ["bytes per token for the backward pass", f"{model.kept:,.0f}"],
        [f"bytes per token of the search of {args.members}", f"{model.search_bytes:,.0f}"],
        ["bytes per token of the teacher's statistics", f"{statistics_bytes(1, args.types):,}"],
        [f"bytes per token of a cache, k = {args.topk}", f"{record}"],
    ]

    weights, training = args.members * model.parameters, state * model.parameters
    batch = recipe["STUDENT_TOKENS"]
    kept, statistics = batch * model.kept, statistics_bytes(batch, args.types)
    batch = recipe["SEARCH_TOKENS"]
    search, of_cache = batch * model.search_bytes, statistics_bytes(batch, args.types)
    memory = [
        _memory("member", training, recipe["TOKENS"] * model.kept, 0),
        _memory("transfer set, fp16", 2 * weights, search, 0),
        _memory("teacher cache, float32", 4 * weights, 0, of_cache),
        _memory("teacher cache, 16 bits", 2 * weights, 0, of_cache),
        _memory("student, online teacher", training + 2 * weights, kept, statistics),
        _memory("student, cached teacher", training, kept, 0),
        _memory("records of the ensemble", 4 * weights, search + batch * model.state_bytes, 0),
    ]

    ensemble = args.members * model.forward
    online, cached = model.training + ensemble, model.training
    stages = [
        _stage(args, "members", args.members, recipe["UPDATES"] * member * model.training),
        _stage(args, "transfer set", None, tokens * args.members * model.search),
        _stage(args, "teacher cache", None, tokens * ensemble),
        _stage(args, "students, online", students, seen * online),
        _stage(args, "students, cached", students, seen * cached),
    ]
    updates = [
        _update(args, model, name, operations, gpus)
        for name, operations in (
            ("member", member * model.training),
            ("student, online teacher", student * online),
            ("student, cached teacher", student * cached),
        )
        for gpus in sorted({args.gpus, args.gpus * args.nodes})
    ]
    checkpoints = (recipe["AVERAGE"] + 2) * (4 * model.saved + adam * model.parameters)
    disk = [
        ["data, both sides", 2 * tokens * index],
        ["checkpoints of a member", checkpoints],
        ["teacher cache", tokens * record + args.pairs * SAMPLE.itemsize],
    ]
    parts = math.ceil(args.pairs / SHARD_SENTENCES)
    columns = ["process", "weights, optimiser", "batch", "statistics", "all", "fits"]
    return "\n\n".join(
        [
            head,
            _section("Counts", ["count", "value"], counts),
            _section("Memory of a GPU, in GB", columns, memory),
            _section("Time", ["stage", "operations", "one GPU", "all GPUs"], stages),
            _section("Time of an update", ["training", "GPUs", "operations", "network"], updates),
            _section(
                "Disk",
                ["content", "GB", "to write or read it"],
                [[what, f"{n / 1e9:,.1f}", _time(n / (args.disk * 1e9))] for what, n in disk],
            ),
            f"The cache has {parts:,} parts of {SHARD_SENTENCES:,} sentences.\n",
        ]
    )


def work_table(args: argparse.Namespace, works: List[Work]) -> str:
    """Format the work beside the models, and what it is for the whole corpus."""
    files = math.ceil(args.pairs / SHARD_SENTENCES)
    rows = []
    for work in works:
        sentences = args.pairs * (files if work.process == EACH_FILE else 1)
        rows.append(
            [
                work.part,
                work.process if work.process != EACH_FILE else "all files",
                _time(1e6 * work.seconds),
                _time(sentences * work.seconds),
                f"{max(work.memory, 0):.0f}",
                f"{max(args.pairs * work.memory, 0) / 1e9:.1f}",
            ]
        )
    header = [
        "part", "process", "per 10⁶ sentences", f"time, {args.pairs:,}",
        "bytes per sentence", f"GB, {args.pairs:,}",
    ]  # fmt: skip
    note = (
        f"In one thread; samples of {args.sample // 4:,} and {args.sample:,} sentences;\n"
        f"{measuring.machine()}."
    )
    return "\n\n".join([_section("Work beside the models", header, rows), note])


def _section(title: str, header: List[str], rows: List[Any]) -> str:
    return f"### {title}\n\n{measuring.table(header, rows)}"


def _memory(process: str, weights: float, batch: float, statistics: float) -> List[str]:
    everything = weights + batch + statistics
    fits = next((f"{card} GB" for card in CARDS if everything <= 0.9e9 * card), "none")
    return [process, *(f"{x / 1e9:.1f}" for x in (weights, batch, statistics, everything)), fits]


def _stage(args: argparse.Namespace, stage: str, jobs: Any, operations: float) -> List[str]:
    """Format the time of a stage: jobs that have a node each, or one that uses all nodes."""
    seconds = operations / (args.tflops * 1e12)
    name, number = (stage, 1) if jobs is None else (f"{jobs} {stage}", jobs)
    # as many jobs as there are nodes at a time
    turns = 1 / args.nodes if jobs is None else math.ceil(jobs / args.nodes)
    return [
        name,
        f"{number * operations / 1e18:.3g}·10¹⁸",
        _time(number * seconds),
        _time(turns * seconds / args.gpus),
    ]


def _update(
    args: argparse.Namespace, model: Model, name: str, operations: float, gpus: int
) -> List[str]:
    """Format the time of an update's operations, and of adding up its gradients."""
    # in a ring, each GPU sends all but its own part of the sums, then of the results
    sent = 2 * (gpus - 1) / gpus * 2 * model.parameters
    seconds = operations / (args.tflops * 1e12 * gpus), sent / (args.network * 1e9)
    return [name, str(gpus), *map(_time, seconds)]


def _time(seconds: float) -> str:
    """Format a time with two digits or more."""
    units = ((3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"))
    size, unit = next((u for u in units if seconds >= 2 * u[0]), units[-1])
    number = seconds / size
    return f"{number:,.0f} {unit}" if number >= 10 else f"{number:.1f} {unit}"


if __name__ == "__main__":
    main()
