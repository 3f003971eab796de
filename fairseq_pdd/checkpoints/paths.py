"""Options of fairseq that name other checkpoints."""

from typing import Dict, Optional

CHECKPOINT_OPTIONS: Dict[str, Optional[str]] = {
    "finetune_from_model": None,
    "continue_once": None,
    "restore_file": "checkpoint_last.pt",
    "load_pretrained_encoder_from": None,
    "load_pretrained_decoder_from": None,
}
"""Options that only a training's start reads, with the value that names no other checkpoint."""
