"""Loading of an ensemble's members, with every mismatch found before training."""

from typing import List, Optional, Sequence

import torch
from fairseq import models
from fairseq.models import BaseFairseqModel, FairseqEncoderDecoderModel
from fairseq.models.nat import FairseqNATModel
from fairseq.modules import LearnedPositionalEmbedding
from fairseq.tasks import FairseqTask
from tqdm import tqdm

from .._compat import without_fused_encoder
from ..checkpoints import fit
from ..checkpoints.reading import config_of, describe_misfit, read_checkpoint
from ..errors import UsageError


def load_members(
    paths: Sequence[str],
    task: FairseqTask,
    dtype: Optional[torch.dtype] = None,
    device: Optional[torch.device] = None,
) -> List[BaseFairseqModel]:
    """Load checkpoints as models of one ensemble.

    Args:
        paths: checkpoint files of ``fairseq-train``; architectures may differ.
        task: the student's task, whose dictionaries the members must share.
        dtype: floating type to cast each model to (default: that of the checkpoint).
        device: device to move each model to (default: the CPU).

    Returns:
        The models in the order of ``paths``.

    Raises:
        UsageError: a file is missing, cannot be read safely or does not fit the dictionaries.
    """
    require_files(paths)
    return [
        _load_member(path, task).to(device=device, dtype=dtype)
        for path in tqdm(paths, desc="loading teachers", disable=None)
    ]


def require_positions(
    paths: Sequence[str], members: Sequence[BaseFairseqModel], limits: Sequence[float]
) -> None:
    """Require that members have a position for every token of the student's sentences.

    Only learned positions are limited; others are computed as they are needed.

    Args:
        paths: checkpoint files.
        members: their models.
        limits: longest source and target of the student's task, in frames or tokens.

    Raises:
        UsageError: a member has fewer learned positions.
    """
    for path, member in zip(paths, members):
        for side, part, limit in zip(
            ("source", "target"), (member.encoder, member.decoder), limits
        ):
            positions = getattr(part, "embed_positions", None)
            if not isinstance(positions, LearnedPositionalEmbedding):
                continue
            if positions.max_positions < limit:
                raise UsageError(
                    f"teacher checkpoint {path} has {positions.max_positions:,} {side} positions, "
                    f"the student takes up to {limit:,.0f}: give --max-{side}-positions "
                    f"{positions.max_positions} to skip longer sentences, in validation with "
                    "--skip-invalid-size-inputs-valid-test, or another teacher"
                )


def require_files(paths: Sequence[str]) -> None:
    """Raise :class:`UsageError` if one of the checkpoints does not exist."""
    fit.require_files(paths, "--teacher-paths, or --path of fairseq-pdd teacher-cache,")


def _load_member(path: str, task: FairseqTask) -> BaseFairseqModel:
    state = read_checkpoint(path)
    # frees twice the size of the model
    state.pop("last_optimizer_state", None)
    fit.check_fit(path, task, state)
    cfg = config_of(path, state)
    # The registry's builder instead of the task's, which also sets up the student's validation
    # (BLEU).
    try:
        model = without_fused_encoder(models.build_model(cfg.model, task, from_checkpoint=True))
        model.load_state_dict(state["model"], strict=True, model_cfg=cfg.model)
    except Exception as error:  # models raise anything for weights of another shape
        raise UsageError(f"teacher {describe_misfit(path, error)}") from error
    if not isinstance(model, FairseqEncoderDecoderModel) or isinstance(model, FairseqNATModel):
        raise UsageError(
            f"teacher checkpoint {path} is a {type(model).__name__}, no encoder-decoder that "
            "predicts each target token given those before: give such ones in --teacher-paths"
        )
    return model
