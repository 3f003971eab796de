"""Data and models for the benchmarks: random sentences, and models of the quickstart's size."""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple

from fairseq import options, tasks, utils
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.trainer import Trainer
from omegaconf import DictConfig

import fairseq_pdd.tasks  # noqa: F401  (registers the tasks like --user-dir)


class Size(NamedTuple):
    """Size of data and models."""

    classes: int = 4000
    max_tokens: int = 2000
    sentences: int = 3000
    layers: int = 2
    dim: int = 128


TINY = Size(classes=100, max_tokens=200, sentences=200, layers=1, dim=16)


@dataclass
class Workload:
    """Binarised data and the checkpoints of an ensemble."""

    data: Path
    teachers: List[str]
    size: Size

    def config(self, *args: Any) -> DictConfig:
        """Build the configuration of ``fairseq-train`` from command-line arguments."""
        size = self.size
        argv = [
            self.data, "--arch", "transformer_iwslt_de_en", "--share-all-embeddings",
            "--encoder-layers", size.layers, "--decoder-layers", size.layers,
            "--encoder-embed-dim", size.dim, "--decoder-embed-dim", size.dim,
            "--encoder-ffn-embed-dim", 4 * size.dim, "--decoder-ffn-embed-dim", 4 * size.dim,
            "--dropout", 0.1, "--optimizer", "adam", "--adam-betas", "(0.9, 0.98)",
            "--lr", 1e-3, "--clip-norm", 1.0, "--max-tokens", size.max_tokens, "--num-workers", 0,
            "--cpu", *args,
        ]  # fmt: skip
        parsed = options.parse_args_and_arch(
            options.get_training_parser(), [str(arg) for arg in argv]
        )
        return convert_namespace_to_omegaconf(parsed)

    def trainer(self, *args: Any) -> Trainer:
        """Build fairseq's trainer from command-line arguments, ready to train."""
        cfg = self.config(*args)
        utils.set_torch_seed(cfg.common.seed)
        task = tasks.setup_task(cfg.task)
        trainer = Trainer(
            cfg, task, task.build_model(cfg.model), task.build_criterion(cfg.criterion)
        )
        trainer.begin_epoch(1)
        return trainer


def plain(label_smoothing: float = 0.1) -> List[Any]:
    """Return the arguments of ordinary training."""
    return ["--criterion", "label_smoothed_cross_entropy", "--label-smoothing", label_smoothing]


def batches(trainer: Trainer) -> Iterator[Dict[str, Any]]:
    """Yield the training batches in the order of one epoch."""
    yield from trainer.get_train_iterator(epoch=1).next_epoch_itr(shuffle=True)


def make(folder: Path, size: Size, members: int, test: int = 0) -> Workload:
    """Make random data, with ``test`` sentences to translate, and untrained members.

    The members differ in their seed.
    """
    workload = Workload(folder / "bin", [], size)
    _preprocess(folder, size, test)
    for seed in range(1, members + 1):
        path = folder / f"member{seed}.pt"
        trainer = workload.trainer("--seed", seed, *plain())
        trainer.consolidate_optimizer()  # as fairseq-train does before it saves
        trainer.save_checkpoint(str(path), {})
        workload.teachers.append(str(path))
    return workload


def _preprocess(folder: Path, size: Size, test: int) -> None:
    from fairseq_cli.preprocess import main

    generator = random.Random(0)
    words = [f"w{number}" for number in range(size.classes - 4)]  # fairseq has 4 own symbols
    every = [" ".join(words[i : i + 10]) for i in range(0, len(words), 10)]

    def write(split: str, side: str, first: List[str], count: int) -> None:
        lines = [
            " ".join(generator.choices(words, k=generator.randint(5, 25))) for _ in range(count)
        ]
        (folder / f"{split}.{side}").write_text("\n".join(first + lines) + "\n", encoding="utf-8")

    argv = ["-s", "xx", "-t", "yy", "--trainpref", folder / "train", "--joined-dictionary",
            "--destdir", folder / "bin"]  # fmt: skip
    for side in ("xx", "yy"):
        write("train", side, every, size.sentences)
    if test > 0:
        argv += ["--testpref", folder / "test"]
        for side in ("xx", "yy"):
            write("test", side, [], test)
    main(options.get_preprocessing_parser().parse_args([str(arg) for arg in argv]))
