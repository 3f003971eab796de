"""Run all benchmarks, each in its own process, and write RESULTS.md and cost.png."""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import List

import measuring

from fairseq_pdd.version import __version__

HERE = Path(__file__).parent
SCRIPTS = ("imports.py", "loss.py", "teacher.py", "step.py", "generate.py", "assess.py")


def parse_args() -> argparse.Namespace:
    """Read the options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the report")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, for tests")
    return parser.parse_args()


def section(script: str, options: List[str]) -> str:
    """Run a benchmark; return its section of the report."""
    measuring.say(f"== {script}")
    command = [sys.executable, str(HERE / script), *options]
    process = subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8")
    if process.returncode != 0:
        sys.exit(f"error: {script} failed; nothing was written")
    return process.stdout


def main() -> None:
    """Write the report."""
    args = parse_args()
    started, machine = time.time(), measuring.machine()
    args.out.mkdir(parents=True, exist_ok=True)
    picture, report = args.out / "cost.png", args.out / "RESULTS.md"
    common = ["--quick"] if args.quick else []
    sections = []
    for script in SCRIPTS:
        own = ["--plot", f"{picture}.new.png"] if script == "loss.py" else []
        sections.append(section(script, [*common, *own]))
    minutes = (time.time() - started) / 60
    text = f"""# What fairseq_pdd costs

Written by `make bench` in {minutes:.0f} minutes; fairseq_pdd {__version__}.
{machine}.

"""
    (new := report.with_suffix(".md.new")).write_text(text + "\n".join(sections), encoding="utf-8")
    os.replace(new, report)
    os.replace(f"{picture}.new.png", picture)
    measuring.say(f"wrote {report} and {picture}")


if __name__ == "__main__":
    main()
