"""What travels from the model to the desk: progress, and in the end the label maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from clnet.serve.transport import PackedLabels

__all__ = ["Outcome", "Progress", "ReleaseCard"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a segmentation is: fraction 0..1 and what happens now."""

    fraction: float
    text: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """A segmentation without its network: plain values, so that it travels.

    Attributes:
        labels: layer to label map on the scan's own grid, in the scan's own axis order.
        names: layer to label value to canonical id.
        statistics: per anatomy state, volume and origin, JSON-able.
        seconds: per stage inside the model.
    """

    labels: dict[str, PackedLabels]
    names: dict[str, dict[int, str]]
    statistics: dict[str, Any]
    seconds: dict[str, float]


@dataclass(frozen=True, slots=True)
class ReleaseCard:
    """What a service says of the release it serves.

    Attributes:
        name, sha256: of the release.
        encoder, body_part_model: refs.
        decoders: ref, group, layer, anatomies, tier and placement of each, JSON-able.
        anatomies: what can be asked for, canonical ids; composites of them work too.
        terms: obligations, licences and attributions that follow the results.
        notice: what users must know before they trust a result; empty if nothing.
        versions: of clnet and torch.
    """

    name: str
    sha256: str
    encoder: str
    body_part_model: str
    decoders: tuple[dict[str, Any], ...]
    anatomies: tuple[str, ...]
    terms: dict[str, Any]
    notice: str
    versions: dict[str, str]
