"""``fairseq-pdd transfer-set``: build a training set from an ensemble's outputs."""

import enum
from pathlib import Path
from typing import List, Optional

import typer

from ._shards import NUM_SHARDS, SHARD_ID


class Targets(str, enum.Enum):
    """Target side of a transfer set."""

    reference = "reference"
    ensemble = "ensemble"
    both = "both"


def transfer_set(
    context: typer.Context,
    data: Path = typer.Argument(
        ...,
        help="Data of the ensemble: binarised text (fairseq-preprocess), or manifests of speech "
        "(*.tsv beside a config yaml, or *.json of fairseq's speech_recognition).",
    ),
    path: str = typer.Option(..., help="Checkpoints of the ensemble, joined with ':'."),
    destdir: Path = typer.Option(..., help="Folder for the new set; must not exist yet."),
    targets: Targets = typer.Option(
        Targets.ensemble,
        help="ensemble: the ensemble's translations (the paper's recipe; the data needs no "
        "targets); reference: the original targets; both: every source with each of the two.",
    ),
    subset: str = typer.Option(
        "train",
        help="Subset to translate; to train belong train1, train2 and so on, which fairseq-train "
        "joins. The new set calls it 'train'.",
    ),
    extra_source: List[Path] = typer.Option(
        [],
        help="Folder like DATA, with the same dictionary of the source (or the same features), "
        "whose subset adds sources that the ensemble labels, too, such as text of another domain. "
        "Its own targets are not used. Repeat the option for several folders.",
    ),
    share: Optional[float] = typer.Option(
        None,
        help="Share of the extra sources among all, such as 0.3: only as many of them are taken, "
        "evenly spread (default: all).",
    ),
    source_lang: Optional[str] = typer.Option(
        None, "--source-lang", "-s", help="Source language (default: that of the first member)."
    ),
    target_lang: Optional[str] = typer.Option(
        None, "--target-lang", "-t", help="Target language (default: that of the first member)."
    ),
    config_yaml: str = typer.Option("config.yaml", help="Speech: data configuration in DATA."),
    beam: int = typer.Option(5, min=1, help="Beam size."),
    max_tokens: int = typer.Option(12000, min=1, help="Source tokens, or frames, per batch."),
    workers: int = typer.Option(
        1,
        min=1,
        help="Processes of fairseq-generate, each for a part of the subset; GPUs are used in turn.",
    ),
    num_shards: int = NUM_SHARDS,
    shard_id: Optional[int] = SHARD_ID,
) -> None:
    """Translate, or transcribe, a training subset with an ensemble and write it as new data.

    DESTDIR then holds the dictionaries, the new training subset and DATA's other subsets: give it
    to fairseq-train as it is. Audio and features stay where they are. Options after ' -- ' are
    passed to fairseq-generate (--fp16, --lenpen 0.6, --cpu …); those that the command sets itself
    are refused. The command completes an interrupted run when it is called again, and refuses to
    mix it with another: it reads checkpoints and data, audio too, and compares checksums.
    """
    # imported here, since fairseq takes seconds that --help does not need
    from ..transfer.set_builder import build_transfer_set
    from ..transfer.settings import TransferSettings

    build_transfer_set(
        TransferSettings(
            data=data,
            checkpoints=tuple(path.split(":")),
            destdir=destdir,
            targets=targets.value,
            subset=subset,
            source_lang=source_lang,
            target_lang=target_lang,
            config_yaml=config_yaml,
            beam=beam,
            max_tokens=max_tokens,
            workers=workers,
            generate_args=tuple(context.args),
            extra_sources=tuple(extra_source),
            share=share,
            num_shards=num_shards,
            shard_id=shard_id,
        )
    )
