"""Measure memory and time of an online teacher by the number of its members."""

import argparse
import itertools
import statistics
import tempfile
from pathlib import Path
from typing import Any, Dict, List

import measuring
import textbook
import torch
import workload

from fairseq_pdd.teacher import EnsembleTeacher
from fairseq_pdd.teacher.memory import weights_of


def parse_args() -> argparse.Namespace:
    """Read the options of the command."""
    parser = measuring.parser(__doc__)
    parser.add_argument(
        "--members", type=int, nargs="+", default=[2, 4, 6, 8, 10], help="numbers of members"
    )
    args = parser.parse_args()
    if args.quick:
        args.members, args.repeats = [2, 3], 2
    return args


def all_at_once(members: List[Any], sample: Dict[str, Any], mask: torch.Tensor) -> Any:
    """Compute Eq. 16 from one tensor of all members, ``[N, M, K]``."""
    with torch.no_grad():
        logits = [member(**sample["net_input"])[0][mask] for member in members]
        return textbook.statistics(torch.stack(logits, dim=1))


def main() -> None:
    """Print the section of the report."""
    args = parse_args()
    torch.set_num_threads(args.threads)
    size = workload.TINY if args.quick else workload.Size()
    with tempfile.TemporaryDirectory() as folder:
        work = workload.make(Path(folder), size, members=1)
        trainer = work.trainer(*workload.plain())
        (batch,) = itertools.islice(workload.batches(trainer), 1)
    task = trainer.task
    members = [task.build_model(trainer.cfg.model) for _ in range(max(args.members))]
    mask = batch["target"].ne(task.target_dictionary.pad())
    weights = weights_of(members[0].state_dict(), torch.float32).bytes
    tensor = 4 * int(mask.sum()) * len(task.target_dictionary)

    cases, rows = {}, []
    for count in args.members:
        teacher = EnsembleTeacher(members[:count], torch.float32)
        cases[count] = lambda teacher=teacher: teacher.statistics(batch, mask)
        cases[count]()
        ours = measuring.peak_bytes(cases[count])
        textbooks = measuring.peak_bytes(lambda n=count: all_at_once(members[:n], batch, mask))
        rows.append(
            [
                count,
                measuring.size(count * weights),
                measuring.size(ours),
                f"{ours / tensor:.1f}",
                measuring.size(textbooks),
                f"{textbooks / tensor:.1f}",
            ]
        )
        measuring.say(f"{count} members: {measuring.size(ours)}")
    seconds = measuring.interleaved({str(n): case for n, case in cases.items()}, args.repeats)
    medians = [statistics.median(values) for values in seconds.values()]
    for row, value in zip(rows, medians):
        row.append(f"{1000 * value:.0f} ms")
    power, doubling = measuring.growth(args.members, medians)
    header = [
        "members", "weights", "statistics", "in tensors [N, K]", "textbook", "in tensors [N, K]",
        "time",
    ]  # fmt: skip
    print(
        f"""## The online teacher

Statistics of a batch of {int(mask.sum()):,} target tokens and {len(task.target_dictionary):,} types
by members of {size.layers} + {size.layers} layers, dimension {size.dim}, float32,
{args.threads} threads: peak memory without the weights, with members' activations, and time
(median of {args.repeats}).
"textbook" holds all members' predictions at once, in float64.

{measuring.table(header, rows)}

Time grows with M to the power of {power}; the largest factor of a doubling is {doubling}.
"""
    )


if __name__ == "__main__":
    main()
