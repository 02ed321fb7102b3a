"""Finished decoders that another leans on, with those that they lean on themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from clnet.errors import Incompatible
from clnet.model.artefact import decode_decoder
from clnet.model.decoder import Decoder, DecoderConfig

__all__ = ["ALONE", "Supporters", "load_supporters"]


@dataclass(frozen=True, slots=True)
class Supporters:
    """Frozen decoders, each after those that it leans on.

    Attributes:
        decoders: by hash of their artefacts.
    """

    decoders: Mapping[str, Decoder] = field(default_factory=dict)

    @torch.no_grad()
    def logits(self, config: DecoderConfig, features: Sequence[Tensor]) -> list[list[Tensor]]:
        """What the supporters of a decoder see: logits per head of each, in `config`'s order.

        Args:
            features: of the encoder, finest first, each ``(B, C, Z, Y, X)``.

        Raises:
            Incompatible: a supporter is not among these decoders.
        """
        seen: dict[str, list[Tensor]] = {}
        for sha256, decoder in self.decoders.items():
            seen[sha256] = decoder(features, _of(decoder.config, seen))
        return _of(config, seen)


ALONE = Supporters()
"""Of a decoder that leans on nothing."""


def load_supporters(
    config: DecoderConfig,
    artefacts: Callable[[str], bytes],
    device: torch.device,
) -> Supporters:
    """Everything that a decoder of `config` leans on, directly or not.

    Args:
        artefacts: bytes by hash.
    """
    decoders: dict[str, Decoder] = {}

    def add(leaning: DecoderConfig) -> None:
        for sha256 in (supporter.sha256 for supporter in leaning.supporters):
            if sha256 not in decoders:
                decoder = decode_decoder(artefacts(sha256))[0].to(device)
                add(decoder.config)
                decoders[sha256] = decoder

    add(config)
    return Supporters(decoders)


def _of(config: DecoderConfig, seen: Mapping[str, list[Tensor]]) -> list[list[Tensor]]:
    missing = [s.sha256[:12] for s in config.supporters if s.sha256 not in seen]
    if missing:
        raise Incompatible(f"decoder {config.group}: leans on {missing[0]}, which is not loaded")
    return [seen[supporter.sha256] for supporter in config.supporters]
