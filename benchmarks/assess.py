"""Measure the time of assessing records, relative to parsing their JSON."""

import argparse
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

import measuring

from fairseq_pdd.assess import (
    Metric,
    combine,
    detect_all,
    rejection,
    sentence_errors,
    word_errors,
    word_scores,
)
from fairseq_pdd.records import read_records

MEASURES = ("total", "data", "mutual_information", "epkl", "rmi", "score", "rmi_score")
TOKENS = 25


def parse_args() -> argparse.Namespace:
    """Read the options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sentences", type=int, default=10_000, help="sentences per file")
    parser.add_argument("--nbest", type=int, default=5, help="hypotheses per sentence")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, for tests")
    args = parser.parse_args()
    if args.quick:
        args.sentences = 50
    return args


def write(path: Path, args: argparse.Namespace, seed: int) -> None:
    """Write records of an ensemble, PrEx and ExPr, of the size of fairseq-generate's."""
    rng = random.Random(seed)

    def block() -> Dict[str, Any]:
        token = {
            name: [float(f"{rng.expovariate(3 - seed):.7g}") for _ in range(TOKENS)]
            for name in MEASURES
        }
        means = {name: sum(column) / TOKENS for name, column in token.items()}
        return {"log_prob": -sum(token["score"]), "sequence": means, "token": token}

    with open(path, "w", encoding="utf-8") as file:
        for number in range(args.sentences):
            reference = [f"word{rng.randrange(500)}" for _ in range(TOKENS - 1)]
            for rank in range(args.nbest):
                words = [word if rng.random() < 0.8 else "other" for word in reference]
                record = {
                    "id": number,
                    "rank": rank,
                    "source": " ".join(reference),
                    "reference": " ".join(reference),
                    "hypothesis": " ".join(words),
                    "tokens": [*(f"▁{word}" for word in words), "</s>"],
                    **block(),
                    "expr": block(),
                }
                file.write(json.dumps(record) + "\n")


def parse(path: Path) -> None:
    """Parse each line as JSON, the least work of any reader."""
    with open(path, encoding="utf-8") as file:
        for line in file:
            json.loads(line)


def main() -> None:
    """Print the section of the report."""
    args = parse_args()
    rows: List[List[str]] = []
    base = 0.0

    def timed(name: str, case: Callable[[], Any]) -> Any:
        nonlocal base
        measuring.say(name)
        start = time.perf_counter()
        result = case()
        seconds = time.perf_counter() - start
        base = base or seconds
        rows.append([name, f"{seconds:.1f}", f"{seconds / base:.2f}"])
        return result

    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("test.jsonl", "ood.jsonl")]
        for seed, path in enumerate(paths):
            write(path, args, seed)
        size = measuring.size(paths[0].stat().st_size)
        timed("parsing a file as JSON", lambda: parse(paths[0]))
        inside = timed("reading the in-domain file", lambda: read_records(paths[0], token_ranks=1))
        outside = timed(
            "reading the out-of-domain file", lambda: read_records(paths[1], token_ranks=0)
        )
    values, outputs = combine(inside), inside.best()
    timed("detection, 1000 resamples", lambda: detect_all(values, combine(outside)))
    error = timed("sentence BLEU", lambda: sentence_errors(outputs, Metric.bleu))
    timed("rejection curves", lambda: [rejection(error, column) for column in values.values()])
    words = timed("labels of words", lambda: word_scores(outputs))
    timed("word errors", lambda: word_errors(words))
    print(
        f"""## Assessment

`fairseq-pdd assess` on an ensemble's records of {args.sentences:,} × {args.nbest} hypotheses of \
{TOKENS} tokens ({size} per file), {len(values)} measures each.

{measuring.table(["step", "seconds", "of parsing a file"], rows)}
"""
    )


if __name__ == "__main__":
    main()
