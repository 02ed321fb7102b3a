"""Making the starter release from nothing; what was made already is not made again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from clnet.data_catalog import Dataset
from clnet.decoders_registry import DatasetUse, DecoderRecord, Lineage, ReleaseRecord
from clnet.errors import NotFound
from clnet.hub import Hub
from clnet.judging import channels_of, dense_model, held_out_scans, scores_of
from clnet.model.artefact import encode_encoder
from clnet.model.body_part import encode_body_part_model
from clnet.model.encoder import freeze
from clnet.model.numerics import numerics_class
from clnet.platform.body_parts import make_body_part_model
from clnet.platform.evaluation import mean_dsc
from clnet.platform.register import code_version
from clnet.serve import load_release
from clnet.stages import Stage, Stages
from clnet.starter.data import contribute_phantoms, contribute_real_scans, record
from clnet.starter.decoders import COMMAND, prune_decoders, train_decoders
from clnet.starter.encoder import pretrain_encoder
from clnet.starter.recipe import StarterRecipe
from clnet.starter.teachers import register_teachers, teachers

__all__ = ["make_starter"]


def make_starter(
    hub: Hub, recipe: StarterRecipe, stages: Stages, real_data: Path | None = None
) -> tuple[ReleaseRecord, dict[str, dict[str, float]]]:
    """The starter release, registered in `hub`; a second call reuses all that the first made.

    Args:
        real_data: folder of openly licensed scans that the encoder learns from too.

    Returns:
        The release, and per anatomy its DSC on the held-out phantoms, dense and pruned.
    """
    with stages.stage("data") as stage:
        phantoms = contribute_phantoms(hub.catalog, recipe, stage)
        scans = contribute_real_scans(hub.catalog, recipe, real_data) if real_data else []
        datasets = [phantoms, *scans]
        for dataset in datasets:
            record(hub, dataset)
        stage.outcome = f"{phantoms.ref} ({len(phantoms)} phantoms), {len(scans)} open scans"
    with stages.stage("encoder") as stage:
        encoder, reused = _encoder(hub, recipe, datasets, stage)
        stage.outcome = f"{encoder}{reused}"
    with stages.stage("body parts") as stage:
        bpr, reused = _body_part_model(hub, recipe, datasets, stage)
        stage.outcome = f"{bpr}{reused}"
    with stages.stage("teachers") as stage:
        stage.outcome = _teachers(hub, recipe, datasets, encoder, bpr, stage)
    with stages.stage("decoders") as stage:
        dense = train_decoders(hub, recipe, phantoms.ref, encoder, bpr, stage)
        stage.outcome = f"{len(dense)} dense decoders"
    with stages.stage("pruning") as stage:
        pruned = prune_decoders(hub, recipe, dense, phantoms.ref, encoder, bpr, stage)
        mean = sum(p.ticket.sparsity for p in pruned.values() if p.ticket) / len(pruned)
        stage.outcome = f"{len(pruned)} pruned decoders, {100 * mean:.1f} % of the weights cut"
    with stages.stage("release") as stage:
        release = hub.releases.create(
            recipe.name,
            sorted(decoder.ref for decoder in pruned.values()),
            encoder=encoder,
            body_part_model=bpr,
        )
        stage.outcome = f"release {release.name}"
    with stages.stage("judge") as stage:
        figures = _judge(hub, recipe, release, dense, stage)
        before, after = (
            sum(f[kind] for f in figures.values()) / len(figures) for kind in ("dense", "pruned")
        )
        stage.outcome = f"held-out phantoms: mean DSC {before:.3f} dense, {after:.3f} pruned"
    return release, figures


def _judge(
    hub: Hub,
    recipe: StarterRecipe,
    release: ReleaseRecord,
    dense: Mapping[str, DecoderRecord],
    stage: Stage,
) -> dict[str, dict[str, float]]:
    part = recipe.held_out
    scans = list(
        held_out_scans(
            part.first_seed, part.count, part.field_of_view, part.spacing, part.orientations
        )
    )
    anatomies = channels_of(release.decoders)
    pruned = load_release(hub.registry, release.name)
    unpruned = dense_model(hub.registry, pruned, dense)
    scores: dict[str, dict[str, float]] = {}
    for index, (kind, model) in enumerate((("dense", unpruned), ("pruned", pruned))):
        found = []
        for number, scan in enumerate(scans):
            stage((index + number / len(scans)) / 2, f"{kind} decoders on {scan.name}")
            found.append(scores_of(model, scan, anatomies))
        scores[kind] = mean_dsc(found)
    return {name: {kind: scores[kind][name] for kind in scores} for name in sorted(scores["dense"])}


def _encoder(
    hub: Hub, recipe: StarterRecipe, datasets: Sequence[Dataset], stage: Stage
) -> tuple[str, str]:
    try:
        return hub.encoders.get(recipe.name).ref, " (reused)"
    except NotFound:
        pass
    training = pretrain_encoder(hub.catalog, datasets, recipe, hub.workspace.runs, stage)
    encoder = freeze(training.encoder)
    made = hub.registry.add_encoder(
        recipe.name,
        encode_encoder(encoder, recipe.make_plan()),
        recipe.make_plan().to_dict(),
        encoder.config.to_dict(),
        _lineage(datasets, {"pretraining": recipe.pretraining.seed}, recipe),
    )
    return made.ref, ""


def _teachers(
    hub: Hub,
    recipe: StarterRecipe,
    datasets: Sequence[Dataset],
    encoder: str,
    bpr: str,
    stage: Stage,
) -> str:
    wanted = {teacher.name for teacher in teachers(recipe)}
    if wanted <= {record.group for record in hub.decoders.list()}:
        return f"{len(wanted)} decoders (reused)"
    training = pretrain_encoder(hub.catalog, datasets, recipe, hub.workspace.runs, stage)
    lineage = _lineage(datasets, {"pretraining": recipe.pretraining.seed}, recipe)
    register_teachers(hub, training.teachers, encoder, bpr, lineage)
    return f"{len(wanted)} decoders, one per layer, come with the encoder"


def _body_part_model(
    hub: Hub, recipe: StarterRecipe, datasets: Sequence[Dataset], stage: Stage
) -> tuple[str, str]:
    try:
        return hub.registry.body_part_model(recipe.name).ref, " (reused)"
    except NotFound:
        pass
    plan = recipe.make_plan().to_dict()
    stores = [hub.catalog.plan_store(dataset, plan) for dataset in datasets]
    part = recipe.body_part_model
    model = make_body_part_model(stores, recipe.plan.spacing, part.steps, part.seed, stage)
    made = hub.registry.add_body_part_model(
        recipe.name,
        encode_body_part_model(model),
        _lineage(datasets, {"body_part_model": recipe.body_part_model.seed}, recipe),
    )
    return made.ref, ""


def _lineage(datasets: Sequence[Dataset], seeds: dict[str, int], recipe: StarterRecipe) -> Lineage:
    import torch

    return Lineage(
        command=COMMAND,
        code_version=code_version(),
        seeds=seeds,
        datasets=tuple(
            DatasetUse(
                ref=dataset.ref,
                sha256=dataset.sha256,
                terms=dataset.manifest.terms.model_dump(mode="json"),
            )
            for dataset in datasets
        ),
        numerics=numerics_class(torch.device("cpu")),
        config={"recipe": recipe.model_dump(mode="json")},
    )
