"""What a dataset holds, in figures: for a reader who may never see its images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clnet.anatomy.contract import UNKNOWN

if TYPE_CHECKING:
    from clnet.data_catalog.dataset import Dataset

__all__ = ["fingerprint"]

BODY_HU = -500
PERCENTILES = (0.5, 50.0, 99.5)
TAIL = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 25.0)
FOREGROUND_PERCENTILES = (*TAIL, 50.0, *(100.0 - p for p in reversed(TAIL)))
"""Dense towards the ends: from these a plan clips several datasets together."""
LOWEST, HIGHEST = -1100, 4000


def fingerprint(dataset: Dataset) -> dict[str, Any]:
    """Cases, geometry, intensity and anatomies of a dataset, JSON-able.

    Every voxel is read once. ``intensity_hu`` are percentiles of HU over what is denser than
    -500 HU, to 1 HU; ``foreground_hu`` has more of them, mean and standard deviation, over the
    voxels that carry a label. ``anatomies`` counts, by the name that the label contract shows, the
    cases that know it, the cases where it has voxels, and its voxels and millilitres.
    """
    histogram = np.zeros(HIGHEST - LOWEST + 1, np.int64)
    foreground = np.zeros_like(histogram)
    anatomies: dict[str, dict[str, Any]] = {}
    for case in dataset:
        seen = {layer: np.zeros(256, np.int64) for layer in case.layers}
        for slab, maps in case.slabs():
            for z, ct in enumerate(slab):
                labelled = np.zeros(ct.shape, np.bool_)
                histogram += _histogram(ct[ct > BODY_HU])
                for layer, labels in maps.items():
                    labelled |= (labels[z] > 0) & (labels[z] != UNKNOWN)
                    seen[layer] += np.bincount(labels[z].reshape(-1), minlength=256)
                foreground += _histogram(ct[labelled])
        voxel_ml = float(np.prod(case.spacing)) / 1000
        for layer, counts in seen.items():
            for entry in case.contract.for_layer(layer):
                voxels = int(counts[entry.value])
                known = anatomies.setdefault(
                    entry.name,
                    {"exact": entry.exact, "known": 0, "seen": 0, "voxels": 0, "ml": 0.0},
                )
                known["known"] += 1
                known["seen"] += voxels > 0
                known["voxels"] += voxels
                known["ml"] += voxels * voxel_ml
    records = dataset.manifest.cases
    return {
        "cases": len(records),
        "spacing_zyx_mm": _spread([record.spacing for record in records]),
        "shape_zyx": _spread([record.shape for record in records]),
        "intensity_hu": _percentiles(histogram, PERCENTILES),
        "foreground_hu": _percentiles(foreground, FOREGROUND_PERCENTILES) | _moments(foreground),
        "anatomies": {
            name: values | {"ml": round(values["ml"], 1)}
            for name, values in sorted(anatomies.items())
        },
    }


def _histogram(hu: NDArray[np.int16]) -> NDArray[np.int64]:
    values = np.clip(hu, LOWEST, HIGHEST).astype(np.int64) - LOWEST
    return np.bincount(values, minlength=HIGHEST - LOWEST + 1)


def _moments(histogram: NDArray[np.int64]) -> dict[str, float]:
    """Voxels, mean and standard deviation in HU; nothing where there is no voxel."""
    voxels = int(histogram.sum())
    if not voxels:
        return {}
    hu = np.arange(LOWEST, HIGHEST + 1)
    mean = float((histogram * hu).sum() / voxels)
    std = float(np.sqrt((histogram * (hu - mean) ** 2).sum() / voxels))
    return {"voxels": voxels, "mean": round(mean, 2), "std": round(std, 2)}


def _percentiles(histogram: NDArray[np.int64], percents: Sequence[float]) -> dict[str, float]:
    total = np.cumsum(histogram)
    if not total[-1]:
        return {}
    return {f"p{p:g}": int(np.searchsorted(total, p / 100 * total[-1])) + LOWEST for p in percents}


def _spread(rows: list[tuple[float, float, float]] | list[tuple[int, int, int]]) -> dict[str, Any]:
    values = np.array(rows, dtype=np.float64)
    return {
        "min": values.min(axis=0).tolist(),
        "median": np.median(values, axis=0).tolist(),
        "max": values.max(axis=0).tolist(),
    }
