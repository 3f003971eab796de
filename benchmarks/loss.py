"""What the Dirichlet loss costs: forward and backward against cross-entropy, in one run.

All cases take turns in every repeat, so what else the machine does hits them alike; a table of
median ratios is printed. Compiling is not counted, but its time is printed.
"""

import argparse
import os
import platform
import statistics
import time
from typing import Callable, Dict, Iterator, List, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from fairseq_pdd.core import dirichlet_measures, mean_kl, reverse_kl_proxy_dirichlet

SWITCH = "FAIRSEQ_PDD_COMPILE"
CASES = ("cross-entropy", "KL to the mean", "eager", "compiled", "measures")


def parse_args() -> argparse.Namespace:
    """Options of the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--classes", type=int, nargs="+", default=[1000, 4000, 40_000], help="vocabulary sizes"
    )
    parser.add_argument(
        "--elements", type=int, default=512 * 40_000, help="logits of a batch: rows x classes"
    )
    parser.add_argument("--repeats", type=int, default=7, help="timed runs of each case")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of PyTorch")
    parser.add_argument(
        "--skip-eager", action="store_true", help="leave out the slowest case, eager mode"
    )
    parser.add_argument("--device", default="cpu", help="as PyTorch names it: cpu, cuda")
    parser.add_argument(
        "--dtype", choices=["float32", "bfloat16", "float16"], default="float32", help="of logits"
    )
    return parser.parse_args()


def cases_of(args: argparse.Namespace) -> List[str]:
    """The cases asked for; the first one is what the others are compared to."""
    return [case for case in CASES if not (args.skip_eager and case == "eager")]


class PeakMemory:
    """Bytes allocated at most while it runs, on Linux or a GPU; elsewhere None."""

    def __init__(self, device: str) -> None:
        self.on_gpu = device.startswith("cuda")
        self.peak: Optional[int] = None

    def __enter__(self) -> "PeakMemory":
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
        elif os.path.exists("/proc/self/clear_refs"):
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")  # the peak starts anew
            self._before = self._status("VmRSS")
        return self

    def __exit__(self, *_: object) -> None:
        if self.on_gpu:
            self.peak = torch.cuda.max_memory_allocated() - self._before
        elif os.path.exists("/proc/self/clear_refs"):
            self.peak = self._status("VmHWM") - self._before

    @staticmethod
    def _status(field: str) -> int:
        with open("/proc/self/status") as file:
            (line,) = (line for line in file if line.startswith(field))
        return int(line.split()[1]) * 1024


def make_cases(rows: int, classes: int, device: str, dtype: torch.dtype) -> Dict[str, Callable]:
    """Each of ``CASES`` as a function without arguments."""
    generator = torch.Generator().manual_seed(0)

    def randn() -> Tensor:
        return torch.randn(rows, classes, generator=generator).to(device)

    logits = (randn() * 3).to(dtype).requires_grad_()
    mean = torch.softmax(randn() * 3, dim=-1)
    lam = torch.rand(rows, generator=generator).to(device) * 1e-3
    target = torch.randint(classes, (rows,), generator=generator).to(device)

    def train(loss: Callable[[], Tensor], compile_kernels: bool) -> Callable[[], None]:
        def run() -> None:
            os.environ[SWITCH] = "1" if compile_kernels else "0"
            loss().sum().backward()
            logits.grad = None

        return run

    def proxy() -> Tensor:
        return reverse_kl_proxy_dirichlet(logits, mean, lam)

    def measures() -> None:
        os.environ[SWITCH] = "1"
        dirichlet_measures(logits)

    return {
        "cross-entropy": train(lambda: F.cross_entropy(logits, target, reduction="none"), False),
        "KL to the mean": train(lambda: mean_kl(logits, mean), False),
        "eager": train(proxy, False),
        "compiled": train(proxy, True),
        "measures": measures,
    }


def synchronised(device: str) -> float:
    """Time when all that was asked of ``device`` is done."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter()


def measure(args: argparse.Namespace, classes: int) -> Iterator[str]:
    """Cells of the table's row for one vocabulary."""
    rows = max(2, args.elements // classes)
    names = cases_of(args)
    cases = make_cases(rows, classes, args.device, getattr(torch, args.dtype))
    start = time.perf_counter()
    for case in names:
        cases[case]()
    print(f"[{rows}, {classes}]: first calls took {time.perf_counter() - start:.1f} s", flush=True)
    seconds: Dict[str, List[float]] = {case: [] for case in names}
    for _ in range(args.repeats):
        for case in names:
            start = synchronised(args.device)
            cases[case]()
            seconds[case].append(synchronised(args.device) - start)
    medians = {case: statistics.median(values) for case, values in seconds.items()}

    yield f"{classes}"
    yield f"{rows}"
    yield f"{medians['cross-entropy'] * 1000:.0f} ms"
    for case in names[1:]:
        yield f"{medians[case] / medians['cross-entropy']:.2f}"
    for case in ("cross-entropy", "compiled"):
        with PeakMemory(args.device) as memory:
            cases[case]()
        peak = memory.peak
        yield "-" if peak is None else f"{peak / (rows * classes * 4):.1f}"


def main() -> None:
    """Print the table."""
    args = parse_args()
    torch.set_num_threads(args.threads)
    print(
        f"{platform.machine()} {platform.system()}, PyTorch {torch.__version__}, {args.device}, "
        f"{args.threads} threads, {args.dtype}, medians of {args.repeats}"
    )
    header = [
        "classes",
        "rows",
        "cross-entropy",
        *(f"{case} (ratio)" for case in cases_of(args)[1:]),
        "cross-entropy memory (tensors)",
        "compiled memory (tensors)",
    ]
    table = [header, ["---"] * len(header)]
    table += [list(measure(args, classes)) for classes in args.classes]
    for row in table:
        print("| " + " | ".join(row) + " |")
    print("ratio: time over that of cross-entropy; tensors: of float32 logits, beside the inputs")


if __name__ == "__main__":
    main()
