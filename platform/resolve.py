"""From a job to an assignment: every name looked up, every choice made, nothing left to chance."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from clnet.anatomy.stratification import default_stratification
from clnet.anatomy.vocabulary import vocabulary
from clnet.data_catalog import Catalog, DatasetPin, PatchStream, PlanStore, StreamSpec
from clnet.decoders_registry import DecoderRecord, EncoderRecord, Registry
from clnet.errors import Incompatible, InputError
from clnet.model.artefact import decode_decoder
from clnet.model.decoder import Channel, DecoderConfig, Supporter, check_decoder
from clnet.model.encoder import EncoderConfig
from clnet.model.lottery import Lottery, PruningSchedule, milder_rates
from clnet.model.plan import Plan
from clnet.model.ticket import read_ticket
from clnet.model.training import Recipe
from clnet.platform.channels import Labels, Taught, channels_for, split_of, survey, taught
from clnet.platform.continuing import (
    distilled_channels,
    labels_known,
    older_version,
    shape_of,
    start_from,
)
from clnet.platform.jobs import DecoderJob
from clnet.tune_spaces.rewinding import RewindTo, rewind_to

__all__ = ["Assignment", "check_job", "resolve", "stores_for"]

WIDTHS = (16, 16, 32, 48, 64)
HEADS = 3
FINEST_KERNEL, KERNEL = (1, 1, 1), (3, 3, 3)
UPDATE_MOMENTUM = 0.99

Progress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class Assignment:
    """A job with everything it needs, by content hash.

    Attributes:
        job_id, job: what was asked.
        encoder_ref, encoder_sha256, bpr_ref, bpr_sha256: what the decoder is pinned to.
        stream, validation: what it reads.
        config: the decoder.
        anatomies: of its group, those that it has no channel for included.
        recipe: how it learns.
        learned, unions: what the data teaches, by exact labels and by unions.
        start_sha256, start_supporters: decoder that a training borrows its first weights from,
            and those it leans on.
        base_ref, base_sha256: version it begins with, of prune and update.
        rewind: earlier weights of the base, of prune.
        schedule: of prune.
        supporters: refs, in the order of ``config.supporters``.
        chain: hashes of all that it leans on, of what its supporters lean on too.
        distilled: channels that the data does not label and an older version knows, of a training
            that starts from one.
        terms: of each dataset, JSON-able.
    """

    job_id: str
    job: DecoderJob
    encoder_ref: str
    encoder_sha256: str
    bpr_ref: str
    bpr_sha256: str
    stream: StreamSpec
    validation: StreamSpec
    config: DecoderConfig
    anatomies: tuple[str, ...]
    recipe: Recipe
    learned: tuple[str, ...]
    unions: tuple[tuple[str, ...], ...]
    start_sha256: str | None = None
    start_supporters: tuple[str, ...] = ()
    base_ref: str | None = None
    base_sha256: str | None = None
    rewind: RewindTo | None = None
    schedule: PruningSchedule | None = None
    supporters: tuple[str, ...] = ()
    chain: tuple[str, ...] = ()
    distilled: tuple[int, ...] = ()
    terms: tuple[dict[str, object], ...] = ()

    @property
    def pack_key(self) -> str:
        """Equal for jobs that can share a pack: they read the same stream the same way."""
        shared = {
            "encoder": self.encoder_sha256,
            "stream": self.stream.sha256,
            "validation": self.validation.sha256,
            "validate_every": self.job.validate_every,
            "checkpoint_every": self.checkpoint_every,
            "precision": self.job.precision,
            "rounds": bool(self.schedule and len(self.schedule.cuts) > 1),
            "cache_bytes": self.job.cache_bytes,
        }
        return hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()

    @property
    def checkpoint_every(self) -> int:
        """Batches between checkpoints."""
        return self.job.checkpoint_every or max(1, self.recipe.steps // 10)

    @property
    def needs(self) -> tuple[str, ...]:
        """Hashes of the artefacts that a worker must have."""
        own = (
            self.encoder_sha256,
            self.bpr_sha256,
            self.start_sha256,
            self.base_sha256,
            self.rewind and self.rewind.sha256,
            self.rewind and self.rewind.start,
        )
        return (*(sha for sha in own if sha), *self.start_supporters, *self.chain)


def check_job(job: DecoderJob, registry: Registry, catalog: Catalog) -> None:
    """What can be said against a job without reading its data.

    Raises:
        NotFound: something it names is not there.
        InputError: no label of its datasets teaches its anatomies, or a network or patch size that
            cannot be.
        Incompatible: parts that were not made for each other, or data that was withdrawn.
    """
    if job.base is None:
        default_stratification()[job.decoder]
    encoder = registry.encoder(job.encoder)
    network = EncoderConfig.from_dict(encoder.config)
    network.check_patch(job.patch_size or Plan.from_dict(encoder.plan).patch_size)
    registry.body_part_model(job.body_part_model)
    datasets = [catalog.get(ref) for ref in job.dataset]
    for dataset in datasets:
        registry.check_usable(dataset.ref)
    for ref in filter(None, (*job.supporters, job.base, job.start)):
        decoder = registry.decoder(ref)
        if decoder.encoder_sha256 != encoder.sha256:
            raise Incompatible(
                f"{ref} was trained on {decoder.encoder_ref}, the job asks for {encoder.ref}"
            )
        if ref == job.base:
            if decoder.group != job.decoder:
                raise Incompatible(f"{ref} is no version of {job.decoder}")
            _check_trainable(decoder)
            if job.kind == "prune":
                _check_cuts(job, decoder, registry)
    # what the cases may know; which of it the training cases show, their voxels tell later
    labels = {use.members: use.cases for dataset in datasets for use in dataset.labels}
    if job.base is None:
        older = older_version(job, registry)
        supporters = [registry.decoder(ref) for ref in job.supporters]
        config = _config(job, encoder, {**labels_known(older), **labels}, older, supporters)
        check_decoder(config, network)
        _taught(job, config.channels, labels)
    else:
        base = registry.decoder(job.base)
        _taught(job, DecoderConfig.from_dict(base.config).channels, labels)


def _check_trainable(base: DecoderRecord) -> None:
    """Imported decoders may be what the label contract's loss does not describe."""
    config = DecoderConfig.from_dict(base.config)
    if config.regions:
        raise Incompatible(
            f"{base.ref} was trained on regions that lie over each other, which no loss here "
            "teaches: it is served as imported, and can be neither pruned nor updated"
        )
    layers = sorted({vocabulary()[m].layer for c in config.channels for m in c.members})
    if len(layers) > 1:
        raise Incompatible(
            f"{base.ref} segments anatomies of {len(layers)} layers ({', '.join(layers)}) in one "
            "softmax, which labels of one layer cannot teach: it is served as imported, and can be "
            "neither pruned nor updated"
        )


