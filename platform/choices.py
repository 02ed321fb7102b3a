"""What a job leaves open, chosen: the decoder's shape, how it learns, how it is pruned."""

from __future__ import annotations

from collections.abc import Sequence

from clnet.anatomy.stratification import default_stratification
from clnet.decoders_registry import DecoderRecord, EncoderRecord
from clnet.errors import Incompatible, InputError
from clnet.model.decoder import Channel, DecoderConfig, Supporter
from clnet.model.lottery import PruningSchedule, milder_rates
from clnet.model.training import Recipe
from clnet.platform.channels import Labels, Taught, channels_for, taught
from clnet.platform.continuing import shape_of, start_from
from clnet.platform.jobs import DecoderJob

__all__ = ["decoder_config", "pruning_schedule", "recipe_of", "taught_to"]

WIDTHS = (16, 16, 32, 48, 64)
HEADS = 3
FINEST_KERNEL, KERNEL = (1, 1, 1), (3, 3, 3)
MOMENTUM = 0.99
"""Of the averaged weights of prunings and updates."""


def decoder_config(
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

    Raises:
        Incompatible: more heads than a supporter has.
        InputError: nothing known stands for its anatomies.
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


def taught_to(job: DecoderJob, channels: Sequence[Channel], labels: Labels) -> Taught:
    """What the labels of a job's cases teach these channels.

    Raises:
        InputError: nothing.
    """
    seen = taught(channels, labels)
    if not (seen.learned or seen.unions):
        others = f"; {start_from(job.base)} for others of its group" if job.base else ""
        raise InputError(f"{job.decoder}: the training cases label none of its anatomies{others}")
    return seen


def pruning_schedule(job: DecoderJob, base: DecoderRecord) -> PruningSchedule:
    """The rates that a version is pruned by, and what each is accepted by.

    Raises:
        Incompatible: whole channels of an imported decoder.
        InputError: no rate cuts anything.
    """
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
        window=job.window,
        float16=job.weights == "float16",
    )


def recipe_of(job: DecoderJob) -> Recipe:
    """How a job's decoder learns."""
    momentum = MOMENTUM if job.ema is None and job.kind != "train" else job.ema
    return Recipe(
        steps=job.batches,
        learning_rate=job.learning_rate,
        weight_decay=job.weight_decay,
        warm_up=job.warm_up,
        negatives=job.negatives,
        ema=momentum,
        ema_warm_up=job.kind != "update" if job.ema_warm_up is None else job.ema_warm_up,
    )


def _pin(record: DecoderRecord) -> Supporter:
    config = DecoderConfig.from_dict(record.config)
    return Supporter(record.sha256, len(config.channels) + 1)
