"""``fairseq-pdd transfer-set``: the training set that the ensemble's own outputs make."""

import enum
from pathlib import Path
from typing import Optional

import typer

from ..transfer.build import TransferSettings, build_transfer_set


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
        help="ensemble: its own translations (the paper's recipe); reference: the original "
        "targets; both: every source twice.",
    ),
    subset: str = typer.Option("train", help="Subset to translate; becomes 'train'."),
    source_lang: Optional[str] = typer.Option(
        None, "--source-lang", "-s", help="Source language; inferred from DATA if not given."
    ),
    target_lang: Optional[str] = typer.Option(
        None, "--target-lang", "-t", help="Target language; inferred from DATA if not given."
    ),
    config_yaml: str = typer.Option("config.yaml", help="Speech: data configuration in DATA."),
    beam: int = typer.Option(5, min=1, help="Beam size."),
    max_tokens: int = typer.Option(12000, min=1, help="Source tokens, or frames, in a batch."),
    workers: int = typer.Option(
        1, min=1, help="Processes of fairseq-generate, each for a part of the subset."
    ),
) -> None:
    """Translate, or transcribe, a training source with the ensemble and write the data anew.

    DESTDIR then holds dictionaries, the new train and DATA's other subsets: give it to
    fairseq-train as it is. Audio and features stay where they are. Options behind ' -- ' go to
    fairseq-generate (--fp16, --lenpen 0.6, --cpu …). A run that was interrupted goes on with the
    parts that are missing.
    """
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
        )
    )
