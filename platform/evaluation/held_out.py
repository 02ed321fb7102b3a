"""Scores of a segmentation in memory: Dice and false positives, on the truth's own grid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clnet.anatomy import vocabulary
from clnet.platform.evaluation.agreement import dice

__all__ = ["LabelMaps", "Score", "mean_dsc", "score"]


@dataclass(frozen=True, slots=True)
class LabelMaps:
    """Label maps of one scan on one grid.

    Attributes:
        labels: layer to label map.
        names: layer to label value to canonical id, a leaf or a composite.
    """

    labels: Mapping[str, NDArray[Any]]
    names: Mapping[str, Mapping[int, str]]

    def mask(self, anatomy: str) -> NDArray[np.bool_] | None:
        """Voxels of everything that is part of `anatomy`; None if nothing named is."""
        leaves = set(vocabulary().leaves(anatomy))
        found: NDArray[np.bool_] | None = None
        for layer, names in self.names.items():
            values = [v for v, name in names.items() if set(vocabulary().leaves(name)) <= leaves]
            if values:
                held = np.isin(self.labels[layer], values)
                found = held if found is None else found | held
        return found


@dataclass(frozen=True, slots=True)
class Score:
    """One anatomy in one scan.

    Attributes:
        dsc: Dice score, 0 if it was missed; None if the truth does not hold it.
        false_positive_ml: predicted volume outside the truth.
    """

    dsc: float | None
    false_positive_ml: float


def score(
    predicted: LabelMaps, truth: LabelMaps, anatomies: Iterable[str], voxel_ml: float
) -> dict[str, Score]:
    """Score each of `anatomies` that the truth labels; a composite is scored as a whole.

    Args:
        voxel_ml: volume of a voxel.
    """
    scores = {}
    for anatomy in anatomies:
        expected = truth.mask(anatomy)
        if expected is None:
            continue
        found = predicted.mask(anatomy)
        if found is None:
            found = np.zeros_like(expected)
        scores[anatomy] = Score(
            dsc=dice(expected, found) if expected.any() else None,
            false_positive_ml=int((found & ~expected).sum()) * voxel_ml,
        )
    return scores


def mean_dsc(scans: Iterable[Mapping[str, Score]]) -> dict[str, float]:
    """Mean Dice score per anatomy over the scans whose truth holds it."""
    seen: dict[str, list[float]] = {}
    for scan in scans:
        for anatomy, found in scan.items():
            if found.dsc is not None:
                seen.setdefault(anatomy, []).append(found.dsc)
    return {anatomy: float(np.mean(values)) for anatomy, values in sorted(seen.items())}
