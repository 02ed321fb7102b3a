"""A training that goes on from an older version of its group, and keeps what that one knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from clnet.decoders_registry import DecoderRecord, Registry
from clnet.model.artefact import DecoderInfo
from clnet.model.body_part_curve import Range
from clnet.model.decoder import Channel, DecoderConfig
from clnet.model.distillation import shared_meanings
from clnet.model.outputs import outputs_of
from clnet.platform.channels import Labels, Taught
from clnet.platform.jobs import DecoderJob
from clnet.platform.ranges import joined

__all__ = [
    "distilled_channels",
    "labels_known",
    "older_version",
    "ranges_with",
    "shape_of",
    "start_from",
]


def older_version(job: DecoderJob, registry: Registry) -> DecoderRecord | None:
    """The version that a training starts from, if that is one of its own group.

    A start of another group lends its weights, and nothing that it knows.
    """
    if job.start is None:
        return None
    start = registry.decoder(job.start)
    return start if start.group == job.decoder else None


def start_from(ref: str) -> str:
    """How to ask for such a training, in words."""
    return f"train a new version that starts from it (kind=train, start={ref})"


def labels_known(older: DecoderRecord | None) -> Labels:
    """What an older version has learned, as if it were labels."""
    if older is None:
        return {}
    return dict.fromkeys([*((leaf,) for leaf in older.learned), *older.unions], 1)


def shape_of(
    older: DecoderRecord,
) -> tuple[tuple[int, ...], tuple[tuple[int, int, int], ...]] | None:
    """Widths and kernels that take all its weights over; None of a compacted or imported one."""
    config = DecoderConfig.from_dict(older.config)
    if config.kind != "clnet" or config.remains is not None:
        return None
    return config.widths, config.kernels


def distilled_channels(
    channels: Sequence[Channel], seen: Taught, older: DecoderInfo
) -> tuple[int, ...]:
    """Channels that the older version knows and that no label of the data teaches by themselves.

    A side that the data knows only as part of a union is one of them: the older version tells
    which side it is.
    """
    known = {k for ours, _ in shared_meanings(channels, older) for k in ours}
    exact, unions = set(seen.learned), {frozenset(union) for union in seen.unions}
    return tuple(
        k
        for k, channel in enumerate(channels, start=1)
        if k in known
        and not set(channel.members) <= exact
        and frozenset(channel.members) not in unions
    )


def ranges_with(
    older: DecoderInfo, channels: Sequence[Channel], measured: Mapping[str, Range]
) -> dict[str, Range]:
    """Ranges of a new version: those of the older one too for what that one knows."""
    names = {channel.name for channel in channels}
    known = {output.anatomy for output in outputs_of(older)}
    fresh = {name: found for name, found in measured.items() if name not in known}
    kept = {name: found for name, found in older.ranges.items() if name in names & known}
    return fresh | joined(kept, measured)
