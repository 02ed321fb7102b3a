"""What the phantom benchmark makes: datasets, decoders, a random encoder, releases."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from phantom_recipe import Comparison, Groups, PhantomRecipe, focus_of
from report import command

from clnet.anatomy import default_stratification
from clnet.decoders_registry import DecoderRecord, EncoderRecord, Lineage, ReleaseRecord
from clnet.hub import Hub
from clnet.learning import learn, made_by
from clnet.model.artefact import encode_encoder
from clnet.model.encoder import EncoderConfig, build_encoder, freeze
from clnet.model.plan import Plan
from clnet.platform.jobs import DecoderJob, Validation
from clnet.platform.register import code_version
from clnet.quickstart.recipe import Site
from clnet.quickstart.sites import contribute
from clnet.stages import Tell

__all__ = ["compare", "data", "prune", "random_encoder", "release", "teach"]

RANDOM = "random"


def data(hub: Hub, sites: Mapping[str, Site], tell: Tell) -> dict[str, str]:
    """Datasets by site; one that is there already is reused.

    The name of a dataset tells what is in it, so that another recipe makes another dataset.
    """
    refs = {}
    for index, (name, site) in enumerate(sites.items()):
        digest = _digest(site.model_dump_json())

        def part(fraction: float, text: str, done: int = index) -> None:
            tell((done + fraction) / len(sites), text)

        refs[name] = contribute(hub, f"{name}-{digest}", site, part)[0].ref
    return refs


def teach(
    hub: Hub,
    recipe: PhantomRecipe,
    datasets: Mapping[str, str],
    known: Mapping[str, DecoderRecord],
    tell: Tell,
) -> dict[str, DecoderRecord]:
    """Dense decoders of the new groups, begun with known decoders of their layer."""
    pins = _pins(next(iter(known.values())))
    jobs = []
    for name, site in recipe.sites.items():
        for seed, (group, anatomies) in enumerate(site.decoders.items(), start=1):
            start = recipe.start.get(default_stratification()[group].layer)
            jobs.append(
                DecoderJob(
                    decoder=group,
                    dataset=datasets[name],
                    anatomies=anatomies,
                    start=known[start].ref if start else None,
                    seed=seed,
                    **_common(recipe.train, site.decoders),
                    **pins,
                )
            )
    return _made(hub, jobs, tell)


def prune(
    hub: Hub,
    recipe: PhantomRecipe,
    datasets: Mapping[str, str],
    dense: Mapping[str, DecoderRecord],
    tell: Tell,
) -> dict[str, DecoderRecord]:
    """Pruned versions of `dense`, on the data that taught them."""
    jobs = [
        DecoderJob(
            decoder=group,
            kind="prune",
            base=dense[group].ref,
            dataset=datasets[name],
            **_common(recipe.prune | {"rates": recipe.rates_of(group)}, site.decoders),
            **_pins(dense[group]),
        )
        for name, site in recipe.sites.items()
        for group in site.decoders
    ]
    return _made(hub, jobs, tell)


def compare(
    hub: Hub,
    comparison: Comparison,
    dataset: str,
    encoder: EncoderRecord,
    body_part_model: str,
    tell: Tell,
) -> dict[str, DecoderRecord]:
    """All groups' decoders from nothing on `encoder`: the same jobs whichever it is."""
    jobs = [
        DecoderJob(
            decoder=group,
            dataset=dataset,
            anatomies=anatomies,
            seed=seed,
            encoder=encoder.ref,
            body_part_model=body_part_model,
            **_common(comparison.train, groups),
        )
        for groups in comparison.packs.values()
        for seed, (group, anatomies) in enumerate(groups.items(), start=1)
    ]
    return _made(hub, jobs, tell)


def random_encoder(hub: Hub, like: EncoderRecord, seed: int) -> EncoderRecord:
    """An encoder of the shape and plan of `like` that never learned; again is as once."""
    plan = Plan.from_dict(like.plan)
    encoder = freeze(build_encoder(EncoderConfig.from_dict(like.config), seed))
    return hub.registry.add_encoder(
        RANDOM,
        encode_encoder(encoder, plan),
        plan.to_dict(),
        encoder.config.to_dict(),
        Lineage(command=command(), code_version=code_version(), seeds={"encoder": seed}),
    )


def release(
    hub: Hub, name: str, decoders: Sequence[DecoderRecord], parent: str | None = None
) -> ReleaseRecord:
    """The release of these decoders; its name ends in a hash of them."""
    refs = sorted(record.ref for record in decoders)
    first = decoders[0]
    return hub.releases.create(
        f"{name}-{_digest(*(record.sha256 for record in decoders), parent or '')}",
        refs,
        encoder=first.encoder_ref,
        body_part_model=first.body_part_model_ref,
        parent=parent,
    )


def _made(hub: Hub, jobs: Sequence[DecoderJob], tell: Tell) -> dict[str, DecoderRecord]:
    """What the jobs make by group; a job that was done already is not done again."""
    have = {job.decoder: record for job in jobs if (record := made_by(hub, job)) is not None}
    missing = [job for job in jobs if job.decoder not in have]
    return have | {record.group: record for record in learn(hub, missing, tell)}


def _common(settings: Mapping[str, Any], groups: Groups) -> dict[str, Any]:
    """What the jobs of one pack share, their stream above all."""
    # judged once, at the end and briefly: the held-out phantoms judge the decoders
    validation = Validation(fraction=0.1, batches=8, every=int(settings["steps"]))
    return {
        "focus": focus_of(groups),
        "validation": validation,
        "command": command(),
        **settings,
    }


def _pins(record: DecoderRecord) -> dict[str, str]:
    return {"encoder": record.encoder_ref, "body_part_model": record.body_part_model_ref}


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:10]
