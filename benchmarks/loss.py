"""Cost of the loss relative to a cross-entropy and to the textbook's formulas.

Forward and backward of each run on the same logits in turns. Compilation is reported apart.
"""

import argparse
import statistics
from typing import Callable, Dict, List, Sequence, Tuple

import measuring
import textbook
import torch
import torch.nn.functional as F
from torch import Tensor

from fairseq_pdd.core import (
    EnsembleStatistics,
    _compile,
    _rowwise,
    dirichlet_measures,
    mean_kl,
    reverse_kl_proxy_dirichlet,
)

MEMBERS = 10
CROSS_ENTROPY = "cross-entropy"
COMPILED = "pd_send2"
EAGER = "pd_send2, not compiled"
NEW_MEMORY = "pd_send2, gradient in new memory"
TEXTBOOK = f"textbook, {MEMBERS} members"
CASES = (
    CROSS_ENTROPY,
    COMPILED,
    EAGER,
    NEW_MEMORY,
    "send",
    "measures of the student",
    f"pd_send2, {MEMBERS} members",
    TEXTBOOK,
)
# The textbook's tensors have M times as many elements, of twice the size. It gets fewer rows, and
# its figures are scaled to the rows of the others.
TEXTBOOK_SHARE = 8


def parse_args() -> argparse.Namespace:
    """Parse the options."""
    parser = measuring.parser(__doc__)
    parser.add_argument("--classes", type=int, nargs="+", default=[1000, 5000, 40_000], help="K")
    parser.add_argument("--elements", type=int, default=512 * 40_000, help="T times K of a batch")
    parser.add_argument("--device", default="cpu", help="as PyTorch names it: cpu, cuda")
    parser.add_argument(
        "--dtype", choices=["float32", "bfloat16", "float16"], default="float32", help="of logits"
    )
    parser.add_argument("--plot", metavar="FILE", help="draw the cost against K")
    args = parser.parse_args()
    if args.quick:
        args.classes, args.elements, args.repeats = [100, 500, 1000], 1 << 12, 2
    return args


