"""Winning tickets: which weights of a decoder survive pruning, and what they are rewound to.

Lottery-ticket hypothesis (Frankle & Carbin 2019) as CL-Net uses it: global magnitude pruning
of the decoder's convolution weights, never of biases, normalisation or the encoder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clnet.errors import InputError

__all__ = ["Ticket", "apply_ticket", "draw_ticket", "milder_rate", "prunable", "rewind", "sparsity"]


@dataclass(frozen=True, slots=True)
class Ticket:
    """Survivors of a pruning.

    Attributes:
        rate: fraction of the convolution weights that was asked to be cut, 0 to 1.
        mask: parameter name to bool tensor, true where a weight survives.
    """

    rate: float
    mask: Mapping[str, Tensor]

    @property
    def cut(self) -> int:
        """Weights cut."""
        return sum(int((~m).sum()) for m in self.mask.values())

    @property
    def dense(self) -> int:
        """Weights before the cut."""
        return sum(m.numel() for m in self.mask.values())

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


def prunable(decoder: nn.Module) -> dict[str, nn.Parameter]:
    """Convolution weights of `decoder` by name."""
    return {
        f"{name}.weight": module.get_parameter("weight")
        for name, module in decoder.named_modules()
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d)
    }


def draw_ticket(decoder: nn.Module, rate: float) -> Ticket:
    """Keep the largest ``1 - rate`` of the convolution weights, ranked over all layers at once.

    Weights that are zero already are cut first, so a second, higher rate never lets a cut
    weight regrow.

    Raises:
        InputError: `rate` is not in [0, 1).
    """
    if not 0 <= rate < 1:
        raise InputError(f"pruning rate {rate}: must be at least 0 and below 1")
    weights = {name: weight.detach() for name, weight in prunable(decoder).items()}
    magnitudes = torch.cat([w.abs().flatten() for w in weights.values()])
    cut = round(rate * magnitudes.numel())
    survives = torch.ones_like(magnitudes, dtype=torch.bool)
    survives[torch.argsort(magnitudes, stable=True)[:cut]] = False
    pieces = survives.split([w.numel() for w in weights.values()])
    return Ticket(
        rate,
        {
            name: piece.view_as(weight)
            for (name, weight), piece in zip(weights.items(), pieces, strict=True)
        },
    )


def milder_rate(rate: float, width: int) -> float:
    """The rate for a decoder of `width` base features: 1 - 32 (1 - rate) / width, at least 0."""
    return max(0.0, 1 - 32 * (1 - rate) / width)


@torch.no_grad()
def apply_ticket(decoder: nn.Module, ticket: Ticket) -> None:
    """Set the weights that did not survive to zero, in place."""
    for name, weight in prunable(decoder).items():
        weight.mul_(ticket.mask[name])


@torch.no_grad()
def rewind(decoder: nn.Module, weights: Mapping[str, Tensor], ticket: Ticket) -> None:
    """Set `decoder` to earlier `weights`, survivors only, in place."""
    decoder.load_state_dict(dict(weights))
    apply_ticket(decoder, ticket)


def sparsity(decoders: Iterable[nn.Module]) -> float:
    """Fraction of convolution weights that are zero, over all `decoders` together."""
    weights = [w for decoder in decoders for w in prunable(decoder).values()]
    return sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)
