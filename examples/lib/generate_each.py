#!/usr/bin/env python3
"""fairseq-generate, several times in one process, since starting takes longer than a small set.

    generate_each.py OPTIONS -- OPTIONS OF RUN 1 -- OPTIONS OF RUN 2 …

Each run has the common options and its own. Runs whose --uncertainty-path exists are skipped.
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
        # fairseq finds --user-dir in sys.argv, where it stands among the common options
        parser = options.get_generation_parser()
        args = options.parse_args_and_arch(parser, [*common, *run])
        if not Path(args.uncertainty_path).exists():
            generate.main(args)


if __name__ == "__main__":
    main()
