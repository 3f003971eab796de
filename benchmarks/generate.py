"""What uncertainty adds to fairseq-generate: a Prior Network's and an ensemble's.

The whole command, from loading the checkpoints to the last line, with the task of this package
and with fairseq's own, in turns; in batches as in fairseq's examples, and as large as by default.
Each turn is a process of its own, as for a user: in one process, what one run leaves of the heap
can cost the next one a third of its time. The first long run on a machine compiles kernels, which
later runs have from their first call on, so this is measured both without and with them; what
compiling takes is timed apart.

This package takes an ensemble's mean, and the text of what is printed, in less time than fairseq
does, which pays for the scores or a part of them. What that is worth shows in runs without any.
"""

import argparse
import contextlib
import itertools
import multiprocessing
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence

import measuring
import torch
import workload
from fairseq import options
from fairseq.models import BaseFairseqModel
from fairseq.tasks import register_task
from fairseq_cli.generate import main as generate
from workload import Workload

from fairseq_pdd.core import _compile, dirichlet_measures, sequence_ensemble_measures
from fairseq_pdd.tasks.distill_translation import DistillTranslationConfig, DistillTranslationTask

PLAIN, OURS, UNSCORED = "translation", "distill_translation", "without_scores"
EAGER = f"{OURS}, eager"
_MIN_ELEMENTS = _compile.MIN_ELEMENTS * _compile.PATIENCE_FOR_MEASURES
LARGE = workload.Size(classes=32_000, layers=6, dim=512)


@register_task(UNSCORED, dataclass=DistillTranslationConfig)
class WithoutScores(DistillTranslationTask):
    """This package's task, whose outputs nobody scores."""

    def hypothesis_scorer(self, models: Sequence[BaseFairseqModel]) -> Any:
        """Nobody."""
        return None


def parse_args() -> argparse.Namespace:
    """Options of the command."""
    parser = measuring.parser(__doc__)
    parser.set_defaults(repeats=5)
    parser.add_argument("--members", type=int, default=4, help="of the ensemble")
    parser.add_argument("--sentences", type=int, default=400, help="to translate")
    parser.add_argument(
        "--large-sentences", type=int, default=24, help="to translate with the larger model"
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        nargs="+",
        default=[128, 400],
        help="sentences: 128 are those of fairseq's examples, 400 fit its default of 12,000 tokens",
    )
    parser.add_argument("--beam", type=int, default=5, help="of the search")
    parser.add_argument("--nbest", type=int, nargs="+", default=[1, 5], help="to write, and score")
    args = parser.parse_args()
    if args.quick:
        args.members, args.sentences, args.beam, args.nbest, args.repeats = 2, 20, 2, [2], 1
        args.large_sentences = 5
    return args


class Model(NamedTuple):
    """What is run."""

    name: str
    size: workload.Size
    data: Path
    path: str
    sentences: int


def make_models(folder: Path, args: argparse.Namespace, *sizes: workload.Size) -> List[Model]:
    """An untrained Prior Network and ensemble, and a larger Prior Network."""
    small = make_workload(folder / "small", sizes[0], args.members, args.sentences)
    large = make_workload(folder / "large", sizes[1], 1, args.large_sentences)
    ensemble, many, few = ":".join(small.teachers), args.sentences, args.large_sentences
    return [
        Model("Prior Network", small.size, small.data, make_student(small), many),
        Model(f"ensemble of {args.members}", small.size, small.data, ensemble, many),
        Model("Prior Network, large", large.size, large.data, make_student(large), few),
    ]


def make_workload(folder: Path, size: workload.Size, members: int, sentences: int) -> Workload:
    """Data and an ensemble in a new folder."""
    folder.mkdir()
    return workload.make(folder, size, members, test=sentences)


def make_student(work: Workload) -> str:
    """An untrained Prior Network's checkpoint."""
    path = str(work.data / "student.pt")
    trainer = work.trainer(
        "--task", OURS, "--criterion", "pd_send2", "--teacher-paths", work.teachers[0]
    )
    trainer.consolidate_optimizer()
    trainer.save_checkpoint(path, {})
    return path


def compile_kernels(classes: int, members: int) -> float:
    """Seconds to compile, and keep, what scores tokens; to be called in a new process."""
    measuring.compile_at_once()
    start, logits = measuring.clock(), torch.randn(4, classes)
    dirichlet_measures(logits)
    sequence_ensemble_measures([logits.log_softmax(-1)] * members, torch.zeros(members, 4))
    return measuring.clock() - start


