"""New decoders on the frozen encoder, their pruning rates, and an update of a known one."""

from __future__ import annotations

from collections.abc import Mapping

from clnet.anatomy import default_stratification
from clnet.decoders_registry import DecoderRecord
from clnet.hub import Hub
from clnet.learning import learn
from clnet.platform.jobs import DecoderJob, Validation
from clnet.platform.ray_runtime import ray_runtime
from clnet.platform.register import code_version
from clnet.quickstart.recipe import QuickstartRecipe
from clnet.stages import Tell
from clnet.tune_spaces.search import search_pruning_rates
from clnet.tune_spaces.space import load_space

__all__ = ["search", "teach", "update"]

COMMAND = "clnet quickstart"

Datasets = Mapping[str, str]
"""Site dataset's name to the ref of its version."""


def teach(
    hub: Hub,
    recipe: QuickstartRecipe,
    datasets: Datasets,
    starter: Mapping[str, DecoderRecord],
    tell: Tell,
) -> tuple[dict[str, DecoderRecord], bool]:
    """Dense versions of the new groups, and whether they were there already.

    Groups of one site read the same stream, so they share a pack.

    Args:
        starter: decoders of the starter release by group, to lean on.
    """
    have = {
        record.group: record
        for group in recipe.decoders
        for record in hub.decoders.list(group)
        if record.ticket is None and _reads(record, datasets[recipe.decoders[group].site])
    }
    if have.keys() == recipe.decoders.keys():
        return have, True
    known = next(iter(starter.values()))
    jobs = [
        DecoderJob(
            decoder=group,
            dataset=datasets[new.site],
            encoder=known.encoder_ref,
            body_part_model=known.body_part_model_ref,
            seed=new.seed,
            start=starter[new.start].ref if new.start else None,
            focus=tuple(sorted(_learned_from(recipe, new.site))),
            supporters=tuple(starter[name].ref for name in new.supporters),
            validation=Validation(batches=24, every=int(recipe.train["steps"])),
            command=COMMAND,
            **recipe.train,
        )
        for group, new in recipe.decoders.items()
        if group not in have
    ]
    made = learn(hub, jobs, tell)
    return have | {record.group: record for record in made}, False


def search(
    hub: Hub, recipe: QuickstartRecipe, dense: Mapping[str, DecoderRecord], tell: Tell
) -> tuple[dict[str, DecoderRecord], bool]:
    """Pruned versions of the new groups, and whether they were there already."""
    have = {
        group: record
        for group in dense
        for record in hub.decoders.list(group)
        if record.ticket is not None and record.ticket.dense_sha == dense[group].sha256
    }
    if have.keys() == dense.keys():
        return have, True
    with ray_runtime(hub.ray, token_file=hub.workspace.ray_token):
        found = search_pruning_rates(
            hub.registry,
            hub.catalog,
            [record.ref for group, record in dense.items() if group not in have],
            load_space(recipe.search.space),
            tolerance=recipe.search.tolerance,
            code_version=code_version(),
            storage=hub.workspace.runs,
            command=COMMAND,
            progress=tell,
        )
    return have | {one.pruned.group: one.pruned for one in found}, False


def update(
    hub: Hub,
    recipe: QuickstartRecipe,
    datasets: Datasets,
    starter: Mapping[str, DecoderRecord],
    tell: Tell,
) -> tuple[DecoderRecord, bool]:
    """The new version of the known group that a site has new data of, by moving average."""
    settings = dict(recipe.update)
    group, site = settings.pop("group"), settings.pop("site")
    base = starter[group]
    for record in hub.decoders.list(group):
        if record.parent_ref == base.ref and _reads(record, datasets[site]):
            return record, True
    job = DecoderJob(
        decoder=group,
        kind="update",
        base=base.ref,
        dataset=datasets[site],
        encoder=base.encoder_ref,
        body_part_model=base.body_part_model_ref,
        validation=Validation(batches=24, every=int(settings["steps"])),
        command=COMMAND,
        **settings,
    )
    return learn(hub, [job], tell)[0], False


def _reads(record: DecoderRecord, dataset: str) -> bool:
    return any(use.ref == dataset for use in record.lineage.datasets)


def _learned_from(recipe: QuickstartRecipe, site: str) -> set[str]:
    """What the new groups of a site learn: patches centred on more would be lost on them."""
    groups = default_stratification()
    new = {
        a for name, g in recipe.decoders.items() if g.site == site for a in groups[name].anatomies
    }
    labelled = {a for members in recipe.sites[site].labels.values() for a in members}
    return new & labelled
