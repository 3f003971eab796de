"""Runs the real fairseq commands in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Sequence

REPOSITORY = Path(__file__).parents[2]
USER_DIR = REPOSITORY / "fairseq_pdd"


def run(command: str, *args: Any, check: bool = True) -> "subprocess.CompletedProcess[str]":
    """Run a console command of this environment; on one thread, as tests run side by side."""
    executable = Path(sys.executable).parent / command
    result = subprocess.run(
        [str(executable), *map(str, args)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "FAIRSEQ_PDD_COMPILE": "0"},
        timeout=600,
    )
    if check and result.returncode != 0:
        raise AssertionError(
            f"{command} ended with {result.returncode}\n{result.stdout[-3000:]}\n"
            f"{result.stderr[-6000:]}"
        )
    return result


def train(data: Path, save_dir: Path, *args: Any, check: bool = True, updates: int = 60) -> Any:
    """``fairseq-train`` of a tiny model."""
    return run(
        "fairseq-train", data, "--user-dir", USER_DIR, "--cpu", "--save-dir", save_dir,
        *_unless(args, "--arch", "transformer_iwslt_de_en"),
        *_unless(args, "--encoder-embed-dim", 32), *_unless(args, "--decoder-embed-dim", 32),
        *_unless(args, "--encoder-ffn-embed-dim", 64),
        *_unless(args, "--decoder-ffn-embed-dim", 64),
        *_unless(args, "--encoder-layers", 1), *_unless(args, "--decoder-layers", 1),
        "--optimizer", "adam", *_unless(args, "--lr", 0.005), *_unless(args, "--max-tokens", 600),
        "--max-update", updates, "--no-epoch-checkpoints", "--no-progress-bar",
        "--log-format", "json", *_unless(args, "--log-interval", 20), *args, check=check,
    )  # fmt: skip


def _unless(args: Sequence[Any], name: str, value: Any = None) -> Sequence[Any]:
    return () if name in args else (name, value)


def generate(data: Path, path: str, *args: Any, check: bool = True) -> Any:
    """``fairseq-generate`` with the plugin's task."""
    return run(
        "fairseq-generate", data, "--user-dir", USER_DIR, "--cpu", "--task",
        "distill_translation", "--path", path, "--beam", 3, "--max-tokens", 2000, *args,
        check=check,
    )  # fmt: skip
