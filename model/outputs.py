"""What a decoder's channels amount to: the anatomies it may report, from what it has learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clnet.anatomy.vocabulary import vocabulary
from clnet.model.artefact import DecoderInfo
from clnet.model.body_part_curve import Range
from clnet.model.decoder import DecoderConfig

__all__ = [
    "Output",
    "fold_logits",
    "ignored_channels",
    "outputs_of",
    "unlearned",
]


@dataclass(frozen=True, slots=True)
class Output:
    """One anatomy that a decoder reports.

    Attributes:
        anatomy: canonical id; a composite where labels taught its parts only together.
        layer: the layer the anatomy is written in.
        members: leaf anatomies it stands for.
        channels: logit channels that are summed into it.
        range: where along the body it lives, or None if that is not known.
    """

    anatomy: str
    layer: str
    members: tuple[str, ...]
    channels: tuple[int, ...]
    range: Range | None


def outputs_of(info: DecoderInfo) -> tuple[Output, ...]:
    """The anatomies a decoder reports, in the order of their first channels.

    A channel that labels supervised exactly stands for itself. Channels that labels supervised
    only together are summed into their composite. All others are background.
    """
    learned, unions = set(info.learned), sorted(info.unions, key=lambda u: (len(u), sorted(u)))
    groups: dict[str, list[int]] = {}
    members: dict[str, tuple[str, ...]] = {}
    for index, channel in enumerate(info.config.channels, start=1):
        own = set(channel.members)
        if not own:
            continue
        if channel.name in learned or own <= learned:
            name, stands_for = channel.name, channel.members
        else:
            union = next((u for u in unions if own <= set(u)), None)
            if union is None:
                continue
            name = channel.name if own == set(union) else vocabulary().composite_of(union)
            stands_for = union
        groups.setdefault(name, []).append(index)
        members[name] = tuple(sorted(stands_for))
    return tuple(
        Output(
            name,
            _layer(members[name], info.config.layer),
            members[name],
            tuple(channels),
            _range(name, members[name], info.ranges),
        )
        for name, channels in groups.items()
    )


def unlearned(info: DecoderInfo) -> tuple[str, ...]:
    """Leaves that the decoder has channels for but may not report by themselves."""
    reported = {output.anatomy for output in outputs_of(info)}
    leaves = (m for channel in info.config.channels for m in channel.members)
    covered = {m for c in info.config.channels if c.name in reported for m in c.members}
    return tuple(leaf for leaf in leaves if leaf not in covered)


def ignored_channels(config: DecoderConfig) -> tuple[int, ...]:
    """Channels of an imported network that stand for nothing here, but win voxels of their own."""
    return tuple(k for k, channel in enumerate(config.channels, start=1) if not channel.members)


def fold_logits(
    logits: Tensor, outputs: Sequence[Output], temperature: float, ignored: Sequence[int] = ()
) -> Tensor:
    """Logits ``(1 + outputs, Z, Y, X)``: background, each output, what is ignored.

    Channels ``C`` are summed as probabilities at temperature T: ``T logsumexp(l_c / T)``, so that
    softmax of the result over T gives the calibrated, summed probabilities. A channel that stands
    alone passes to the bit, so that no temperature changes which of such channels wins.
    """
    kept = {channel for output in outputs for channel in output.channels} | set(ignored)
    background = [c for c in range(len(logits)) if c not in kept]
    plan = [background, *(list(output.channels) for output in outputs), *([c] for c in ignored)]
    if all(channels == [index] for index, channels in enumerate(plan)):
        return logits
    return torch.stack([_summed(logits, channels, temperature) for channels in plan])


def _summed(logits: Tensor, channels: list[int], temperature: float) -> Tensor:
    if len(channels) == 1:
        return logits[channels[0]]
    return temperature * torch.logsumexp(logits[channels] / temperature, dim=0)


def _layer(members: tuple[str, ...], default: str) -> str:
    """An imported decoder may span layers: each anatomy is written in its own."""
    return vocabulary()[members[0]].layer if members[0] in vocabulary() else default


def _range(name: str, members: tuple[str, ...], ranges: dict[str, Range]) -> Range | None:
    if name in ranges:
        return ranges[name]
    parts = [ranges[m] for m in members if m in ranges]
    if len(parts) < len(members):
        return None
    return Range(
        min(p.p005 for p in parts),
        max(p.p995 for p in parts),
        min(p.low for p in parts),
        max(p.high for p in parts),
    )
