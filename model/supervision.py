"""Loss of one decoder under the label contract: unknown is unknown, a union is a sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clnet.anatomy import UNKNOWN, LabelContract, Patch
from clnet.model.decoder import Channel

__all__ = ["Region", "Supervision", "deep_supervision_loss", "has_foreground", "supervise"]

SMOOTH = 1e-5


@dataclass(frozen=True, slots=True)
class Region:
    """Voxels that a label names, and the channels whose probabilities should sum to one there.

    Attributes:
        channels: indices into the logits' channel axis.
        truth: bool ``(B, Z, Y, X)``, where the label is.
        known: bool ``(B, Z, Y, X)``, where the label would be, were it there.
    """

    channels: tuple[int, ...]
    truth: Tensor
    known: Tensor


@dataclass(frozen=True, slots=True)
class Supervision:
    """What a batch teaches one decoder.

    Attributes:
        allowed: bool ``(B, K + 1, Z, Y, X)``: channels that a voxel may belong to. All of them
            where nothing is known, which gives no gradient.
        regions: what the Dice loss looks at.
    """

    allowed: Tensor
    regions: tuple[Region, ...]

    def strided(self, step: Sequence[int]) -> Supervision:
        """The supervision of a coarser head, by picking every `step`-th voxel."""
        z, y, x = step
        return Supervision(
            self.allowed[..., ::z, ::y, ::x],
            tuple(
                Region(r.channels, r.truth[..., ::z, ::y, ::x], r.known[..., ::z, ::y, ::x])
                for r in self.regions
            ),
        )


def has_foreground(patch: Patch, layer: str, channels: Sequence[Channel]) -> bool:
    """Whether the patch holds a voxel labelled as one of the decoder's anatomies."""
    members = {m for channel in channels for m in channel.members}
    values = [e.value for e in patch.contract.for_layer(layer) if members & set(e.members)]
    return bool(values) and bool(np.isin(_codes(patch, layer), values).any())


def supervise(
    patches: Sequence[Patch],
    layer: str,
    channels: Sequence[Channel],
    device: torch.device | None = None,
) -> Supervision:
    """What the labels of `patches` teach a decoder of `channels` in `layer`.

    A voxel of :data:`~clnet.anatomy.UNKNOWN` may be anything, and is known to no region. A voxel
    labelled `M` may belong to the channels that share an anatomy with `M`, and to
    background if some of `M` is outside the decoder's group. An unlabelled voxel may be
    background or any channel whose anatomies the contract does not know on that slice.
    """
    shape = patches[0].image.shape
    allowed = torch.empty((len(patches), *shape, len(channels) + 1), dtype=torch.bool)
    truths: dict[tuple[int, ...], Tensor] = {}
    knowns: dict[tuple[int, ...], Tensor] = {}
    for b, patch in enumerate(patches):
        codes = torch.from_numpy(_codes(patch, layer))
        table = torch.from_numpy(_allowed(patch.contract, layer, channels, patch.z_mm))
        if len(table) == 1:
            allowed[b] = table[0][codes.long()]
        else:
            slices = torch.arange(shape[patch.z_axis]).view(_along(patch))
            allowed[b] = table[slices, codes.long()]
        for indices, values, unsure, known in _regions(patch.contract, layer, channels, patch.z_mm):
            blank = torch.zeros((len(patches), *shape), dtype=torch.bool)
            truth = truths.setdefault(indices, blank)
            truth[b] |= torch.isin(codes, torch.tensor(values, dtype=torch.uint8))
            where = knowns.setdefault(indices, torch.zeros_like(blank))
            certain = ~torch.isin(codes, torch.tensor([UNKNOWN, *unsure], dtype=torch.uint8))
            where[b] |= torch.from_numpy(known).view(_along(patch)) & certain
    regions = tuple(
        Region(indices, truths[indices].to(device), knowns[indices].to(device))
        for indices in sorted(truths)
    )
    return Supervision(allowed.permute(0, 4, 1, 2, 3).to(device), regions)


def _codes(patch: Patch, layer: str) -> np.ndarray:
    """The label map, without what is drawn outside the extent that its label was given."""
    labels = patch.labels.get(layer)
    if labels is None:
        return np.zeros(patch.image.shape, np.uint8)
    for entry in patch.contract.for_layer(layer):
        outside = ~_inside(entry.within, patch.z_mm)
        if outside.any():
            stray = (labels == entry.value) & outside.reshape(_along(patch))
            labels = np.where(stray, np.uint8(0), labels)
    return labels


def _along(patch: Patch) -> list[int]:
    """Shape of a value per slice, to be spread over the patch."""
    return [-1 if axis == patch.z_axis else 1 for axis in range(3)]


