"""The starter's decoders: trained in packs on the frozen encoder, then pruned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clnet.anatomy import default_stratification, vocabulary
from clnet.decoders_registry import DecoderRecord
from clnet.hub import Hub
from clnet.learning import learn
from clnet.platform.jobs import DecoderJob, Validation
from clnet.stages import Tell
from clnet.starter.recipe import StarterRecipe
from clnet.starter.teachers import TEACHERS

__all__ = ["prune_decoders", "train_decoders"]

COMMAND = "make starter"
# judged once, at the end: the held-out phantoms judge the release
VALIDATION = {"fraction": 0.1, "batches": 16}


def train_decoders(
    hub: Hub, recipe: StarterRecipe, dataset: str, encoder: str, bpr: str, tell: Tell | None
) -> dict[str, DecoderRecord]:
    """Dense decoders by group, grown from the teacher of their layer.

    Those that the registry has already are not trained again.
    """
    have = _made(hub, recipe, pruned=False)
    jobs = [
        DecoderJob(
            decoder=group,
            anatomies=anatomies,
            start=f"{TEACHERS}/{default_stratification()[group].layer}",
            seed=index,
            **_common(recipe.decoders.train, groups, dataset, encoder, bpr),
        )
        for groups in recipe.decoders.packs.values()
        for index, (group, anatomies) in enumerate(groups.items())
        if group not in have
    ]
    made = learn(hub, jobs, tell) if jobs else []
    return have | {record.group: record for record in made}


def prune_decoders(
    hub: Hub,
    recipe: StarterRecipe,
    dense: Mapping[str, DecoderRecord],
    dataset: str,
    encoder: str,
    bpr: str,
    tell: Tell | None,
) -> dict[str, DecoderRecord]:
    """Pruned versions by group; those that the registry has already are not made again."""
    have = _made(hub, recipe, pruned=True)
    settings = dict(recipe.decoders.prune)
    rate = settings.pop("rate")
    jobs = [
        DecoderJob(
            decoder=group,
            kind="prune",
            base=dense[group].ref,
            rate=rate,
            **_common(settings, groups, dataset, encoder, bpr),
        )
        for groups in recipe.decoders.packs.values()
        for group in groups
        if group not in have
    ]
    made = learn(hub, jobs, tell) if jobs else []
    return have | {record.group: record for record in made}


def _made(hub: Hub, recipe: StarterRecipe, *, pruned: bool) -> dict[str, DecoderRecord]:
    wanted = {group for groups in recipe.decoders.packs.values() for group in groups}
    return {
        record.group: record
        for record in hub.decoders.list()
        if record.group in wanted and (record.ticket is not None) == pruned
    }


def _common(
    settings: Mapping[str, Any],
    groups: Mapping[str, Sequence[str]],
    dataset: str,
    encoder: str,
    bpr: str,
) -> dict[str, Any]:
    """What the jobs of one pack share, their stream above all."""
    steps = int(settings["steps"])
    return {
        "dataset": dataset,
        "encoder": encoder,
        "body_part_model": bpr,
        "focus": _focus(groups),
        "validation": Validation(**VALIDATION, every=steps),
        "command": COMMAND,
        **settings,
    }


def _focus(groups: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    stratification = default_stratification()
    named = [a for group, asked in groups.items() for a in asked or stratification[group].anatomies]
    return tuple(sorted({leaf for anatomy in named for leaf in vocabulary().leaves(anatomy)}))
