"""Cost of imports and of ``fairseq-pdd --help``: seconds of a new process."""

import argparse
import statistics
import subprocess
import sys
from typing import Callable, Dict

import measuring

HELP = "from fairseq_pdd.cli.main import app; app(['--help'])"
CASES = {
    "`python -c pass`": "pass",
    "`import fairseq_pdd`": "import fairseq_pdd",
    "`fairseq-pdd --help`": HELP,
    "`import torch`": "import torch",
    "`import fairseq_pdd.core`": "import fairseq_pdd.core",
    "`import fairseq.tasks`": "import fairseq.tasks",
    "`import fairseq_pdd.tasks`": "import fairseq_pdd.tasks",
}


def parse_args() -> argparse.Namespace:
    """Parse the options."""
    parser = measuring.parser(__doc__)
    args = parser.parse_args()
    if args.quick:
        args.repeats = 1
    return args


def process(code: str) -> Callable[[], None]:
    """Return a function that runs Python code in a new process."""

    def run() -> None:
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)

    return run


def main() -> None:
    """Print the section of the report."""
    args = parse_args()
    cases: Dict[str, measuring.Case] = {name: process(code) for name, code in CASES.items()}
    seconds = measuring.interleaved(cases, args.repeats)
    base = statistics.median(seconds["`python -c pass`"])
    rows = [
        [name, f"{statistics.median(each):.2f} s", f"{statistics.median(each) - base:.2f} s"]
        for name, each in seconds.items()
    ]
    print(
        f"""## Imports

Medians of {args.repeats} new processes, and the same without the start of Python.

{measuring.table(["process", "seconds", "beside `python -c pass`"], rows)}
"""
    )


if __name__ == "__main__":
    main()
