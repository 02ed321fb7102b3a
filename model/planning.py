"""Plan and network of an encoder from what a dataset is like, by nnU-Net's rules.

Isensee et al. 2021, "nnU-Net: a self-configuring method for deep learning-based biomedical image
segmentation", Supplementary Note 2: target spacing, intensity scheme, patch and topology.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from clnet.errors import InputError
from clnet.model.encoder import EncoderConfig
from clnet.model.plan import Plan

__all__ = [
    "Foreground",
    "Intensity",
    "network_for",
    "plan_for",
    "pool_intensities",
    "target_spacing",
]

ANISOTROPY = 3.0
ANISOTROPIC_PERCENTILE = 10.0
MIN_EDGE = 4  # voxels of the coarsest features
CONVS = 2
LOWEST, HIGHEST = 0.5, 99.5  # percentiles that intensities are clipped to
NORMAL = NormalDist()

Triple = tuple[int, int, int]
Spacing = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Intensity:
    """HU of the labelled voxels: mean, standard deviation, percentiles 0.5 and 99.5."""

    mean: float
    std: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Foreground:
    """HU of the labelled voxels of one dataset.

    Attributes:
        cases: of the dataset.
        mean, std: of the voxels.
        percentiles: percent to HU, as many as are known; 0.5 and 99.5 are.
    """

    cases: int
    mean: float
    std: float
    percentiles: Mapping[float, float]

    def share_below(self, hu: float) -> float:
        """How much of it is not denser than `hu`; normally distributed between percentiles."""
        percents = sorted(self.percentiles)
        known = [self.percentiles[percent] for percent in percents]
        deviates = [NORMAL.inv_cdf(percent / 100) for percent in percents]
        return NORMAL.cdf(float(np.interp(hu, known, deviates, left=-np.inf, right=np.inf)))


def pool_intensities(datasets: Sequence[Foreground]) -> Intensity:
    """Intensities of several datasets together; each of their cases weighs the same.

    As with nnU-Net, which draws equally many voxels of every case: datasets of large scans and of
    small ones count alike. Within a dataset it is the voxels that weigh the same. Percentiles are
    as exact as those of the datasets are dense: fingerprints of earlier versions have three.
    """
    cases = np.array([one.cases for one in datasets], dtype=np.float64)
    weights = cases / cases.sum()
    mean = float(weights @ [one.mean for one in datasets])
    square = float(weights @ [one.std**2 + (one.mean - mean) ** 2 for one in datasets])

    def percentile(percent: float) -> float:
        below = min(one.percentiles[percent] for one in datasets)
        above = max(one.percentiles[percent] for one in datasets)
        while above - below > 1e-3:
            middle = (below + above) / 2
            if float(weights @ [one.share_below(middle) for one in datasets]) < percent / 100:
                below = middle
            else:
                above = middle
        return round(float(above), 2)

    return Intensity(
        mean=round(mean, 2),
        std=round(max(square**0.5, 1.0), 2),
        low=percentile(LOWEST),
        high=percentile(HIGHEST),
    )


def target_spacing(spacings: NDArray[np.float64], shapes: NDArray[np.int64]) -> Spacing:
    """Voxel size in mm that scans are resampled to: the median, finer along a coarse axis.

    Args:
        spacings, shapes: of every case, ``(N, 3)`` as (z, y, x).
    """
    target = np.median(spacings, axis=0)
    sizes = np.median(shapes, axis=0)  # as stored: nnU-Net does not resample them for this
    worst = int(np.argmax(target))
    others = [axis for axis in range(3) if axis != worst]
    coarse = target[worst] > ANISOTROPY * target[others].max()
    flat = sizes[worst] * ANISOTROPY < sizes[others].min()
    if coarse and flat:
        finer = np.percentile(spacings[:, worst], ANISOTROPIC_PERCENTILE)
        target[worst] = max(finer, target[others].max())
    z, y, x = (round(float(v), 4) for v in target)
    return z, y, x


def plan_for(
    spacings: NDArray[np.float64],
    shapes: NDArray[np.int64],
    intensity: Intensity,
    *,
    patch_voxels: int,
    spacing: Spacing | None = None,
) -> Plan:
    """The plan of an encoder that is to learn from these cases.

    Args:
        spacings, shapes: of every case, ``(N, 3)`` as (z, y, x), mm and voxels.
        intensity: of the labelled voxels; clip is their percentiles.
        patch_voxels: about as many voxels as a training patch may have; memory decides.
        spacing: target instead of the rule's.

    Raises:
        InputError: no case, or fewer voxels than a network needs.
    """
    if not len(spacings):
        raise InputError("plan: no case to plan for")
    if patch_voxels < (2 * MIN_EDGE) ** 3:
        raise InputError(f"plan: patches of {patch_voxels} voxels, at least {(2 * MIN_EDGE) ** 3}")
    target = spacing or target_spacing(spacings, shapes)
    median = np.median(shapes * spacings / np.array(target), axis=0)
    edge = (patch_voxels * np.prod(target)) ** (1 / 3)  # in mm, the same along every axis
    wanted = np.minimum(edge / np.array(target), np.ceil(median))
    # smaller scans are padded
    patch = np.maximum(np.round(wanted), 2 * MIN_EDGE).astype(int)
    steps = np.prod([stride for stride, _ in _stages(tuple(patch), target)], axis=0)
    z, y, x = (int(v) for v in np.maximum(patch // steps, 1) * steps)
    return Plan(
        spacing=target,
        patch_size=(z, y, x),
        clip=(intensity.low, intensity.high),
        mean=intensity.mean,
        std=intensity.std,
    )


def network_for(plan: Plan, *, features: int = 32, max_features: int = 320) -> EncoderConfig:
    """The encoder for a plan: features double from stage to stage, up to `max_features`."""
    stages = _stages(plan.patch_size, plan.spacing)
    return EncoderConfig(
        features=tuple(min(max_features, features * 2**stage) for stage in range(len(stages))),
        strides=tuple(stride for stride, _ in stages),
        kernels=tuple(kernel for _, kernel in stages),
        convs=(CONVS,) * len(stages),
    )


def _stages(patch: Triple, spacing: Spacing) -> list[tuple[Triple, Triple]]:
    """Stride and kernel of every stage, finest first.

    An axis is halved while it stays at `MIN_EDGE` voxels or more and is not as coarse as twice
    the finest axis that can be halved; one alone only while it stays at 1.5 times that, the first
    time apart: a network needs two scales. An axis is convolved once it is within that factor of
    the finest, and in the coarsest stage.
    """
    size, mm = np.array(patch), np.array(spacing, dtype=np.float64)
    convolved = mm / mm.min() < 2
    strides: list[Triple] = [(1, 1, 1)]
    kernels = [_kernel(convolved)]
    while True:
        able = size >= 2 * MIN_EDGE
        if not able.any():
            break
        able &= mm / mm[able].min() < 2
        if able.sum() == 1 and size[able] < 3 * MIN_EDGE and len(strides) > 1:
            break
        size, mm = np.where(able, size // 2, size), np.where(able, mm * 2, mm)
        convolved |= mm / mm.min() < 2
        z, y, x = (2 if halved else 1 for halved in able)
        strides.append((z, y, x))
        kernels.append(_kernel(convolved))
    kernels[-1] = (3, 3, 3)
    if len(strides) < 2:
        raise InputError(f"plan: patches of {patch} are too small for a network of two scales")
    return list(zip(strides, kernels, strict=True))


def _kernel(convolved: NDArray[np.bool_]) -> Triple:
    z, y, x = (3 if axis else 1 for axis in convolved)
    return z, y, x
