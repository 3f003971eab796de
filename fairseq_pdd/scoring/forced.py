"""Outputs decoded teacher-forced."""

import inspect
from copy import copy
from typing import Any, Iterator, List, Sequence, Tuple

import torch
from fairseq.models import BaseFairseqModel
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from .passes import Output, Pass

# Of a Transformer's decoder: attention weights of no layer, which lets attention take PyTorch's
# fused path, and no logits yet.
_SPARED = {"alignment_layer": -1, "features_only": True}


class TeacherForcing:
    """Decodes outputs of one batch, each of them in one step.

    Args:
        models: encoder-decoders that share their dictionaries.
        encoder_outs: what each one's encoder says of the batch.
        pad: padding symbol of the target.
        eos: end-of-sequence symbol of the target, which also starts the decoder's input.
    """

    def __init__(
        self,
        models: Sequence[BaseFairseqModel],
        encoder_outs: Sequence[Any],
        pad: int,
        eos: int,
    ) -> None:
        self._models, self._encoder_outs = models, encoder_outs
        self._pad, self._eos = pad, eos

    def passes(
        self, outputs: Sequence[Output], chosen: Sequence[int], max_rows: int
    ) -> Iterator[Pass]:
        """Decode the ``chosen`` outputs, by passes of at most ``max_rows`` tokens or one output."""
        # neighbours in length share a pass, so little of it is padding
        order = sorted(chosen, key=lambda i: len(outputs[i][1]))
        group: List[int] = []
        for i in order:
            if group and (len(group) + 1) * len(outputs[i][1]) > max_rows:
                yield self._pass(outputs, group)
                group = []
            group.append(i)
        if group:
            yield self._pass(outputs, group)

    def _pass(self, outputs: Sequence[Output], group: List[int]) -> Pass:
        targets = [outputs[i][1] for i in group]
        target = pad_sequence(targets, True, self._pad).long()
        previous = torch.cat([torch.full_like(target[:, :1], self._eos), target[:, :-1]], dim=1)
        lengths = torch.tensor([len(tokens) for tokens in targets], device=target.device)
        # not `target != pad`: sampling may emit the padding symbol inside an output
        mask = torch.arange(target.size(1), device=target.device) < lengths.unsqueeze(1)
        order = torch.tensor([outputs[i][0] for i in group], device=target.device)
        net_outputs = (
            _net_output(model, encoder_out, order, previous, mask)
            for model, encoder_out in zip(self._models, self._encoder_outs)
        )
        return Pass(group, torch.arange(sum(map(len, targets)), device=target.device), net_outputs)


def _net_output(
    model: BaseFairseqModel, encoder_out: Any, order: Tensor, previous: Tensor, mask: Tensor
) -> Tuple[Any, ...]:
    """What the decoder returns, of the mask's positions only."""
    # a copy, as fconv reorders in place
    encoder_out = model.encoder.reorder_encoder_out(copy(encoder_out), order)
    decoder = model.decoder
    parameters = inspect.signature(decoder.forward).parameters
    spared = {name: value for name, value in _SPARED.items() if name in parameters}
    rows, *others = decoder(previous, encoder_out=encoder_out, **spared)
    # where the decoder can, what comes last of it is done for tokens only, not for padding
    rows = rows[mask].unsqueeze(0)
    return (decoder.output_layer(rows) if "features_only" in spared else rows, *others)
