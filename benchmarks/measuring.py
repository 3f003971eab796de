"""Clocks, memory, tables and machine descriptions that the benchmarks share."""

import argparse
import math
import os
import platform
import statistics
import sys
import time
from typing import Any, Callable, Dict, List, Mapping, Sequence

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # PyTorch's profiler, on machines without a GPU

import numpy as np
import torch
from tabulate import tabulate
from torch._C._profiler import _EventType
from torch.profiler import ProfilerActivity, profile
from tqdm import tqdm

Case = Callable[[], Any]


def parser(description: str) -> argparse.ArgumentParser:
    """Make a parser with the options of every benchmark."""
    result = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    result.add_argument("--repeats", type=int, default=7, help="timed runs of each case")
    result.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of PyTorch")
    result.add_argument(
        "--quick", action="store_true", help="tiny sizes, to see that it runs; no fit figures"
    )
    return result


def say(text: str) -> None:
    """Show progress; standard output is the report's."""
    print(text, file=sys.stderr, flush=True)


def machine() -> str:
    """Describe the machine of the figures."""
    parts = [
        _processor(),
        f"{os.cpu_count()} cores",
        platform.system(),
        f"Python {platform.python_version()}",
        f"PyTorch {torch.__version__}",
    ]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    if hasattr(os, "getloadavg"):
        parts.append(f"load average at the start {os.getloadavg()[0]:.1f}")
    return ", ".join(parts)


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            (name, *_) = (line.split(":")[1].strip() for line in file if "model name" in line)
        return name
    except (OSError, ValueError):
        return platform.processor() or platform.machine()


def clock() -> float:
    """Return the time after all work on the device is done."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def interleaved(cases: Mapping[str, Case], repeats: int) -> Dict[str, List[float]]:
    """Measure the seconds of each case, ``repeats`` times.

    The cases take turns, so that other load on the machine affects them alike. One call of each
    comes first and does not count.
    """
    for case in cases.values():
        case()
    seconds: Dict[str, List[float]] = {name: [] for name in cases}
    for _ in range(repeats):
        for name, case in cases.items():
            start = clock()
            case()
            seconds[name].append(clock() - start)
    return seconds


def ratio(ours: Sequence[float], base: Sequence[float], scale: float = 1.0) -> str:
    """Format the ratio of medians and the range of the ratios of single turns."""
    each = [scale * a / b for a, b in zip(ours, base)]
    middle = scale * statistics.median(ours) / statistics.median(base)
    return f"{middle:.2f} ({min(each):.2f}–{max(each):.2f})"


def peak_bytes(case: Case) -> int:
    """Return the peak memory of the tensors that a case allocates."""
    case()
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        case()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        case()
    # not profiler.events(): in some versions of PyTorch those lack part of the allocations
    assert profiler.profiler is not None
    assert profiler.profiler.kineto_results is not None
    nodes = list(profiler.profiler.kineto_results.experimental_event_tree())
    changes = []
    while nodes:
        node = nodes.pop()
        nodes.extend(node.children)
        if node.tag == _EventType.Allocation:
            changes.append((node.start_time_ns, node.extra_fields.alloc_size))
    changes.sort(key=lambda change: change[0])
    return int(np.cumsum([0, *(size for _, size in changes)]).max())


def size(number: int) -> str:
    """Format a number of bytes."""
    return tqdm.format_sizeof(number, "B")


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Return p of the best fit ``cost = c · size^p``; 1 is linear growth."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def growth(sizes: Sequence[float], costs: Sequence[float]) -> "tuple[str, str]":
    """Format the fitted exponent and the largest factor of a doubling."""
    doublings = [
        (b / a) ** (math.log(2) / math.log(n / m))
        for a, b, m, n in zip(costs, costs[1:], sizes, sizes[1:])
    ]
    return f"{exponent(sizes, costs):.2f}", f"{max(doublings):.2f}"


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Format a Markdown table."""
    return tabulate(rows, headers=header, tablefmt="github", disable_numparse=True)
