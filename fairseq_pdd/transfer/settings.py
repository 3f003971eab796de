"""Settings of a transfer set."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, Optional, Tuple


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

    def fingerprint(self) -> Dict[str, Any]:
        """Return everything that the result depends on, as JSON."""
        values = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}
        values["checkpoints"] = [
            [os.path.abspath(path), os.path.getsize(path)] for path in self.checkpoints
        ]
        values["data"] = str(self.data.resolve())
        fingerprint: Dict[str, Any] = json.loads(json.dumps(values))
        return fingerprint
