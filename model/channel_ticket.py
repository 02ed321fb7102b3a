"""Structured tickets: whole channels are cut, so that compaction can make a decoder faster.

Cut are up-sampled features, features of the scales' convolutions and, as input, features of
the encoder; with a channel go its filters, its bias, its normalisation's scale and shift, and
all weights that use it, so that it is identically zero from then on.
"""

from __future__ import annotations

import torch
from torch import Tensor

from clnet.model.channel_layers import ChannelLayer, channel_layers
from clnet.model.decoder import Decoder
from clnet.model.ticket import Scope, Ticket, check_rate, draw_ticket

__all__ = ["draw_channel_ticket", "draw_scoped_ticket"]


def draw_scoped_ticket(decoder: Decoder, rate: float, scope: Scope) -> Ticket:
    """A ticket of any scope.

    Raises:
        InputError: `rate` is not in [0, 1).
    """
    if scope == "channel":
        return draw_channel_ticket(decoder, rate)
    return draw_ticket(decoder, rate, scope)


def draw_channel_ticket(decoder: Decoder, rate: float) -> Ticket:
    """Cut the least important channels until `rate` of the convolution weights are cut.

    Every layer loses channels at the same pace and keeps one, so that none is the first to
    break and the finest scale, which costs the time, becomes narrower as the deep ones do,
    which cost the space. Within a layer the channels go by what they can add to their users:
    the size of normalisation scale and shift (of the filter where there is no normalisation)
    times the size of the weights that use them.

    Channels that are silent or unused already are cut first, so nothing regrows. Where even
    one channel a layer is more than `rate` leaves, less is cut; the ticket's sparsity says so.

    Raises:
        InputError: `rate` is not in [0, 1).
    """
    check_rate(rate)
    tensors = {name: p.detach() for name, p in decoder.named_parameters()}
    layers = channel_layers(decoder)
    order = sorted(
        ((rank + 1) / layer.count, index, int(channel))
        for index, layer in enumerate(layers)
        for rank, channel in enumerate(torch.argsort(_importance(layer, tensors), stable=True))
        if rank + 1 < layer.count
    )

    def cutting(count: int) -> Ticket:
        mask = {n: torch.ones_like(t, dtype=torch.bool) for n, t in tensors.items()}
        for _, index, channel in order[:count]:
            layer = layers[index]
            for piece in layer.slices(mask, (*layer.made_by, *layer.used_by)):
                piece[channel] = False
        kept = {n: m for n, m in mask.items() if m.dim() == 5 or not m.all()}
        return Ticket(rate, kept)

    low, high = 0, len(order)
    while low < high:  # the fewest channels that are enough
        middle = (low + high) // 2
        if cutting(middle).sparsity >= rate:
            high = middle
        else:
            low = middle + 1
    return cutting(low)


def _importance(layer: ChannelLayer, tensors: dict[str, Tensor]) -> Tensor:
    use = torch.stack(
        [
            s.reshape(layer.count, -1).square().sum(dim=1)
            for s in layer.slices(tensors, layer.used_by)
        ]
    ).sum(dim=0)
    if layer.scale_shift is not None:
        scale, shift = (tensors[name] for name in layer.scale_shift)
        return (scale.square() + shift.square()).sqrt() * use
    made = layer.slices(tensors, layer.made_by[:1])
    strength = made[0].reshape(layer.count, -1).norm(dim=1) if made else torch.ones_like(use)
    return strength * use