def _check_cuts(job: DecoderJob, base: DecoderRecord, registry: Registry) -> None:
    """What was pruned already is pruned further: only its weights tell which rates do that."""
    schedule = _schedule(job, base)
    if base.ticket is None:
        return
    decoder, _ = decode_decoder(registry.artefact(base.sha256))
    lottery = Lottery(schedule, decoder.state_dict(), read_ticket(decoder))
    if lottery.draw(decoder) is None:
        raise InputError(
            f"prune {base.ref}: {base.ticket.sparsity:.1%} of its weights are cut already, and a "
            f"rate of {max(schedule.rates)} would cut nothing more; give a higher one, or prune "
            "its dense version"
        )


def _schedule(job: DecoderJob, base: DecoderRecord) -> PruningSchedule:
    config = DecoderConfig.from_dict(base.config)
    if job.scope == "channel" and config.kind != "clnet":
        raise Incompatible(
            f"prune {base.ref}: whole channels are cut in decoders of clnet's own blocks, this one "
            f"is made of {config.kind}'s; cut single weights: scope global or layer"
        )
    rates = job.rates or milder_rates(config.widths[0])
    if job.rate is not None:
        rates = (job.rate,)
    if max(rates) <= 0:
        raise InputError(
            f"prune {base.ref}: every rate is 0 or less; those made milder for {config.widths[0]} "
            "base features are, so give a rate or rates"
        )
    return PruningSchedule(
        rates=rates,
        tolerance=job.may_lose,
        retries=job.retries if job.rate is None else 0,
        scope=job.scope,
        float16=job.weights == "float16",
    )


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
        config = _config(job, encoder, known, older, supporters)
        anatomies = default_stratification()[job.decoder].anatomies
    else:
        config = DecoderConfig.from_dict(base.config)
        anatomies = _anatomies(base)
    seen = _taught(job, config.channels, labels)
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
        recipe=_recipe(job),
        learned=knows.learned,
        unions=knows.unions,
        supporters=tuple(record.ref for record in supporters),
        chain=_chain(supporters, registry),
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


