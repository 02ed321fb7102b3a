"""Where along the body the scans of a dataset, and what is labelled in them, lie."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from clnet.data_catalog import Case, Dataset
from clnet.model.body_part import BodyPartModel
from clnet.model.body_part_curve import BodyPartCurve
from clnet.model.nnunet.inference import scan_curve

__all__ = ["BodyExtents", "body_extents"]

PERCENTILES = (0.5, 99.5)
"""As for the ranges that gate decoders: a few mislabelled slices do not count."""

Extent = tuple[float, float]


class BodyExtents(BaseModel):
    """Body-part scores: 0 at the bottom of the pelvis, 1 at the top of the head.

    Attributes:
        model: ref of the body-part model that gave them.
        scans: lowest and highest score of each scan that shows a body.
        foreground: the same of the slices where an anatomy is labelled, over all scans.
        unread: scans in which the model found no body's course.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    scans: tuple[Extent, ...]
    foreground: dict[str, Extent]
    unread: int = 0

    @property
    def labelled(self) -> Extent | None:
        """From the lowest to the highest labelled slice of any anatomy."""
        if not self.foreground:
            return None
        lows, highs = zip(*self.foreground.values(), strict=True)
        return min(lows), max(highs)


def body_extents(
    dataset: Dataset,
    model: BodyPartModel,
    ref: str,
    progress: Callable[[float, str], None] | None = None,
) -> BodyExtents:
    """Measure a dataset; every scan is read once.

    Labels with an extent do not count, as they do not say where an anatomy ends.
    """
    scans: list[Extent] = []
    scores: dict[str, list[NDArray[np.float64]]] = {}
    for done, case in enumerate(dataset, start=1):
        curve = scan_curve(model, case.ct(), case.spacing)
        if curve.trusted:
            scans.append(curve.span)
            for name, found in _labelled(case, curve).items():
                scores.setdefault(name, []).append(found)
        if progress is not None:
            progress(done / len(dataset.case_ids), f"{dataset.ref}: {case.id}")
    foreground = {}
    for name, parts in sorted(scores.items()):
        low, high = np.percentile(np.concatenate(parts), PERCENTILES)
        foreground[name] = (float(low), float(high))
    return BodyExtents(
        model=ref,
        scans=tuple(scans),
        foreground=foreground,
        unread=len(dataset.case_ids) - len(scans),
    )


def _labelled(case: Case, curve: BodyPartCurve) -> dict[str, NDArray[np.float64]]:
    """Scores of the slices that hold each label."""
    heights = curve.on_grid(case.shape[0])
    found = {}
    for layer in case.layers:
        labels = case.labels(layer)
        for entry in case.contract.for_layer(layer):
            held = (labels == entry.value).any(axis=(1, 2))
            if entry.within is None and held.any():
                found[entry.name] = heights[held]
    return found
