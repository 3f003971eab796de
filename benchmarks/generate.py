"""What uncertainty adds to fairseq-generate: a Prior Network's and an ensemble's.

The whole command, from loading the checkpoints to the last line, with the task of this package
and with fairseq's own, in turns. What is compiled once in a long run is timed apart.
"""

import argparse
import contextlib
import functools
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any, Dict, List

import measuring
import torch
import workload
from fairseq import options
from fairseq_cli.generate import main as generate
from workload import Workload

from fairseq_pdd.core import EnsembleStatistics, _compile, dirichlet_measures

PLAIN, OURS = "translation", "distill_translation"


def parse_args() -> argparse.Namespace:
    """Options of the command."""
    parser = measuring.parser(__doc__)
    parser.add_argument("--members", type=int, default=4, help="of the ensemble")
    parser.add_argument("--sentences", type=int, default=400, help="to translate")
    parser.add_argument("--beam", type=int, default=5, help="of the search")
    parser.add_argument("--nbest", type=int, nargs="+", default=[1, 5], help="to write, and score")
    args = parser.parse_args()
    if args.quick:
        args.members, args.sentences, args.beam, args.nbest, args.repeats = 2, 20, 2, [1, 2], 2
    return args


def make_student(work: Workload, folder: Path) -> Path:
    """An untrained Prior Network."""
    path = folder / "student.pt"
    trainer = work.trainer(
        "--task", OURS, "--criterion", "pd_send2", "--teacher-paths", work.teachers[0]
    )
    trainer.consolidate_optimizer()
    trainer.save_checkpoint(str(path), {})
    return path


def compile_kernels(classes: int) -> float:
    """Seconds to compile what scores tokens, which fairseq-generate does when a run is long."""
    start = measuring.clock()
    logits = torch.zeros(1, classes).expand(_compile.MIN_ELEMENTS // classes + 2, classes)
    dirichlet_measures(logits)
    for weights in (None, torch.zeros(2)):
        ensemble = EnsembleStatistics()
        ensemble.update(logits[:2].log_softmax(-1), weights)
        ensemble.measures()
    return measuring.clock() - start


def run(work: Workload, path: str, task: str, results: Path, args: List[Any]) -> None:
    """``fairseq-generate``, its output to files."""
    argv = [
        work.data, "--gen-subset", "test", "--path", path, "--task", task, "--cpu",
        "--required-batch-size-multiple", 1, "--num-workers", 0, "--results-path", results,
        # an untrained model does not end by itself
        "--max-len-a", 1, "--max-len-b", 0, *args,
    ]  # fmt: skip
    parsed = options.parse_args_and_arch(
        options.get_generation_parser(), [str(arg) for arg in argv]
    )
    with open(os.devnull, "w") as null, contextlib.redirect_stdout(null):
        generate(parsed)


def main() -> None:
    """Print the section of the report."""
    args = parse_args()
    torch.set_num_threads(args.threads)
    size = workload.TINY if args.quick else workload.Size()
    compiling = 0.0 if args.quick else compile_kernels(size.classes)
    measuring.say(f"compiled in {compiling:.1f} s")
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        work = workload.make(folder, size, args.members, test=args.sentences)
        paths = {
            "Prior Network": str(make_student(work, folder)),
            f"ensemble of {args.members}": ":".join(work.teachers),
        }
        for model, path in paths.items():
            for nbest in args.nbest:
                options_ = ["--beam", args.beam, "--nbest", nbest]
                cases = {
                    task: functools.partial(run, work, path, task, folder / task, options_)
                    for task in (PLAIN, OURS)
                }
                seconds = measuring.interleaved(cases, args.repeats)
                rows.append(row(model, nbest, seconds))
                measuring.say(" | ".join(rows[-1]))
    print(
        f"""## fairseq-generate with and without uncertainty

Beam {args.beam}, {args.sentences} sentences of 5 to 25 tokens, {size.classes:,} types,
Transformers of {size.layers} + {size.layers} layers, dimension {size.dim}, {args.threads} threads.
Medians of {args.repeats} turns, in brackets the least and the greatest ratio of a turn. Kernels
were compiled before, in {compiling:.1f} s; fairseq-generate compiles those that it needs once
{_compile.MIN_ELEMENTS:,} logits are scored ({_compile.MIN_ELEMENTS // size.classes:,} tokens here).

{measuring.table(["model", "n-best", "plain", "with uncertainty", "ratio"], rows)}
"""
    )


def row(model: str, nbest: int, seconds: Dict[str, List[float]]) -> List[str]:
    """A row of the table."""
    plain, ours = seconds[PLAIN], seconds[OURS]
    return [
        model,
        str(nbest),
        f"{statistics.median(plain):.2f} s",
        f"{statistics.median(ours):.2f} s",
        measuring.ratio(ours, plain),
    ]


if __name__ == "__main__":
    main()