def make_cases(
    rows: int, classes: int, args: argparse.Namespace
) -> Tuple[Dict[str, Callable[[], object]], Dict[str, float]]:
    """Return each of ``CASES`` as a function, and the factor of its times and memory."""
    generator = torch.Generator().manual_seed(0)

    def randn(*shape: int) -> Tensor:
        values = torch.randn(*shape, generator=generator) * 3
        return values.to(args.device, getattr(torch, args.dtype))

    few = max(2, rows // TEXTBOOK_SHARE)
    logits = randn(rows, classes).requires_grad_()
    common = randn(rows, classes)
    members = [common + randn(rows, classes) / 5 for _ in range(MEMBERS)]
    few_logits = logits.detach()[:few].clone().requires_grad_()
    few_members = torch.stack([member[:few] for member in members], dim=1)
    target = torch.randint(classes, (rows,), generator=generator).to(args.device)

    def teacher() -> EnsembleStatistics:
        result = EnsembleStatistics()
        for member in members:
            result.update(F.log_softmax(member, dim=-1, dtype=torch.float32))
        return result

    known = teacher()
    mean, lam = known.mean_probs, known.inverse_precision

    def train(loss: Callable[[], Tensor]) -> Callable[[], None]:
        def run() -> None:
            loss().sum().backward()
            logits.grad = few_logits.grad = None

        return run

    def with_members() -> Tensor:
        target = teacher()
        return reverse_kl_proxy_dirichlet(logits, target.mean_probs, target.inverse_precision)

    def ours(compiled: bool = True) -> Tensor:
        return reverse_kl_proxy_dirichlet(logits, mean, lam, compiled=compiled)

    def in_new_memory(run: Callable[[], None]) -> Callable[[], None]:
        def other() -> None:
            in_place = _rowwise._is_graph_kept
            _rowwise._is_graph_kept = lambda: True
            run()
            _rowwise._is_graph_kept = in_place

        return other

    def measures() -> None:
        dirichlet_measures(logits)

    cases = (
        train(lambda: F.cross_entropy(logits, target, reduction="none")),
        train(ours),
        train(lambda: ours(compiled=False)),
        in_new_memory(train(ours)),
        train(lambda: mean_kl(logits, mean)),
        measures,
        train(with_members),
        train(lambda: textbook.loss(few_logits, *textbook.statistics(few_members))),
    )
    scale = dict.fromkeys(CASES, 1.0)
    scale[TEXTBOOK] = rows / few
    return dict(zip(CASES, cases)), scale


class Costs:
    """Collect median seconds and peak bytes of every case by size."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.time_rows: List[List[str]] = []
        self.memory_rows: List[List[str]] = []
        # seconds for as many rows as `elements` makes, by case and K
        self.seconds: Dict[str, Dict[int, float]] = {case: {} for case in CASES}

    def measure(self, classes: int, in_table: bool) -> None:
        """Measure the figures for one vocabulary."""
        args = self.args
        rows = max(2, args.elements // classes)
        cases, scale = make_cases(rows, classes, args)
        start = measuring.clock()
        for case in cases.values():
            case()
        measuring.say(f"[{rows}, {classes}]: first calls {measuring.clock() - start:.1f} s")
        seconds = measuring.interleaved(cases, args.repeats if in_table else args.repeats // 2 + 1)
        for name, values in seconds.items():
            self.seconds[name][classes] = scale[name] * statistics.median(values)
        if not in_table:
            return
        base = seconds[CROSS_ENTROPY]
        size = [f"{classes:,}", f"{rows:,}"]
        self.time_rows.append(
            [*size, f"{statistics.median(base) * 1000:.3g} ms"]
            + [measuring.ratio(seconds[case], base, scale[case]) for case in CASES[1:]]
        )
        tensor = rows * classes * 4
        self.memory_rows.append(
            size
            + [f"{measuring.peak_bytes(cases[case]) * scale[case] / tensor:.1f}" for case in CASES]
        )


def growth(args: argparse.Namespace, of: str, shapes: Sequence[Tuple[int, int]]) -> List[str]:
    """Return table cells: the growth of time from shape to shape ``(T, K)``."""
    cases = {}
    for rows, classes in shapes:
        each, _ = make_cases(rows, classes, args)
        cases[f"{rows}, {classes}"] = each[COMPILED]
    medians = [statistics.median(s) for s in measuring.interleaved(cases, args.repeats).values()]
    sizes = [shape["TK".index(of)] for shape in shapes]
    return [of, f"[{shapes[0][0]:,}, {shapes[0][1]:,}]", f"[{shapes[-1][0]:,}, {shapes[-1][1]:,}]",
            *measuring.growth(sizes, medians)]  # fmt: skip


def plot(costs: Costs, path: str) -> None:
    """Draw the cost against K, both logarithmic."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for case in (TEXTBOOK, EAGER, COMPILED, CROSS_ENTROPY):
        by_classes = sorted(costs.seconds[case].items())
        milliseconds = [
            1000 * seconds / max(2, costs.args.elements // classes) * 1000
            for classes, seconds in by_classes
        ]
        axes.plot([classes for classes, _ in by_classes], milliseconds, marker="o", label=case)
    axes.set(xscale="log", yscale="log", xlabel="classes K", ylabel="ms for 1,000 tokens")
    axes.set_title("forward and backward of the loss")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Print the section of the report."""
    args = parse_args()
    torch.set_num_threads(args.threads)
    costs = Costs(args)
    for classes in args.classes:
        costs.measure(classes, in_table=True)
    most = max(args.classes)
    if args.plot:
        for classes in (most // 2, most // 4, most // 16, most // 80):
            costs.measure(classes, in_table=False)
        plot(costs, args.plot)
    rows, middle = max(2, args.elements // most), args.classes[len(args.classes) // 2]
    grown = [
        growth(args, "T", [(max(16, args.elements // middle) // n, middle) for n in (8, 4, 2, 1)]),
        growth(args, "K", [(rows, most // n) for n in (32, 16, 8, 4, 2, 1)]),
    ]
    if _compile._State.failed:
        print("**No compiler worked here: everything ran in eager mode.**\n")
    print(
        f"""## The loss

Forward and backward on logits [T, K], {args.dtype}, {args.device}, {args.threads} threads.
Times over that of `F.cross_entropy`: medians of {args.repeats} turns, in brackets the least and the
greatest ratio of a turn. "{MEMBERS} members" includes the statistics of as many members, given
their logits; "textbook" is `benchmarks/textbook.py`, timed on 1/{TEXTBOOK_SHARE} of the rows and
scaled. "Gradient in new memory" is the loss without the one private function of PyTorch that it
uses, which reports `retain_graph`.

{measuring.table(["K", "T", CROSS_ENTROPY, *CASES[1:]], costs.time_rows)}

Peak memory beside the inputs, in float32 tensors [T, K]:

{measuring.table(["K", "T", *CASES], costs.memory_rows)}

Growth of the time of `{COMPILED}`: the exponent p of the best fit of T^p or K^p, and the largest
factor of a doubling.

{measuring.table(["with", "from", "to", "exponent", "doubling"], grown)}
"""
    )


if __name__ == "__main__":
    main()
