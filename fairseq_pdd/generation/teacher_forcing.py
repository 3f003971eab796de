"""Teacher forcing: outputs of a batch are decoded in one step each, in groups of bounded size."""

import inspect
from typing import Any, Iterator, List, NamedTuple, Sequence, Tuple

import torch
from fairseq.models import BaseFairseqModel
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

Hypothesis = Tuple[int, Tensor]
"""Position of the source in the batch, and tokens ``[L]``."""

# Options of a Transformer's decoder: without attention weights, attention takes PyTorch's fused
# path, and without logits, the output layer can skip padding.
_FEATURES_ONLY = {"alignment_layer": -1, "features_only": True}


class DecodedBatch(NamedTuple):
    """Decoder outputs along some outputs of a batch, which have N tokens together."""

    indices: List[int]
    """Indices of the outputs."""
    tokens: Tensor
    """Their tokens, one output after another, ``[N]``."""
    lengths: List[int]
    """Number of tokens of each output."""
    net_outputs: Iterator[Tuple[Any, ...]]
    """Return value of each model's decoder, logits ``[1, N, K]`` first."""


def decode_teacher_forced(
    models: Sequence[BaseFairseqModel],
    encoder_outs: Sequence[Any],
    outputs: Sequence[Hypothesis],
    pad: int,
    eos: int,
    max_tokens: int,
) -> Iterator[DecodedBatch]:
    """Decode outputs of one batch.

    Args:
        models: encoder-decoders that share their dictionaries.
        encoder_outs: output of each model's encoder for the batch.
        outputs: sources and tokens.
        pad: padding symbol of the target.
        eos: end-of-sequence symbol of the target, which also starts the decoder's input.
        max_tokens: most tokens of a group, padding included; a longer output is a group by itself.

    Yields:
        Groups of outputs of similar length, so that there is little padding.
    """
    group: List[int] = []
    for i in sorted(range(len(outputs)), key=lambda i: len(outputs[i][1])):
        if group and (len(group) + 1) * len(outputs[i][1]) > max_tokens:
            yield _decode(models, encoder_outs, outputs, group, pad, eos)
            group = []
        group.append(i)
    if group:
        yield _decode(models, encoder_outs, outputs, group, pad, eos)


def copy_containers(encoder_out: Any) -> Any:
    """Copy the nested dictionaries and lists of an encoder's output, but not its tensors."""
    if isinstance(encoder_out, dict):
        return {name: copy_containers(value) for name, value in encoder_out.items()}
    if isinstance(encoder_out, list):
        return [copy_containers(value) for value in encoder_out]
    return encoder_out


def _decode(
    models: Sequence[BaseFairseqModel],
    encoder_outs: Sequence[Any],
    outputs: Sequence[Hypothesis],
    group: List[int],
    pad: int,
    eos: int,
) -> DecodedBatch:
    targets = [outputs[i][1] for i in group]
    target = pad_sequence(targets, True, pad).long()
    previous = torch.cat([torch.full_like(target[:, :1], eos), target[:, :-1]], dim=1)
    lengths = [len(tokens) for tokens in targets]
    # not `target != pad`: sampling may emit the padding symbol inside an output
    positions = torch.arange(target.size(1), device=target.device)
    mask = positions < torch.tensor(lengths, device=target.device).unsqueeze(1)
    order = torch.tensor([outputs[i][0] for i in group], device=target.device)
    net_outputs = (
        _run_decoder(model, encoder_out, order, previous, mask)
        for model, encoder_out in zip(models, encoder_outs)
    )
    return DecodedBatch(group, torch.cat(targets), lengths, net_outputs)


def _run_decoder(
    model: BaseFairseqModel, encoder_out: Any, order: Tensor, previous: Tensor, mask: Tensor
) -> Tuple[Any, ...]:
    """Return the decoder's output at the positions of the mask."""
    # a copy, since fconv reorders in place
    encoder_out = model.encoder.reorder_encoder_out(copy_containers(encoder_out), order)
    decoder = model.decoder
    parameters = inspect.signature(decoder.forward).parameters
    options = {name: value for name, value in _FEATURES_ONLY.items() if name in parameters}
    if not _projects_features_alone(decoder):
        options = {}
    rows, *others = decoder(previous, encoder_out=encoder_out, **options)
    rows = rows[mask].unsqueeze(0)
    return (decoder.output_layer(rows) if "features_only" in options else rows, *others)


def _projects_features_alone(decoder: Any) -> bool:
    """Return False for an output layer that needs more than features, such as attention weights."""
    first, *others = inspect.signature(decoder.output_layer).parameters.values()
    kinds = (first.POSITIONAL_ONLY, first.POSITIONAL_OR_KEYWORD, first.KEYWORD_ONLY)
    return all(each.default is not each.empty for each in others if each.kind in kinds)
