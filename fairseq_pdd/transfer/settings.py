"""Settings of a transfer set, and the shards of long jobs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Tuple

from ..errors import UsageError


def shard_of(num_shards: int, shard_id: Optional[int]) -> Optional[Tuple[int, int]]:
    """Return the number of the shard to make, and of all shards; None for the whole.

    Raises:
        UsageError: there is no such shard.
    """
    if num_shards < 1:
        raise UsageError(f"--num-shards is {num_shards}: give a number above 0")
    if shard_id is None:
        return None
    if num_shards == 1:
        raise UsageError(f"--shard-id {shard_id} needs --num-shards, the number of all shards")
    if not 0 <= shard_id < num_shards:
        raise UsageError(
            f"--shard-id is {shard_id}: with --num-shards {num_shards}, give one from 0 to "
            f"{num_shards - 1}"
        )
    return shard_id, num_shards


@dataclass(frozen=True)
class TransferSettings:
    """Inputs and options of a transfer set; see ``fairseq-pdd transfer-set --help``."""

    data: Path
    checkpoints: Tuple[str, ...]
    destdir: Path
    targets: str
    subset: str
    source_lang: Optional[str]
    target_lang: Optional[str]
    config_yaml: str
    beam: int
    max_tokens: int
    workers: int
    generate_args: Tuple[str, ...]
    num_shards: int = 1
    shard_id: Optional[int] = None

    @property
    def translates(self) -> bool:
        """True if the ensemble's outputs are wanted."""
        return self.targets in ("ensemble", "both")

    @property
    def needs_references(self) -> bool:
        """True if the targets of the data are wanted."""
        return self.targets in ("reference", "both")
