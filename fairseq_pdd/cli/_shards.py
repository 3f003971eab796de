"""Options of commands whose work can be split over machines."""

from typing import Any

import typer

NUM_SHARDS: Any = typer.Option(
    1, min=1, help="Number of shards, for processes on several machines with a shared folder."
)
SHARD_ID: Any = typer.Option(
    None,
    help="Make this shard only, from 0. When all are made, the same command without this option "
    "joins them.",
)
