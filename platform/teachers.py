"""Decoders that taught an encoder, kept as versions that new decoders may start from."""

from __future__ import annotations

from clnet.decoders_registry import (
    BodyPartRecord,
    DecoderRecord,
    EncoderRecord,
    Lineage,
    Registry,
)
from clnet.model.artefact import DecoderInfo, decode_decoder, encode_decoder
from clnet.model.decoder import Decoder
from clnet.model.encoder import EncoderConfig

__all__ = ["encode_teacher", "register_teacher"]


def encode_teacher(
    decoder: Decoder, encoder_sha256: str, encoder: EncoderConfig, bpr_sha256: str
) -> bytes:
    """A finished teacher as a decoder artefact, without ranges."""
    members = [channel.members for channel in decoder.config.channels]
    info = DecoderInfo(
        config=decoder.config,
        encoder_sha256=encoder_sha256,
        encoder_config=encoder,
        bpr_sha256=bpr_sha256,
        learned=tuple(sorted(m[0] for m in members if len(m) == 1)),
        unions=tuple(m for m in members if len(m) > 1),
    )
    return encode_decoder(decoder, info)


def register_teacher(
    registry: Registry,
    name: str,
    artefact: bytes,
    encoder: EncoderRecord,
    body_part_model: BodyPartRecord,
    lineage: Lineage,
) -> DecoderRecord:
    """Store a teacher as the next version of the group `name`; again is as once."""
    _, info = decode_decoder(artefact)
    return registry.add_decoder(
        name,
        artefact,
        encoder=encoder.ref,
        body_part_model=body_part_model.ref,
        config=info.config.to_dict(),
        metrics={},
        learned=info.learned,
        unions=info.unions,
        lineage=lineage,
        alias=None,
    )
