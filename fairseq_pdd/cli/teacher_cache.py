"""``fairseq-pdd teacher-cache``: the ensemble's statistics, computed once."""

import enum
import logging
from pathlib import Path

import typer


class ProbsType(str, enum.Enum):
    """Type of the listed probabilities."""

    float16 = "float16"
    float32 = "float32"


class TeacherType(str, enum.Enum):
    """Type of the members' weights and activations."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


def teacher_cache(
    data: Path = typer.Argument(
        ..., help="Binarised data that students will be trained on, such as a transfer set."
    ),
    path: str = typer.Option(..., help="Checkpoints of the ensemble, joined with ':'."),
    destdir: Path = typer.Option(..., help="Folder for the cache."),
    subset: str = typer.Option(
        "train,valid", help="Subsets, joined with ','; students need that of validation, too."
    ),
    topk: int = typer.Option(
        64, min=1, help="Classes whose probability is stored for each token; the others share."
    ),
    dtype: ProbsType = typer.Option(ProbsType.float16, help="Type of stored probabilities."),
    teacher_dtype: TeacherType = typer.Option(
        TeacherType.float32, help="Type of the teachers' weights and activations."
    ),
    max_tokens: int = typer.Option(4000, min=1, help="Tokens in a batch."),
    workers: int = typer.Option(
        1, min=1, help="Processes, each with its own copy of the ensemble, on GPUs in turn."
    ),
    cpu: bool = typer.Option(False, "--cpu", help="Do not use GPUs."),
) -> None:
    """Run the ensemble once over DATA and store what students learn from.

    Then train with --teacher-cache DESTDIR in place of --teacher-paths: a step costs that of
    plain training, and no teacher needs memory. Each target token takes 4·K' + 16 bytes for K' =
    --topk (272 at the default; 2·K' more for float32, and 2·K' more from 65,537 classes on). The
    mass of the classes not listed counts as spread evenly over them. An interrupted run goes on
    where it stopped; every file has a checksum that training verifies.
    """
    # fairseq takes seconds to import, which --help should not
    from ..teacher.cache.build import CacheSettings, build_cache

    # fairseq's import has every library log everything
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger("fairseq_pdd").setLevel(logging.INFO)
    build_cache(
        CacheSettings(
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
        )
    )
