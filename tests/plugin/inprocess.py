"""Functions that run fairseq's commands, and build their objects, in the test's process."""

import io
import json
import logging
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple

import numpy as np
import torch
from fairseq import checkpoint_utils, options, tasks
from fairseq.data import data_utils
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.logging import metrics
from omegaconf import DictConfig

import fairseq_pdd.tasks  # noqa: F401  (registers the tasks like --user-dir)
from fairseq_pdd._compat import fused_weights

from .commands import generate_args, train_args

DROPS_A_LAST_BATCH = not data_utils.batch_by_size(
    np.arange(3), None, num_tokens_vec=np.ones(3, dtype=np.int64), max_tokens=9,
    required_batch_size_multiple=2,
)[1:]  # fmt: skip
"""True for the versions of fairseq that translate two of three sentences with this multiple."""


class Trained(NamedTuple):
    """Log lines of a training, by kind."""

    train: List[Dict[str, float]]
    valid: List[Dict[str, float]]


def training_config(data: Path, save_dir: Any, *args: Any, updates: int = 2) -> DictConfig:
    """Build the configuration of ``fairseq-train`` from command-line arguments."""
    parser = options.get_training_parser()
    argv = train_args(data, save_dir, *args, updates=updates)
    return convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, argv))


def train(data: Path, save_dir: Any, *args: Any, updates: int = 2, bf16: bool = False) -> Trained:
    """Run ``fairseq-train`` on a tiny model; return its log."""
    from fairseq_cli.train import main

    # fairseq stores the best validation loss of the process there
    vars(checkpoint_utils.save_checkpoint).clear()
    metrics.reset()
    cfg = training_config(data, save_dir, *args, updates=updates)
    if bf16:  # as in fairseq-hydra-train: the option --bf16 would require a TPU
        cfg.common.bf16 = cfg.task.bf16 = True
    with _messages() as messages:
        main(cfg)
    logs = Trained([], [])
    for name, message in messages:
        if name in ("train", "valid") and message.startswith("{"):
            values = {k: float(v) for k, v in json.loads(message).items() if v is not None}
            getattr(logs, name).append(values)
    return logs


def generate(data: Path, path: Any, *args: Any) -> List[str]:
    """Run ``fairseq-generate``; return the lines of its output."""
    from fairseq_cli.generate import main

    parser = options.get_generation_parser()
    parsed = options.parse_args_and_arch(parser, generate_args(data, path, *args))
    stdout = io.StringIO()
    with redirect_stdout(stdout):
        main(parsed)
    return stdout.getvalue().splitlines()


def interactive(data: Path, path: Any, file: Path, *args: Any) -> List[str]:
    """Run ``fairseq-interactive`` on the lines of a file; return the lines of its output."""
    from fairseq_cli.interactive import main

    argv = [
        data, "--cpu", "--task", "distill_translation", "--path", path, "--beam", 3,
        "--input", file, *args,
    ]  # fmt: skip
    parser = options.get_interactive_generation_parser()
    parsed = options.parse_args_and_arch(parser, [str(arg) for arg in argv])
    stdout = io.StringIO()
    with redirect_stdout(stdout):
        main(convert_namespace_to_omegaconf(parsed))
    return stdout.getvalue().splitlines()


def task_for(data: Path, *args: Any) -> Any:
    """Set up a ``distill_translation`` task for training."""
    cfg = training_config(data, "unused", "--task", "distill_translation", *args)
    return tasks.setup_task(cfg.task)


def build(data: Path, *args: Any) -> Tuple[Any, Any, Any]:
    """Build task, model and criterion like ``fairseq-train``."""
    cfg = training_config(data, "unused", *args)
    task = tasks.setup_task(cfg.task)
    return task, task.build_model(cfg.model), task.build_criterion(cfg.criterion)


def load(path: Any, task: Any = None, data: Any = None) -> Any:
    """Load a checkpoint's model in evaluation mode, with ``build_model`` of ``task`` if given."""
    overrides = None if data is None else {"data": str(data)}
    models, _, _ = checkpoint_utils.load_model_ensemble_and_task([str(path)], overrides, task)
    return models[0].eval()


def batch(task: Any, split: str, indices: Any = None) -> Dict[str, Any]:
    """Collate the given sentences (default: all) of a split."""
    task.load_dataset(split)
    dataset = task.dataset(split)
    indices = range(len(dataset)) if indices is None else indices
    return dataset.collater([dataset[i] for i in indices])


def numbers(weights: Dict[str, Any]) -> Dict[str, torch.Tensor]:
    """Return weights without copies, and without the buffers that fairseq does not initialise."""
    copies = fused_weights(weights)
    return {
        name: value
        for name, value in weights.items()
        if name not in copies and not name.endswith("_float_tensor")
    }


def state(path: Any) -> Dict[str, Any]:
    """Read a checkpoint file with torch."""
    return torch.load(path, map_location="cpu", weights_only=True)


@contextmanager
def _messages() -> Iterator[List[Tuple[str, str]]]:
    messages: List[Tuple[str, str]] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append((record.name, record.getMessage()))

    root, handler = logging.getLogger(), Collect(logging.INFO)
    level = root.level
    root.setLevel(logging.INFO)
    root.addHandler(handler)
    try:
        yield messages
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
