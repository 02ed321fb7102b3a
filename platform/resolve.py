"""From a job to an assignment: every name looked up, every choice made, nothing left to chance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from clnet.anatomy.stratification import default_stratification
from clnet.data_catalog import Catalog, DatasetPin, PatchStream, PlanStore, StreamSpec
from clnet.decoders_registry import DecoderRecord, Registry
from clnet.errors import Incompatible, InputError
from clnet.model.artefact import decode_decoder
from clnet.model.decoder import DecoderConfig
from clnet.model.plan import Plan
from clnet.platform.admission import check_job
from clnet.platform.assignment import Assignment
from clnet.platform.channels import Taught, split_of, survey, taught
from clnet.platform.choices import decoder_config, pruning_schedule, recipe_of, taught_to
from clnet.platform.continuing import distilled_channels, labels_known, older_version, start_from
from clnet.platform.jobs import DecoderJob
from clnet.tune_spaces.rewinding import rewind_to

__all__ = ["resolve", "stores_for"]

Progress = Callable[[float, str], None]


def stores_for(
    job: DecoderJob, registry: Registry, catalog: Catalog, progress: Progress | None = None
) -> list[PlanStore]:
    """Plan stores of the job's datasets, made now where they are missing."""
    plan = registry.encoder(job.encoder).plan
    return [catalog.plan_store(catalog.get(ref), plan, progress) for ref in job.dataset]


def resolve(
    job_id: str,
    job: DecoderJob,
    registry: Registry,
    catalog: Catalog,
    progress: Progress | None = None,
) -> Assignment:
    """The assignment that `job` amounts to, given today's registry and catalog.

    Raises:
        NotFound: something it names is not there.
        InputError: its data does not teach its anatomies.
        Incompatible: parts that were not made for each other.
    """
    check_job(job, registry, catalog)
    encoder = registry.encoder(job.encoder)
    bpr = registry.body_part_model(job.body_part_model)
    stores = stores_for(job, registry, catalog, progress)
    train, held = split_of(stores, job.validation.fraction)
    labels = survey(train)
    base = registry.decoder(job.base) if job.base else None
    supporters = [
        registry.decoder(ref)
        for ref in (job.supporters if base is None else [s.ref for s in base.supporters])
    ]
    older = older_version(job, registry)
    known = {**labels_known(older), **labels}
    if base is None:
        config = decoder_config(job, encoder, known, older, supporters)
        anatomies = default_stratification()[job.decoder].anatomies
    else:
        config = DecoderConfig.from_dict(base.config)
        anatomies = _anatomies(base)
    seen = taught_to(job, config.channels, labels)
    knows = seen if older is None else taught(config.channels, known)
    stream = _stream(job, stores, Plan.from_dict(encoder.plan), anatomies)
    assignment = Assignment(
        job_id=job_id,
        job=job,
        encoder_ref=encoder.ref,
        encoder_sha256=encoder.sha256,
        bpr_ref=bpr.ref,
        bpr_sha256=bpr.sha256,
        stream=stream,
        validation=_validation(job, stores, stream, held_out=bool(held)),
        config=config,
        anatomies=anatomies,
        recipe=recipe_of(job),
        learned=knows.learned,
        unions=knows.unions,
        supporters=tuple(record.ref for record in supporters),
        chain=tuple(d.sha256 for d in (*supporters, *registry.leaned_on(*supporters))),
        start_sha256=registry.decoder(job.start).sha256 if job.start else None,
        terms=tuple(s.dataset.manifest.terms.model_dump(mode="json") for s in stores),
    )
    if older is not None:
        return _to_continue(assignment, older, seen, registry)
    if base is None:
        return assignment
    if job.kind == "prune":
        return _to_prune(assignment, base, registry)
    return _to_update(assignment, base)


def _anatomies(base: DecoderRecord) -> tuple[str, ...]:
    """Of a version's group: as the stratification had them, or what an imported network knows."""
    named = base.config.get("anatomies")
    if named:
        return tuple(named)
    return tuple(sorted({*base.learned, *(leaf for union in base.unions for leaf in union)}))


def _stream(
    job: DecoderJob, stores: Sequence[PlanStore], plan: Plan, own: tuple[str, ...]
) -> StreamSpec:
    if job.focus == "own":
        focus = tuple(sorted(own))
    else:
        focus = () if job.focus == "all" else tuple(sorted(job.focus))
    return StreamSpec(
        datasets=tuple(DatasetPin(ref=s.dataset.ref, sha256=s.dataset.sha256) for s in stores),
        plan_sha256=stores[0].plan_sha256,
        patch_size=job.patch_size or plan.patch_size,
        batch_size=job.batch_size,
        focus=focus,
        foreground=job.foreground,
        total=job.batches,
        seed=job.stream_seed,
        val_fraction=job.validation.fraction,
        period=job.period,
        augment=job.augment,
    )


def _validation(
    job: DecoderJob, stores: Sequence[PlanStore], stream: StreamSpec, *, held_out: bool
) -> StreamSpec:
    """Fixed patches of the held-out cases; of the training cases where those show nothing."""
    judged = stream.model_copy(
        update={
            "split": "val" if held_out else "train",
            "foreground": (0.75, 0.75),
            "total": job.validation.batches,
            "period": job.validation.batches,
            "augment": False,
            "seed": stream.seed + 1,
        }
    )
    try:
        PatchStream(stores, judged)
    except InputError:
        return judged.model_copy(update={"split": "train"})
    return judged


def _to_prune(assignment: Assignment, base: DecoderRecord, registry: Registry) -> Assignment:
    return replace(
        assignment,
        base_ref=base.ref,
        base_sha256=base.sha256,
        learned=base.learned,
        unions=base.unions,
        rewind=rewind_to(assignment.job.rewind, base, registry),
        schedule=pruning_schedule(assignment.job, base),
    )


def _to_continue(
    assignment: Assignment, older: DecoderRecord, seen: Taught, registry: Registry
) -> Assignment:
    _, info = decode_decoder(registry.artefact(older.sha256))
    return replace(
        assignment,
        distilled=distilled_channels(assignment.config.channels, seen, info),
        start_supporters=tuple(decoder.sha256 for decoder in registry.leaned_on(older)),
    )


def _to_update(assignment: Assignment, base: DecoderRecord) -> Assignment:
    config = assignment.config
    own = {channel.members[0] for channel in config.channels if len(channel.members) == 1}
    fresh = sorted(own & set(assignment.learned) - set(base.learned))
    if fresh:
        raise Incompatible(
            f"{base.ref} has not learned {', '.join(fresh)}: an update is for what it knows; "
            f"{start_from(base.ref)}, which learns it beside what {base.ref} knows"
        )
    return replace(
        assignment,
        base_ref=base.ref,
        base_sha256=base.sha256,
        learned=base.learned,
        unions=base.unions,
    )
