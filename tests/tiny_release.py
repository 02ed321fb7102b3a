"""A whole release of tiny networks that learned nothing, for tests of what is around them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from registry_shelf import lineage
from tiny_networks import TINY

from clnet.decoders_registry import DecoderRecord, Lineage, Registry, ReleaseRecord
from clnet.model.artefact import DecoderInfo, encode_decoder, encode_encoder
from clnet.model.body_part import (
    BodyPartConfig,
    BodyPartModel,
    build_body_part_network,
    encode_body_part_model,
)
from clnet.model.decoder import Channel, DecoderConfig, Supporter, build_decoder
from clnet.model.encoder import build_encoder, freeze
from clnet.model.plan import Plan

PLAN = Plan(spacing=(8.0, 8.0, 8.0), patch_size=(16, 16, 16))


def add_foundation(registry: Registry) -> None:
    """``encoder/starter@1`` and ``bpr/starter@1``."""
    encoder = freeze(build_encoder(TINY, seed=0))
    data = encode_encoder(encoder, PLAN)
    registry.add_encoder(
        "starter", data, PLAN.to_dict(), TINY.to_dict(), lineage("ref/whole-body@1")
    )
    network = build_body_part_network(BodyPartConfig(pixels=16, pixel_mm=32.0, widths=(4, 4)), 0)
    model = BodyPartModel(network.eval(), raw=(0.0, 1.0), heights=(0.0, 1.0), per_mm=1 / 900)
    registry.add_body_part_model(
        "starter", encode_body_part_model(model), lineage("ref/whole-body@1")
    )


def add_decoder(
    registry: Registry,
    group: str,
    anatomies: Sequence[str],
    *,
    layer: str = "organ",
    supporters: Sequence[str] = (),
    seed: int = 1,
    favour: int | None = None,
    alias: str = "production",
    learned_from: Lineage | None = None,
) -> DecoderRecord:
    """A version of `group` whose channels are `anatomies`.

    Args:
        learned_from: its lineage; ``site-a/abdomen@1`` by default.
        favour: channel that wins everywhere, 0 for background.
    """
    encoder, body = registry.encoder("starter"), registry.body_part_model("starter")
    pinned = [registry.decoder(ref) for ref in supporters]
    config = DecoderConfig(
        group,
        layer,
        tuple(Channel(name, (name,)) for name in anatomies),
        widths=(4, 4),
        heads=2,
        supporters=tuple(Supporter(d.sha256, len(d.learned) + 1) for d in pinned),
    )
    decoder = build_decoder(config, TINY, seed)
    if favour is not None:
        with torch.no_grad():
            decoder.heads[0].bias[favour] += 100.0
    info = DecoderInfo(config, encoder.sha256, TINY, body.sha256, learned=tuple(sorted(anatomies)))
    return registry.add_decoder(
        group,
        encode_decoder(decoder, info),
        encoder=encoder.ref,
        body_part_model=body.ref,
        config=config.to_dict(),
        metrics={"dsc": dict.fromkeys(anatomies, 0.5)},
        learned=tuple(sorted(anatomies)),
        supporters=[d.ref for d in pinned],
        lineage=learned_from or lineage("site-a/abdomen@1"),
        alias=alias,
    )


def add_release(registry: Registry, name: str = "2026.11") -> ReleaseRecord:
    """Liver wherever a voxel is, spleen nowhere."""
    add_foundation(registry)
    add_decoder(registry, "abdomen/liver", ["liver"], favour=1)
    add_decoder(registry, "abdomen/spleen", ["spleen"], favour=0)
    return registry.create_release(name, "production")
