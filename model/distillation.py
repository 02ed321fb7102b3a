"""What an older version and a new one of other channels have in common.

The older version is asked for what it reports (:func:`~clnet.model.outputs.outputs_of`): what it
has not learned is background to it, and so is then what only the new version has a channel for.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from clnet.model.artefact import DecoderInfo
from clnet.model.decoder import Channel
from clnet.model.outputs import outputs_of

__all__ = ["Meanings", "either", "folded", "shared_meanings"]

Meanings = tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
"""Channels of a new version and those of an older one that mean the same when summed."""


def shared_meanings(channels: Sequence[Channel], older: DecoderInfo) -> Meanings:
    """What both a version of `channels` and an `older` one can tell, by indices of logits.

    Two sides that the older one learned undivided are two channels of the one, one output of the
    other. What cannot be made to cover the same anatomies is left out.
    """
    outputs = outputs_of(older)
    shared = {}
    for output in outputs:
        ours = [k for k, c in enumerate(channels, 1) if set(c.members) & set(output.members)]
        members = {m for k in ours for m in channels[k - 1].members}
        theirs = [other for other in outputs if set(other.members) & members]
        if ours and members == {m for other in theirs for m in other.members}:
            shared[tuple(ours)] = tuple(sorted(c for other in theirs for c in other.channels))
    return tuple(shared.items())


def folded(logits: Tensor, groups: Sequence[Sequence[int]]) -> Tensor:
    """Logits ``(B, 1 + groups, Z, Y, X)`` of summed probabilities; the rest is background."""
    parts = _with_background(groups, logits.shape[1])
    return torch.stack([torch.logsumexp(logits[:, part], dim=1) for part in parts], dim=1)


def either(allowed: Tensor, groups: Sequence[Sequence[int]]) -> Tensor:
    """Whether any channel of a group is allowed, bool ``(B, 1 + groups, Z, Y, X)``."""
    parts = _with_background(groups, allowed.shape[1])
    return torch.stack([allowed[:, part].any(dim=1) for part in parts], dim=1)


def _with_background(groups: Sequence[Sequence[int]], channels: int) -> list[list[int]]:
    named = {channel for group in groups for channel in group}
    return [[c for c in range(channels) if c not in named], *(list(group) for group in groups)]
