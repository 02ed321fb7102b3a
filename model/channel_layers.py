"""Which parameters make the channels inside a decoder, and which ones use them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from clnet.errors import Incompatible
from clnet.model.decoder import Decoder

__all__ = ["ChannelLayer", "Slot", "channel_layers"]


@dataclass(frozen=True, slots=True)
class Slot:
    """Where channels lie in a parameter: along `dim`, from `offset` on."""

    parameter: str
    dim: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class ChannelLayer:
    """Channels that stand side by side in a decoder.

    Attributes:
        kind: ``read`` features of the encoder, ``up``-sampled ones, those of a scale's ``width``,
            or ``hidden`` ones of a feature-level support.
        index: stage, scale or head, finest first.
        count: channels.
        made_by: filters, biases and normalisation that make them; none for features read.
        scale_shift: of the normalisation, if they are normalised.
        used_by: filters that take them as input.
    """

    kind: str
    index: int
    count: int
    made_by: tuple[Slot, ...]
    scale_shift: tuple[str, str] | None
    used_by: tuple[Slot, ...]

    def slices(self, tensors: Mapping[str, Tensor], slots: tuple[Slot, ...]) -> list[Tensor]:
        """What lies in each slot, by channel ``(count, ...)``; views."""
        return [
            tensors[slot.parameter].movedim(slot.dim, 0)[slot.offset : slot.offset + self.count]
            for slot in slots
        ]

    def unused(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Channels that every filter multiplies by zero, bool ``(count,)``."""
        return _all_zero(self.slices(tensors, self.used_by), self.count)

    def silent(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Channels that are identically zero whatever the input, bool ``(count,)``.

        Normalisation with scale and shift zero gives zero; so does a zero filter without bias
        (it normalises to zero) if the shift is zero.
        """
        if not self.made_by:
            return torch.zeros(self.count, dtype=torch.bool)  # the encoder may always speak
        if self.scale_shift is None:
            return _all_zero(self.slices(tensors, self.made_by), self.count)
        scale, shift = (tensors[name] for name in self.scale_shift)
        filters = tuple(s for s in self.made_by if s.parameter not in self.scale_shift)
        nothing_in = _all_zero(self.slices(tensors, filters), self.count)
        return (shift == 0) & ((scale == 0) | nothing_in)


def _all_zero(slices: list[Tensor], count: int) -> Tensor:
    return torch.stack([(s.reshape(count, -1) == 0).all(dim=1) for s in slices]).all(dim=0)


def channel_layers(decoder: Decoder) -> tuple[ChannelLayer, ...]:
    """All channels of `decoder` but its logits, from the features it reads to its heads.

    Raises:
        Incompatible: it is made of another network's blocks.
    """
    if type(decoder) is not Decoder:
        raise Incompatible(
            f"decoder {decoder.config.group}: whole channels are cut in decoders of clnet's own "
            f"blocks, this is a {type(decoder).__name__}; cut single weights instead"
        )
    shapes = {name: tuple(p.shape) for name, p in decoder.named_parameters()}
    scales = len(decoder.scales)
    layers = [_read(shapes, stage, scales) for stage in range(scales + 1)]
    for s in reversed(range(scales)):
        convolve, up = f"scales.{s}.convolve.conv.weight", f"scales.{s}.up"
        made = (Slot(f"{up}.weight", 1), Slot(f"{up}.bias", 0))
        used = (Slot(convolve, 1, layers[s].count),)
        layers.append(ChannelLayer("up", s, shapes[f"{up}.weight"][1], made, None, used))
        users = [Slot(f"scales.{s - 1}.up.weight", 0)] if s else []
        users += [Slot(f"heads.{s}.weight", 1)] if s < len(decoder.heads) else []
        layers.append(_block(shapes, "width", s, f"scales.{s}.convolve", tuple(users)))
    for h in range(len(decoder.support)):
        project = (Slot(f"support.{h}.project.weight", 1),)
        layers.append(_block(shapes, "hidden", h, f"support.{h}.mix", project))
    return tuple(layers)


def _read(shapes: dict[str, tuple[int, ...]], stage: int, scales: int) -> ChannelLayer:
    if stage == scales:
        name = f"scales.{scales - 1}.up.weight"
        return ChannelLayer("read", stage, shapes[name][0], (), None, (Slot(name, 0),))
    name = f"scales.{stage}.convolve.conv.weight"
    count = shapes[name][1] - shapes[f"scales.{stage}.up.weight"][1]
    return ChannelLayer("read", stage, count, (), None, (Slot(name, 1),))


def _block(
    shapes: dict[str, tuple[int, ...]], kind: str, index: int, name: str, used: tuple[Slot, ...]
) -> ChannelLayer:
    """The channels of a convolution, instance norm, leaky ReLU block."""
    norm = (f"{name}.adn.N.weight", f"{name}.adn.N.bias")
    made = tuple(Slot(p, 0) for p in (f"{name}.conv.weight", f"{name}.conv.bias", *norm))
    return ChannelLayer(kind, index, shapes[norm[0]][0], made, norm, used)
