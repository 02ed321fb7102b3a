"""Winning tickets: which weights of a decoder survive pruning, and what they are rewound to.

Lottery-ticket hypothesis (Frankle & Carbin 2019) as CL-Net uses it: magnitude pruning of the
decoder's convolution weights, never of the encoder. Single weights are cut over all layers at
once or in each layer alike; a structured ticket (:mod:`clnet.model.channel_ticket`) cuts whole
channels, with the bias and the normalisation that belong to them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from clnet.errors import Incompatible, InputError
from clnet.model.channel_layers import channel_layers
from clnet.model.decoder import Decoder

__all__ = [
    "Scope",
    "Ticket",
    "apply_ticket",
    "check_rate",
    "draw_ticket",
    "milder_rate",
    "prunable",
    "read_ticket",
    "rewind",
    "sparsity",
]

Scope = Literal["global", "layer", "channel"]
"""What competes for survival: weights of all layers, weights of each layer, or channels."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """Survivors of a pruning.

    Attributes:
        rate: fraction of the convolution weights that was asked to be cut, 0 to 1.
        mask: parameter name to bool tensor, true where it survives: of every convolution's
            weight, and of the biases and normalisations that whole channels lost.
    """

    rate: float
    mask: Mapping[str, Tensor]

    @property
    def cut(self) -> int:
        """Convolution weights cut."""
        return sum(int((~m).sum()) for m in self._weights)

    @property
    def dense(self) -> int:
        """Convolution weights before the cut."""
        return sum(m.numel() for m in self._weights)

    @property
    def sha256(self) -> str:
        """Hash of which weights survive."""
        digest = hashlib.sha256()
        for name, mask in sorted(self.mask.items()):
            digest.update(name.encode())
            digest.update(mask.to(torch.uint8).cpu().numpy().tobytes())
        return digest.hexdigest()

    @property
    def sparsity(self) -> float:
        """Fraction of the convolution weights that is cut."""
        return self.cut / self.dense

    @property
    def _weights(self) -> list[Tensor]:
        return [mask for mask in self.mask.values() if mask.dim() > 1]

    def within(self, older: Ticket) -> Ticket:
        """The ticket without what an `older` one has cut already: nothing regrows."""
        both = {**self.mask, **older.mask}
        shared = self.mask.keys() & older.mask.keys()
        return Ticket(
            self.rate, both | {name: self.mask[name] & older.mask[name] for name in shared}
        )


def prunable(decoder: nn.Module) -> dict[str, nn.Parameter]:
    """Convolution weights of `decoder` by name."""
    return {
        f"{name}.weight": module.get_parameter("weight")
        for name, module in decoder.named_modules()
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d)
    }


def check_rate(rate: float) -> None:
    """Refuse what is no pruning rate.

    Raises:
        InputError: `rate` is not in [0, 1).
    """
    if not 0 <= rate < 1:
        raise InputError(f"pruning rate {rate}: must be at least 0 and below 1")


def draw_ticket(
    decoder: nn.Module, rate: float, scope: Literal["global", "layer"] = "global"
) -> Ticket:
    """Keep the largest ``1 - rate`` of the convolution weights.

    Weights that are zero already are cut first, so a second, higher rate never lets a cut
    weight regrow.

    Args:
        scope: ``global`` ranks the weights of all layers at once, as the paper does;
            ``layer`` cuts the same fraction of each layer, which keeps one weight at least.

    Raises:
        InputError: `rate` is not in [0, 1).
    """
    check_rate(rate)
    weights = {name: weight.detach() for name, weight in prunable(decoder).items()}
    if scope == "layer":
        return Ticket(
            rate,
            {
                name: _largest(weight, min(round(rate * weight.numel()), weight.numel() - 1))
                for name, weight in weights.items()
            },
        )
    together = torch.cat([w.flatten() for w in weights.values()])
    survives = _largest(together, round(rate * together.numel()))
    pieces = survives.split([w.numel() for w in weights.values()])
    return Ticket(
        rate,
        {
            name: piece.view_as(weight)
            for (name, weight), piece in zip(weights.items(), pieces, strict=True)
        },
    )


def _largest(weight: Tensor, cut: int) -> Tensor:
    survives = torch.ones(weight.numel(), dtype=torch.bool, device=weight.device)
    survives[torch.argsort(weight.abs().flatten(), stable=True)[:cut]] = False
    return survives.view_as(weight)


def read_ticket(decoder: Decoder) -> Ticket | None:
    """The ticket that a pruned decoder's zeros are; None of a dense one.

    So are bias and normalisation of a channel that is identically zero.
    """
    mask = {name: weight.detach() != 0 for name, weight in prunable(decoder).items()}
    ticket = Ticket(0.0, mask)
    if not ticket.cut:
        return None
    silenced = _silenced(decoder) if type(decoder) is Decoder else {}
    return Ticket(ticket.sparsity, {**mask, **silenced})


def _silenced(decoder: Decoder) -> dict[str, Tensor]:
    tensors = {name: p.detach() for name, p in decoder.named_parameters()}
    masks: dict[str, Tensor] = {}
    for layer in channel_layers(decoder):
        silent = layer.silent(tensors)
        if silent.any():
            vectors = [s.parameter for s in layer.made_by if tensors[s.parameter].dim() == 1]
            masks |= dict.fromkeys(vectors, ~silent)
    return masks


def milder_rate(rate: float, width: int) -> float:
    """The rate for a decoder of `width` base features: 1 - 32 (1 - rate) / width, at least 0."""
    return max(0.0, 1 - 32 * (1 - rate) / width)


@torch.no_grad()
def apply_ticket(decoder: nn.Module, ticket: Ticket) -> None:
    """Set what did not survive to zero, in place.

    Raises:
        Incompatible: the ticket is of a decoder of another shape.
    """
    for name, mask in ticket.mask.items():
        parameter = decoder.get_parameter(name)
        if parameter.shape != mask.shape:
            raise Incompatible(
                f"ticket: {name} has shape {tuple(parameter.shape)}, the mask "
                f"{tuple(mask.shape)}; a ticket fits the decoder that it was drawn from"
            )
        parameter.mul_(mask)


@torch.no_grad()
def rewind(decoder: nn.Module, weights: Mapping[str, Tensor], ticket: Ticket) -> None:
    """Set `decoder` to earlier `weights`, survivors only, in place."""
    decoder.load_state_dict(dict(weights))
    apply_ticket(decoder, ticket)


def sparsity(decoders: Iterable[nn.Module]) -> float:
    """Fraction of convolution weights that are zero, over all `decoders` together."""
    weights = [w for decoder in decoders for w in prunable(decoder).values()]
    return sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)
