"""Settings of a transfer set."""

from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Tuple


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
    extra_sources: Tuple[Path, ...] = ()
    share: Optional[float] = None
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