def run(model: Model, case: str, results: str, threads: int, args: List[Any]) -> float:
    """Seconds of ``fairseq-generate``, its output to files; to be called in a new process."""
    torch.set_num_threads(threads)
    os.environ[_compile.SWITCH] = "0" if case == EAGER else "1"
    task = OURS if case == EAGER else case
    argv = [
        model.data, "--gen-subset", "test", "--path", model.path, "--task", task, "--cpu",
        "--required-batch-size-multiple", 1, "--num-workers", 0, "--results-path", results,
        # an untrained model does not end by itself
        "--max-len-a", 1, "--max-len-b", 0, *args,
    ]  # fmt: skip
    parsed = options.parse_args_and_arch(
        options.get_generation_parser(), [str(arg) for arg in argv]
    )
    start = measuring.clock()
    with open(os.devnull, "w") as null, contextlib.redirect_stdout(null):
        generate(parsed)
    return measuring.clock() - start


def main() -> None:
    """Print the section of the report."""
    args = parse_args()
    size, large = (workload.TINY,) * 2 if args.quick else (workload.Size(), LARGE)
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["fairseq_cli.generate", "fairseq_pdd"])
    torch.set_num_threads(args.threads)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        if not args.quick:  # as on a machine where nothing was compiled before
            os.environ["XDG_CACHE_HOME"] = f"{folder}/kernels"
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = f"{folder}/inductor"
        pool = processes.Pool(1, maxtasksperchild=1)  # a new process for each call
        compiling = pool.apply(compile_kernels, (size.classes, args.members))
        measuring.say(f"compiled in {compiling:.1f} s")
        for model in make_models(Path(folder), args, size, large):
            # batches of more sentences than there are would be the same once more
            sizes = sorted({min(batch, model.sentences) for batch in args.batch_size})
            for batch, nbest in itertools.product(sizes, args.nbest):
                options_ = ["--batch-size", batch, "--beam", args.beam, "--nbest", nbest]
                seconds: Dict[str, List[float]] = {
                    case: [] for case in (PLAIN, UNSCORED, EAGER, OURS)
                }
                # in turns, so what else the machine does hits them alike; each is the first one in
                # some, as the machine may have to find memory for a process larger than the last
                cases = list(seconds)
                for turn in range(args.repeats):
                    for case in cases[turn % len(cases) :] + cases[: turn % len(cases)]:
                        call = (model, case, f"{folder}/out", args.threads, options_)
                        seconds[case].append(pool.apply(run, call))
                rows.append(row(model.name, batch, nbest, seconds))
                measuring.say(" | ".join(rows[-1]))
    headers = [
        "model",
        "batch",
        "n-best",
        "fairseq's",
        "without scores",
        "eager",
        "with uncertainty",
    ]
    print(
        f"""## fairseq-generate with and without uncertainty

Beam {args.beam}, {args.threads} threads, sentences of 5 to 25 tokens:
{args.sentences} of {size.classes:,} types by Transformers of {size.layers} + {size.layers} layers,
dimension {size.dim}; "large" are {args.large_sentences} of {large.classes:,} types,
{large.layers} + {large.layers} layers, dimension {large.dim}. Each turn is a new process, whose
start and imports do not count. Medians of {args.repeats} turns, as ratios to the time of fairseq's
own task; in brackets the least and the greatest of a turn. "Without scores" is this package's task,
which takes the mean of an ensemble and the text of tokens in less time than fairseq does, but
scores nothing. "Eager" are the runs before kernels are compiled. That is done once on a machine, by
the first run of fairseq-generate that reads {_MIN_ELEMENTS:,} logits
({_MIN_ELEMENTS // large.classes:,} tokens of {large.classes:,} types) of a Prior Network or of an
ensemble of that many members, or by fairseq-train for Prior Networks; both took {compiling:.1f} s.

{measuring.table(headers, rows)}
"""
    )


def row(model: str, batch: int, nbest: int, seconds: Dict[str, List[float]]) -> List[str]:
    """A row of the table."""
    plain, *others = seconds.values()
    ratios = (measuring.ratio(times, plain) for times in others)
    return [model, str(batch), str(nbest), f"{statistics.median(plain):.2f} s", *ratios]


if __name__ == "__main__":
    main()