def _config(
    job: DecoderJob,
    encoder: EncoderRecord,
    known: Labels,
    older: DecoderRecord | None,
    supporters: Sequence[DecoderRecord],
) -> DecoderConfig:
    """The new decoder of a training, as far as the job says; sensible where it does not.

    Args:
        known: what labels teach, and what `older` has learned.
        older: version that it goes on from.
    """
    group = default_stratification()[job.decoder]
    scales = len(encoder.config["features"]) - 1
    widths = job.widths or (*WIDTHS, *WIDTHS[-1:] * scales)[:scales]
    kernels = job.kernels or (FINEST_KERNEL, *(KERNEL for _ in widths[1:]))
    if older is not None and not job.widths and not job.kernels:
        widths, kernels = shape_of(older) or (widths, kernels)
    there = {record.ref: DecoderConfig.from_dict(record.config).heads for record in supporters}
    for ref, heads in there.items():
        if job.heads is not None and job.heads > heads:
            raise Incompatible(
                f"decoder {group.id}: supporter {ref} gives logits at {heads} scales only: set "
                f"heads to {heads} or less, not {job.heads}"
            )
    return DecoderConfig(
        group=group.id,
        layer=group.layer,
        channels=channels_for(group, known, job.anatomies),
        widths=widths,
        kernels=kernels,
        heads=job.heads or min(HEADS, len(widths), *there.values()),
        supporters=tuple(_pin(record) for record in supporters),
    )


def _taught(job: DecoderJob, channels: Sequence[Channel], labels: Labels) -> Taught:
    seen = taught(channels, labels)
    if not (seen.learned or seen.unions):
        others = f"; {start_from(job.base)} for others of its group" if job.base else ""
        raise InputError(f"{job.decoder}: the training cases label none of its anatomies{others}")
    return seen


def _anatomies(base: DecoderRecord) -> tuple[str, ...]:
    """Of a version's group: as the stratification had them, or what an imported network knows."""
    named = base.config.get("anatomies")
    if named:
        return tuple(named)
    return tuple(sorted({*base.learned, *(leaf for union in base.unions for leaf in union)}))


def _pin(record: DecoderRecord) -> Supporter:
    config = DecoderConfig.from_dict(record.config)
    return Supporter(record.sha256, len(config.channels) + 1)


def _chain(supporters: Sequence[DecoderRecord], registry: Registry) -> tuple[str, ...]:
    """Hashes of supporters and of all that they lean on, each once."""
    found: dict[str, None] = {}
    waiting = list(supporters)
    while waiting:
        record = waiting.pop(0)
        found[record.sha256] = None
        waiting += [registry.decoder(s.ref) for s in record.supporters if s.sha256 not in found]
    return tuple(found)


def _recipe(job: DecoderJob) -> Recipe:
    momentum = UPDATE_MOMENTUM if job.ema is None and job.kind != "train" else job.ema
    return Recipe(
        steps=job.batches,
        learning_rate=job.learning_rate,
        weight_decay=job.weight_decay,
        warm_up=job.warm_up,
        negatives=job.negatives,
        ema=momentum,
        ema_warm_up=job.kind != "update" if job.ema_warm_up is None else job.ema_warm_up,
    )


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
        schedule=_schedule(assignment.job, base),
    )


def _to_continue(
    assignment: Assignment, older: DecoderRecord, seen: Taught, registry: Registry
) -> Assignment:
    _, info = decode_decoder(registry.artefact(older.sha256))
    return replace(
        assignment,
        distilled=distilled_channels(assignment.config.channels, seen, info),
        start_supporters=_chain([registry.decoder(s.ref) for s in older.supporters], registry),
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
