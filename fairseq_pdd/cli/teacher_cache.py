"""``fairseq-pdd teacher-cache``: compute an ensemble's statistics once."""

import enum
import logging
from pathlib import Path
from typing import Optional

import typer

from ._shards import NUM_SHARDS, SHARD_ID


class ProbsType(str, enum.Enum):
    """Floating type of the stored probabilities."""

    float16 = "float16"
    float32 = "float32"


class TeacherType(str, enum.Enum):
    """Floating type of the members' weights and activations."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


def teacher_cache(
    data: Path = typer.Argument(
        ..., help="Binarised data to train students on, such as a transfer set."
    ),
    path: str = typer.Option(..., help="Checkpoints of the ensemble, joined with ':'."),
    destdir: Path = typer.Option(..., help="Folder for the cache."),
    subset: str = typer.Option(
        "train,valid",
        help="Subsets, joined with ','; training also needs those of validation, and train1, "
        "train2 and so on if DATA has them.",
    ),
    topk: int = typer.Option(
        64, min=1, help="Number of classes whose probability is stored for each token."
    ),
    dtype: ProbsType = typer.Option(
        ProbsType.float16, help="Floating type of the stored probabilities."
    ),
    teacher_dtype: TeacherType = typer.Option(
        TeacherType.float32, help="Floating type of the teachers' weights and activations."
    ),
    max_tokens: int = typer.Option(4000, min=1, help="Tokens per batch."),
    workers: int = typer.Option(
        1, min=1, help="Processes, each with its own copy of the ensemble; GPUs are used in turn."
    ),
    cpu: bool = typer.Option(False, "--cpu", help="Do not use GPUs."),
    num_shards: int = NUM_SHARDS,
    shard_id: Optional[int] = SHARD_ID,
) -> None:
    """Run an ensemble once over DATA and store the statistics that students learn from.

    Then train with --teacher-cache DESTDIR instead of --teacher-paths: a training step costs
    little more than a plain one, and no teacher needs memory. Each target token takes 4·K' + 16
    bytes for K' = --topk: 272 by default, 2·K' more with --dtype float32, and 2·K' more for a
    dictionary of more than 65,536 types. Training spreads the mass of the classes that are not
    stored evenly over them. The command completes an interrupted run when it is called again.
    Every file has a checksum, which training verifies. Checkpoints and data are compared by
    content: audio and features are read once here, and once at the start of training.
    Sentences that are too long for a member are counted and skipped.
    """
    # imported here, since fairseq takes seconds that --help does not need
    from tqdm.contrib.logging import logging_redirect_tqdm

    from ..transfer.cache_builder import build_cache
    from ..transfer.cache_inputs import CacheSettings

    # INFO shows the number of members, their size and the memory that they need
    logging.basicConfig(format="%(message)s")
    logging.getLogger("fairseq_pdd").setLevel(logging.INFO)
    settings = CacheSettings(
        data=data,
        checkpoints=tuple(path.split(":")),
        destdir=destdir,
        subsets=tuple(subset.split(",")),
        topk=topk,
        dtype=dtype.value,
        teacher_dtype=teacher_dtype.value,
        max_tokens=max_tokens,
        workers=workers,
        cpu=cpu,
        num_shards=num_shards,
        shard_id=shard_id,
    )
    with logging_redirect_tqdm():  # keeps messages and progress bars apart
        build_cache(settings)
