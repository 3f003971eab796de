"""Functions that run the real fairseq commands, each in its own process."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, List

REPOSITORY = Path(__file__).parents[2]
USER_DIR = REPOSITORY / "fairseq_pdd"

_DIM = 32
_ARCHITECTURES = {
    "transformer_iwslt_de_en": [
        "--encoder-embed-dim", _DIM, "--decoder-embed-dim", _DIM,
        "--encoder-ffn-embed-dim", 2 * _DIM, "--decoder-ffn-embed-dim", 2 * _DIM,
        "--encoder-layers", 1, "--decoder-layers", 1,
    ],
    "lstm": [
        "--encoder-embed-dim", _DIM, "--decoder-embed-dim", _DIM,
        "--encoder-hidden-size", _DIM, "--decoder-hidden-size", _DIM,
        "--decoder-out-embed-dim", _DIM,
    ],
    "fconv": [
        "--encoder-embed-dim", _DIM, "--decoder-embed-dim", _DIM,
        "--decoder-out-embed-dim", _DIM,
        "--encoder-layers", f"[({_DIM}, 3)]", "--decoder-layers", f"[({_DIM}, 3)]",
    ],
    # one convolution, so that padding behind an utterance has no effect on it
    "s2t_transformer_s": [
        "--encoder-embed-dim", _DIM, "--encoder-ffn-embed-dim", 2 * _DIM,
        "--conv-channels", _DIM, "--conv-kernel-sizes", 3, "--dropout", 0,
        "--encoder-layers", 1, "--decoder-layers", 1,
        "--encoder-attention-heads", 2, "--decoder-attention-heads", 2,
    ],
    "vggtransformer_1": [
        "--vggblock-enc-config", "[(4, 3, 2, 1, True), (8, 3, 2, 1, True)]",
        "--transformer-enc-config", f"(({_DIM}, 2, {2 * _DIM}, True, 0.0, 0.0, 0.0),)",
        "--enc-output-dim", _DIM, "--tgt-embed-dim", _DIM,
        "--conv-dec-config", f"(({_DIM}, 3, True),)",
        "--transformer-dec-config", f"(({_DIM}, 2, {2 * _DIM}, True, 0.0, 0.0, 0.0),)",
    ],
    "vggtransformer_enc_1": [
        "--vggblock-enc-config", "[(4, 3, 2, 1, True)]", "--enc-output-dim", _DIM,
        "--transformer-enc-config", f"(({_DIM}, 2, {2 * _DIM}, True, 0.0, 0.0, 0.0),)",
    ],
}  # fmt: skip
for _name, _as in (
    ("transformer_wmt_en_de_big", "transformer_iwslt_de_en"),
    ("vggtransformer_2", "vggtransformer_1"),
):
    _ARCHITECTURES[_name] = _ARCHITECTURES[_as]


def start(command: str, *args: Any) -> "subprocess.Popen[str]":
    """Start a console command of this environment, on one thread since tests run in parallel."""
    executable = Path(sys.executable).parent / command
    return subprocess.Popen(
        [str(executable), *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONIOENCODING": "utf-8",
        },
    )


def finish(
    process: "subprocess.Popen[str]", check: bool = True
) -> "subprocess.CompletedProcess[str]":
    """Wait for a command and collect its output."""
    try:
        stdout, stderr = process.communicate(timeout=600)
    finally:
        process.kill()
    result = subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)
    if check and result.returncode != 0:
        raise AssertionError(
            f"{process.args} ended with {result.returncode}\n{result.stdout[-3000:]}\n"
            f"{result.stderr[-6000:]}"
        )
    return result


def run(command: str, *args: Any, check: bool = True) -> "subprocess.CompletedProcess[str]":
    """Run a console command to its end."""
    return finish(start(command, *args), check)


def preprocess(text: Path, data: Path, *args: Any) -> "subprocess.CompletedProcess[str]":
    """Run ``fairseq-preprocess`` on ``text/{train,valid,test}.{xx,yy}``."""
    return run(
        "fairseq-preprocess", "-s", "xx", "-t", "yy", "--trainpref", text / "train",
        "--validpref", text / "valid", "--testpref", text / "test", "--destdir", data, *args,
    )  # fmt: skip


def train_args(data: Path, save_dir: Path, *args: Any, updates: int = 60) -> List[str]:
    """Return arguments of ``fairseq-train`` for a tiny model; ``args`` override the defaults."""
    arch = args[args.index("--arch") + 1] if "--arch" in args else "transformer_iwslt_de_en"
    return [
        str(arg)
        for arg in (
            data, "--cpu", "--save-dir", save_dir, "--arch", arch, *_ARCHITECTURES[arch],
            "--optimizer", "adam", "--lr", 0.005, "--max-tokens", 600, "--max-update", updates,
            "--no-epoch-checkpoints", "--no-progress-bar", "--log-format", "json",
            "--log-interval", 20, "--num-workers", 0,
            # with a buffer, fairseq's reading thread can abort a process that ends with an error
            "--data-buffer-size", 0, *args,
        )
    ]  # fmt: skip


def generate_args(data: Path, path: Any, *args: Any) -> List[str]:
    """Return arguments of ``fairseq-generate`` with the plugin's task."""
    return [
        str(arg)
        for arg in (
            data, "--cpu", "--task", "distill_translation", "--path", path, "--beam", 3,
            "--max-tokens", 2000, "--num-workers", 0,
            # with a larger multiple, fairseq drops the last batch
            "--required-batch-size-multiple", 1, *args,
        )
    ]  # fmt: skip


def train(data: Path, save_dir: Path, *args: Any, check: bool = True, updates: int = 60) -> Any:
    """Run ``fairseq-train`` on a tiny model with the user dir."""
    return run(
        "fairseq-train",
        *train_args(data, save_dir, "--user-dir", USER_DIR, *args, updates=updates),
        check=check,
    )


def generate(data: Path, path: Any, *args: Any, check: bool = True) -> Any:
    """Run ``fairseq-generate`` with the user dir and the plugin's task."""
    return run(
        "fairseq-generate", *generate_args(data, path, "--user-dir", USER_DIR, *args), check=check
    )
