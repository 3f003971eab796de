"""Measure the cost of a training step, without and with a teacher.

Runs steps of fairseq's trainers in turns on the same batches: forward, backward, optimizer,
logging.
"""

import argparse
import contextlib
import itertools
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List

import measuring
import torch
import workload
from workload import Workload

from fairseq_pdd.transfer.cache_builder import build_cache
from fairseq_pdd.transfer.cache_inputs import CacheSettings

PLAIN = "label_smoothed_cross_entropy"


def parse_args() -> argparse.Namespace:
    """Read the options of the command."""
    parser = measuring.parser(__doc__)
    parser.add_argument("--members", type=int, default=10, help="members of the ensemble")
    parser.add_argument("--batches", type=int, default=6, help="batches per turn")
    parser.add_argument("--data", type=Path, help="binarised data (default: random sentences)")
    parser.add_argument("--teacher-paths", help="ensemble for --data, joined with ':'")
    args = parser.parse_args()
    if args.quick:
        args.members, args.batches, args.repeats = 2, 2, 2
    return args


def make_workload(args: argparse.Namespace, folder: Path) -> Workload:
    """Return the data of the command line, or make random data."""
    size = workload.TINY if args.quick else workload.Size()
    if args.data is None:
        return workload.make(folder, size, args.members)
    paths = itertools.cycle(args.teacher_paths.split(":"))
    return Workload(args.data, list(itertools.islice(paths, args.members)), size)


def make_cache(work: Workload, folder: Path) -> Path:
    """Make a teacher cache of the training data, with the default settings."""
    settings = CacheSettings(
        data=work.data,
        checkpoints=tuple(work.teachers),
        destdir=folder / "cache",
        subsets=("train",),
        topk=64,
        dtype="float16",
        teacher_dtype="float32",
        max_tokens=work.size.max_tokens,
        workers=1,
        cpu=True,
    )
    with contextlib.redirect_stdout(sys.stderr):  # standard output is for the report
        build_cache(settings)
    return settings.destdir


def cases_of(work: Workload, folder: Path) -> Dict[str, List[Any]]:
    """Return arguments of ``fairseq-train`` by case; the first case is the baseline."""
    distil = ["--task", "distill_translation", "--criterion", "pd_send2"]
    return {
        PLAIN: workload.plain(),
        f"pd_send2, online teacher of {len(work.teachers)}": [
            *distil, "--teacher-paths", ":".join(work.teachers),
        ],
        "pd_send2, teacher cache of top 64": [
            *distil, "--teacher-cache", make_cache(work, folder),
        ],
    }  # fmt: skip


def main() -> None:
    """Print the section of the report."""
    args = parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        work = make_workload(args, Path(folder))
        trainers = {
            name: work.trainer("--save-dir", folder, *arguments)
            for name, arguments in cases_of(work, Path(folder)).items()
        }
        batches = list(itertools.islice(workload.batches(trainers[PLAIN]), args.batches))
        seconds = measure(trainers, batches, args.repeats)
    tokens = statistics.mean(batch["ntokens"] for batch in batches)
    classes = len(trainers[PLAIN].task.target_dictionary)
    rows = [
        [
            name,
            f"{1000 * statistics.median(values) / len(batches):.0f} ms",
            measuring.ratio(values, seconds[PLAIN]),
        ]
        for name, values in seconds.items()
    ]
    print(
        f"""## A training step

`Trainer.train_step` of a Transformer of {work.size.layers} + {work.size.layers} layers, dimension
{work.size.dim}, {classes:,} types, {tokens:,.0f} target tokens per batch, members of the same size;
{"random sentences" if args.data is None else "own data"}, {args.threads} threads.
Medians of {args.repeats} turns of {len(batches)} batches, in brackets the least and the greatest
ratio of a turn.

{measuring.table(["criterion", "time of a step", "over plain"], rows)}
"""
    )


def measure(
    trainers: Dict[str, Any], batches: List[Dict[str, Any]], repeats: int
) -> Dict[str, List[float]]:
    """Measure the seconds of each trainer for all batches, ``repeats`` times."""
    seconds: Dict[str, List[float]] = {name: [] for name in trainers}
    for turn in range(repeats + 1):
        sums = dict.fromkeys(trainers, 0.0)
        for batch in batches:
            for name, trainer in trainers.items():
                start = measuring.clock()
                trainer.train_step([batch])
                sums[name] += measuring.clock() - start
        measuring.say(f"turn {turn}: " + ", ".join(f"{n} {s:.2f} s" for n, s in sums.items()))
        if turn > 0:  # the first one compiles
            for name, value in sums.items():
                seconds[name].append(value)
    return seconds


if __name__ == "__main__":
    main()
