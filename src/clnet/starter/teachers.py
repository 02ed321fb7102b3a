"""The decoders that taught the encoder, registered: what the starter's decoders grow from."""

from __future__ import annotations

from collections.abc import Sequence

from clnet.anatomy import vocabulary
from clnet.anatomy.phantom import PHANTOM_ANATOMIES
from clnet.decoders_registry import Lineage
from clnet.hub import Hub
from clnet.model.encoder import EncoderConfig
from clnet.model.training import Trainee
from clnet.platform.encoders import Teacher
from clnet.platform.teachers import encode_teacher, register_teacher
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
    config = EncoderConfig.from_dict(pinned.config)
    for trainee in trained:
        artefact = encode_teacher(trainee.finish(), pinned.sha256, config, body_part_model.sha256)
        register_teacher(hub.registry, trainee.name, artefact, pinned, body_part_model, lineage)
