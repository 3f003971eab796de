"""What uncertainty adds to fairseq-generate: a Prior Network's and an ensemble's.

The whole command, from loading the checkpoints to the last line, with the task of this package
and with fairseq's own, in turns. Kernels are compiled in long runs only, so this is measured both
without and with them; what compiling takes is timed apart.
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
COMPILED = f"{OURS}, compiled"
_MIN_ELEMENTS = _compile.MIN_ELEMENTS * _compile.PATIENCE_FOR_MEASURES
LARGE = workload.Size(classes=32_000, layers=6, dim=512)


def parse_args() -> argparse.Namespace:
    """Options of the command."""
    parser = measuring.parser(__doc__)
    parser.add_argument("--members", type=int, default=4, help="of the ensemble")
    parser.add_argument("--sentences", type=int, default=400, help="to translate")
    parser.add_argument(
        "--large-sentences", type=int, default=24, help="to translate with the larger model"
    )
    parser.add_argument("--beam", type=int, default=5, help="of the search")
    parser.add_argument("--nbest", type=int, nargs="+", default=[1, 5], help="to write, and score")
    args = parser.parse_args()
    if args.quick:
        args.members, args.sentences, args.beam, args.nbest, args.repeats = 2, 20, 2, [1, 2], 2
        args.large_sentences = 5
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


def compile_kernels() -> float:
    """Seconds to compile what scores tokens."""
    measuring.compile_at_once()
    start, logits = measuring.clock(), torch.randn(4, 100)
    dirichlet_measures(logits)
    for weights in (None, torch.zeros(4)):
        ensemble = EnsembleStatistics()
        ensemble.update(logits.log_softmax(-1), weights)
        ensemble.measures()
    return measuring.clock() - start


def run(work: Workload, path: str, case: str, results: Path, args: List[Any]) -> None:
    """``fairseq-generate``, its output to files."""
    os.environ[_compile.SWITCH] = "1" if case == COMPILED else "0"
    task = PLAIN if case == PLAIN else OURS
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
    size, large = (workload.TINY,) * 2 if args.quick else (workload.Size(), LARGE)
    compiling = compile_kernels()
    measuring.say(f"compiled in {compiling:.1f} s")
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("small", "large"):
            (folder / part).mkdir()
        work = workload.make(folder / "small", size, args.members, test=args.sentences)
        of_large = workload.make(folder / "large", large, 1, test=args.large_sentences)
        models = {
            "Prior Network": (work, str(make_student(work, folder / "small"))),
            f"ensemble of {args.members}": (work, ":".join(work.teachers)),
            "Prior Network, large": (of_large, str(make_student(of_large, folder / "large"))),
        }
        for model, (data, path) in models.items():
            for nbest in args.nbest:
                options_ = ["--beam", args.beam, "--nbest", nbest]
                cases = {
                    case: functools.partial(run, data, path, case, folder / case, options_)
                    for case in (PLAIN, OURS, COMPILED)
                }
                seconds = measuring.interleaved(cases, args.repeats)
                rows.append(row(model, nbest, seconds))
                measuring.say(" | ".join(rows[-1]))
    headers = ["model", "n-best", "plain", "with uncertainty", "ratio", "ratio, compiled"]
    print(
        f"""## fairseq-generate with and without uncertainty

Beam {args.beam}, sentences of 5 to 25 tokens, {args.threads} threads: {args.sentences} of
{size.classes:,} types by Transformers of {size.layers} + {size.layers} layers, dimension
{size.dim}; "large" are {args.large_sentences} of {large.classes:,} types, {large.layers} +
{large.layers} layers, dimension {large.dim}. Medians of {args.repeats} turns, in brackets the least
and the greatest ratio of a turn. The last column is with compiled kernels, which took
{compiling:.1f} s before (less where PyTorch has them in its cache on disk); fairseq-generate
compiles them once {_MIN_ELEMENTS:,} logits were read
({_MIN_ELEMENTS // size.classes:,} tokens of {size.classes:,} types).

{measuring.table(headers, rows)}
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
        measuring.ratio(seconds[COMPILED], plain),
    ]


if __name__ == "__main__":
    main()
