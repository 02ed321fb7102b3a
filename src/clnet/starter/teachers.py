"""The decoders that taught the encoder, registered: what the starter's decoders grow from."""

from __future__ import annotations

from collections.abc import Sequence

from clnet.anatomy import vocabulary
from clnet.anatomy.phantom import PHANTOM_ANATOMIES
from clnet.decoders_registry import Lineage
from clnet.hub import Hub
from clnet.model.artefact import DecoderInfo, encode_decoder
from clnet.model.encoder import EncoderConfig
from clnet.model.training import Trainee
from clnet.platform.encoders import Teacher
from clnet.starter.recipe import StarterRecipe

__all__ = ["TEACHERS", "register_teachers", "teachers"]

TEACHERS = "teacher"


def teachers(recipe: StarterRecipe) -> list[Teacher]:
    """One teacher per layer, of all the phantom's anatomies that are not held back."""
    known = [a for a in PHANTOM_ANATOMIES if a not in recipe.held_back]
    found = []
    for layer, weight in recipe.pretraining.teachers.items():
        anatomies = tuple(a for a in known if vocabulary()[a].layer == layer)
        found.append(Teacher(f"{TEACHERS}/{layer}", layer, anatomies, weight))
    return found


def register_teachers(
    hub: Hub, trained: Sequence[Trainee], encoder: str, bpr: str, lineage: Lineage
) -> None:
    """Store the teachers as decoder versions; again is as once."""
    pinned = hub.registry.encoder(encoder)
    body_part_model = hub.registry.body_part_model(bpr)
    for trainee in trained:
        decoder = trainee.finish()
        members = [channel.members for channel in decoder.config.channels]
        info = DecoderInfo(
            config=decoder.config,
            encoder_sha256=pinned.sha256,
            encoder_config=EncoderConfig.from_dict(pinned.config),
            bpr_sha256=body_part_model.sha256,
            learned=tuple(sorted(m[0] for m in members if len(m) == 1)),
            unions=tuple(m for m in members if len(m) > 1),
        )
        hub.registry.add_decoder(
            trainee.name,
            encode_decoder(decoder, info),
            encoder=pinned.ref,
            body_part_model=body_part_model.ref,
            config=decoder.config.to_dict(),
            metrics={},
            learned=info.learned,
            unions=info.unions,
            lineage=lineage,
            alias=None,
        )
