"""``fairseq-pdd join-records``: one file of records from those of shards."""

from pathlib import Path

import typer


def join_records(
    path: Path = typer.Argument(
        ..., help="--uncertainty-path of the shards: the file to write, beside theirs."
    ),
) -> None:
    """Join the records of fairseq-generate --num-shards N --shard-id 0, 1 … N - 1.

    Each shard has written PATH's name with .shard0-of-N and so on. The command refuses to join
    unless all shards are there, complete, and hold different sentences. The lines of PATH are those
    of a run in one process, sorted by sentence. The shards' files remain.
    """
    from ..records.shards import join_shards

    sentences = join_shards(path)
    typer.echo(f"{path}: records of {sentences:,} sentences")
