#!/usr/bin/env python3
"""Run fairseq-generate several times in one process, which saves the time of starting it.

    generate_each.py OPTIONS -- OPTIONS OF RUN 1 -- OPTIONS OF RUN 2 …

Each run has the common options and its own options. Runs whose --uncertainty-path exists are
skipped.
"""

import sys
from itertools import groupby
from pathlib import Path

from fairseq import options
from fairseq_cli import generate

SEPARATOR = "--"


def main() -> None:
    groups = groupby(sys.argv[1:], lambda word: word == SEPARATOR)
    common, *runs = [list(words) for separates, words in groups if not separates]
    for run in runs:
        # fairseq reads --user-dir from sys.argv, which has it among the common options
        parser = options.get_generation_parser()
        args = options.parse_args_and_arch(parser, [*common, *run])
        if not Path(args.uncertainty_path).exists():
            generate.main(args)


if __name__ == "__main__":
    main()