def _inside(within: tuple[float, float] | None, z_mm: np.ndarray) -> np.ndarray:
    if within is None:
        return np.ones(len(z_mm), bool)
    return (z_mm >= within[0] - 1e-6) & (z_mm <= within[1] + 1e-6)


def _allowed(
    contract: LabelContract, layer: str, channels: Sequence[Channel], z_mm: np.ndarray
) -> np.ndarray:
    """Table ``(Z or 1, 256, K + 1)``: whether a voxel value admits a channel, per slice."""
    entries = contract.for_layer(layer)
    covered = {m for channel in channels for m in channel.members}
    slices = len(z_mm) if any(e.within for e in entries) else 1
    table = np.zeros((slices, 256, len(channels) + 1), bool)
    for entry in entries:
        members = set(entry.members)
        table[:, entry.value, 0] = not members <= covered
        for k, channel in enumerate(channels):
            table[:, entry.value, k + 1] = bool(members & set(channel.members))
    table[:, 0, 0] = True
    table[:, UNKNOWN] = True
    for k, channel in enumerate(channels):
        for member in channel.members:
            known = np.zeros(len(z_mm), bool)
            for entry in entries:
                if member in entry.members:
                    known |= _inside(entry.within, z_mm)
            table[:, 0, k + 1] |= ~known[:slices]
        if not channel.members:  # what an imported network ignores is background here
            table[:, :, k + 1] = table[:, :, 0]
    return table


def _regions(
    contract: LabelContract, layer: str, channels: Sequence[Channel], z_mm: np.ndarray
) -> list[tuple[tuple[int, ...], list[int], list[int], np.ndarray]]:
    """What every label that the group can express teaches.

    Per set of channels: its indices, the label values within it, those that may be of it, and
    the slices where it is known.
    """
    found: dict[tuple[int, ...], np.ndarray] = {}
    for entry in contract.for_layer(layer):
        members = set(entry.members)
        touched = [k for k, c in enumerate(channels) if members & set(c.members)]
        stood_for = {m for k in touched for m in channels[k].members}
        indices = tuple(k + 1 for k in touched)
        if len(touched) == 1 and members < stood_for:
            # a part of a composite channel: the other parts must be labelled too, else
            # the channel's probability says nothing of this label
            siblings = [e for e in contract.for_layer(layer) if set(e.members) <= stood_for]
            if {m for e in siblings for m in e.members} != stood_for:
                continue
            inside = np.logical_and.reduce([_inside(e.within, z_mm) for e in siblings])
        elif touched and members == stood_for:
            inside = _inside(entry.within, z_mm)
        else:
            continue
        known = found.setdefault(indices, np.ones(len(z_mm), bool))
        known &= inside
    return [
        (
            indices,
            *_values(contract, layer, {m for k in indices for m in channels[k - 1].members}),
            known,
        )
        for indices, known in found.items()
    ]


def _values(contract: LabelContract, layer: str, members: set[str]) -> tuple[list[int], list[int]]:
    """Label values that lie within `members`, and those that may.

    A voxel labelled as one of liver and spleen is of their union, and perhaps of the liver.
    """
    entries = contract.for_layer(layer)
    within = [e.value for e in entries if set(e.members) <= members]
    perhaps = [e.value for e in entries if members & set(e.members) and e.value not in within]
    return within, perhaps


def _loss(logits: Tensor, supervision: Supervision) -> Tensor:
    """Marginal cross-entropy plus batch Dice of one head, float32."""
    logits = logits.float()
    everything = torch.logsumexp(logits, dim=1)
    admitted = torch.logsumexp(logits.masked_fill(~supervision.allowed, -torch.inf), dim=1)
    informative = (~supervision.allowed).any(dim=1)
    count = informative.sum().clamp(min=1)
    loss = ((everything - admitted) * informative).sum() / count
    if not supervision.regions:
        return loss
    probabilities = F.softmax(logits, dim=1)
    dice = []
    for region in supervision.regions:
        known = region.known.float()
        truth = region.truth.float() * known
        predicted = probabilities[:, list(region.channels)].sum(dim=1) * known
        overlap = (predicted * truth).sum()
        dice.append((2 * overlap + SMOOTH) / (predicted.sum() + truth.sum() + SMOOTH))
    return loss + 1 - torch.stack(dice).mean()


def deep_supervision_loss(logits: Sequence[Tensor], supervision: Supervision) -> Tensor:
    """Loss of all heads, weights halving with each coarser one and summing to one (nnU-Net)."""
    weights = [0.5**s for s in range(len(logits))]
    total = logits[0].new_zeros((), dtype=torch.float32)
    fine = logits[0].shape[2:]
    for weight, head in zip(weights, logits, strict=True):
        step = [f // h for f, h in zip(fine, head.shape[2:], strict=True)]
        total = total + weight / sum(weights) * _loss(head, supervision.strided(step))
    return total
