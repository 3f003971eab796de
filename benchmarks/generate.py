"""Cost of uncertainty in fairseq-generate: a Prior Network's and an ensemble's.

The models and the test sentences are those of the quickstart (SCALE=small), which this script runs
first if its results are not there. Each turn runs the whole command in a new process, from loading
the checkpoints to the last line, with scores and with the same task without scores in turns. On a
machine that others share, two runs differ by more than scores cost. Therefore the run with scores
also times scores and records by themselves.
"""

import argparse
import contextlib
import itertools
import multiprocessing
import os
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Tuple

import measuring
import torch
import workload
from fairseq import options
from fairseq.tasks import register_task
from fairseq.tasks.translation import TranslationTask
from fairseq_cli.generate import main as generate

from fairseq_pdd.tasks import DistillationTaskMixin
from fairseq_pdd.tasks._binarised_text import BinarisedText
from fairseq_pdd.tasks.distill_translation import DistillTranslationConfig, DistillTranslationTask

SCORED, UNSCORED = "with_scores", "without_scores"
REPOSITORY = Path(__file__).parents[1]
QUICKSTART = REPOSITORY / "examples/quickstart/runs/small"


class _TimedSearch(TranslationTask):
    """Task of fairseq whose searches are timed."""

    search_seconds = 0.0

    def inference_step(self, *args: Any, **kwargs: Any) -> Any:
        """Generate as fairseq does."""
        start = measuring.clock()
        result = super().inference_step(*args, **kwargs)
        type(self).search_seconds += measuring.clock() - start
        return result


@register_task(SCORED, dataclass=DistillTranslationConfig)
class WithScores(DistillationTaskMixin, BinarisedText, _TimedSearch):
    """Task of this package whose searches, scores and records are timed."""

    all_seconds = 0.0

    def inference_step(self, *args: Any, **kwargs: Any) -> Any:
        """Generate, score and write."""
        start = measuring.clock()
        result = super().inference_step(*args, **kwargs)
        type(self).all_seconds += measuring.clock() - start
        return result


@register_task(UNSCORED, dataclass=DistillTranslationConfig)
class WithoutScores(DistillTranslationTask):
    """Task of this package without scores and records."""

    def inference_step(self, *args: Any, **kwargs: Any) -> Any:
        """Generate as fairseq does."""
        return TranslationTask.inference_step(self, *args, **kwargs)


def parse_args() -> argparse.Namespace:
    """Parse the options."""
    parser = measuring.parser(__doc__)
    parser.set_defaults(repeats=5)
    parser.add_argument(
        "--quickstart", type=Path, default=QUICKSTART, help="results of the quickstart"
    )
    parser.add_argument("--batch-size", type=int, default=128, help="sentences of a batch")
    parser.add_argument("--beam", type=int, default=5, help="beam of the search")
    parser.add_argument("--nbest", type=int, nargs="+", default=[1, 5], help="hypotheses to score")
    args = parser.parse_args()
    if args.quick:
        args.beam, args.nbest, args.repeats = 2, [2], 1
    return args


class Model(NamedTuple):
    """A model or an ensemble and its data."""

    name: str
    data: Path
    path: str


def quickstart_models(folder: Path) -> List[Model]:
    """Return the student and the ensemble of the quickstart, which is run if need be."""
    if not (folder / "table.md").is_file():
        measuring.say(f"running the quickstart for its models, in {folder}")
        command = ["bash", str(REPOSITORY / "examples/quickstart/run.sh")]
        environment = {**os.environ, "SCALE": "small", "WORK": str(folder)}
        subprocess.run(command, check=True, env=environment, stdout=2)
    members = sorted(folder.glob("member*/checkpoint_best.pt"))
    return [
        Model("Prior Network", folder / "bin", str(folder / "pd_send2-seed1/checkpoint_best.pt")),
        Model(f"ensemble of {len(members)}", folder / "bin", ":".join(map(str, members))),
    ]


def tiny_models(folder: Path) -> List[Model]:
    """Make an untrained Prior Network and ensemble over random text, for --quick."""
    made = workload.make(folder, workload.TINY, 2, test=20)
    path = str(made.data / "student.pt")
    trainer = made.trainer(
        "--task",
        "distill_translation",
        "--criterion",
        "pd_send2",
        "--teacher-paths",
        made.teachers[0],
    )
    trainer.consolidate_optimizer()
    trainer.save_checkpoint(path, {})
    return [
        Model("Prior Network", made.data, path),
        Model("ensemble of 2", made.data, ":".join(made.teachers)),
    ]


def run(
    model: Model, task: str, results: str, threads: int, args: List[Any]
) -> Tuple[float, float]:
    """Return the seconds of ``fairseq-generate``, and those of scores and records among them.

    It is called in a new process.
    """
    torch.set_num_threads(threads)
    argv = [
        model.data, "--gen-subset", "test", "--path", model.path, "--task", task, "--cpu",
        "--required-batch-size-multiple", 1, "--num-workers", 0, "--results-path", results,
        "--max-len-a", 1.5, "--max-len-b", 10, "--post-process", "sentencepiece", *args,
    ]  # fmt: skip
    parsed = options.parse_args_and_arch(
        options.get_generation_parser(), [str(arg) for arg in argv]
    )
    start = measuring.clock()
    with open(os.devnull, "w") as null, contextlib.redirect_stdout(null):
        generate(parsed)
    scoring = WithScores.all_seconds - WithScores.search_seconds
    return measuring.clock() - start, scoring


def main() -> None:
    """Print the section of the report."""
    args = parse_args()
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["fairseq_cli.generate", "fairseq_pdd.tasks"])
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        pool = processes.Pool(1, maxtasksperchild=1)  # a new process for each call
        models = tiny_models(Path(folder)) if args.quick else quickstart_models(args.quickstart)
        for model, nbest in itertools.product(models, args.nbest):
            options_ = ["--batch-size", args.batch_size, "--beam", args.beam, "--nbest", nbest]
            seconds: Dict[str, List[float]] = {UNSCORED: [], SCORED: []}
            alone: List[float] = []
            for turn in range(args.repeats):
                for task in (UNSCORED, SCORED)[:: 1 if turn % 2 == 0 else -1]:
                    call = (model, task, f"{folder}/out", args.threads, options_)
                    total, scoring = pool.apply(run, call)
                    seconds[task].append(total)
                    if task == SCORED:
                        alone.append(total - scoring)
            base = seconds[UNSCORED]
            ratios = (measuring.ratio(seconds[SCORED], each) for each in (base, alone))
            rows.append([model.name, str(nbest), f"{statistics.median(base):.2f} s", *ratios])
            measuring.say(" | ".join(rows[-1]))
    headers = ["model", "n-best", "without scores", "with uncertainty", "the same run"]
    print(
        f"""## fairseq-generate with and without uncertainty

Models and test sentences of the quickstart (`SCALE=small`), beam {args.beam}, batches of
{args.batch_size} sentences, {args.threads} threads. Each turn is a new process, whose start and
imports do not count. Medians of {args.repeats} turns; "with uncertainty" is the ratio to the same
task without scores and records, in brackets the least and the greatest of a turn; "the same run"
is the ratio to that run less the time of its scores and records.

{measuring.table(headers, rows)}
"""
    )


if __name__ == "__main__":
    main()
