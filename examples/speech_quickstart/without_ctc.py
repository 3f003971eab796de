#!/usr/bin/env python3
"""Make the starting point of a student from a member's checkpoint.

Removes the CTC head, which only the members' training has, and the state of the optimiser.
"""

import argparse
from pathlib import Path

import torch

import fairseq_pdd.tasks  # noqa: F401  (lets torch.load read argparse.Namespace in checkpoints)

HEAD = "encoder.ctc_proj."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("member", type=Path, help="checkpoint to read")
    parser.add_argument("out", type=Path, help="checkpoint to write")
    args = parser.parse_args()
    state = torch.load(args.member, map_location="cpu", weights_only=True)
    state["model"] = {k: v for k, v in state["model"].items() if not k.startswith(HEAD)}
    state["cfg"]["model"].ctc_weight = 0.0
    state.pop("last_optimizer_state", None)
    torch.save(state, args.out)


if __name__ == "__main__":
    main()
