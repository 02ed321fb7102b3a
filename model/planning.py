"""Plan and network of an encoder from what a dataset is like, by nnU-Net's rules.

Isensee et al. 2021, "nnU-Net: a self-configuring method for deep learning-based biomedical image
segmentation", Supplementary Note 2: target spacing, intensity scheme, patch and topology.
"""

from __future__ import annotations

from collections.abc import Sequence
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
CLIPPED = 0.005
"""Share of the labelled voxels that clipping cuts off at either end."""

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
        low, median, high: percentiles 0.5, 50 and 99.5.
    """

    cases: int
    mean: float
    std: float
    low: float
    median: float
    high: float

    def share_below(self, hu: float) -> float:
        """About how much of it is not denser than `hu`.

        From the median outwards each half counts as half of a normal distribution, through its
        percentile.
        """
        reach = self.median - self.low if hu < self.median else self.high - self.median
        if not reach:
            return float(hu >= self.median)
        normal = NormalDist()
        return normal.cdf((hu - self.median) / reach * normal.inv_cdf(1 - CLIPPED))


def pool_intensities(datasets: Sequence[Foreground]) -> Intensity:
    """Intensities of several datasets together; each of their cases weighs the same.

    As with nnU-Net, which draws equally many voxels of every case: large scans and small ones
    count alike. Of a dataset only three percentiles are known, so those of the pool are exact
    where the datasets are alike or one alone, else as good as :meth:`Foreground.share_below`;
    they never lie outside what the datasets have.
    """
    cases = np.array([one.cases for one in datasets], dtype=np.float64)
    weights = cases / cases.sum()
    mean = float(weights @ [one.mean for one in datasets])
    square = float(weights @ [one.std**2 + (one.mean - mean) ** 2 for one in datasets])

    def percentile(share: float) -> float:
        below = min(one.low for one in datasets)
        above = max(one.high for one in datasets)
        while above - below > 1e-3:
            middle = (below + above) / 2
            if float(weights @ [one.share_below(middle) for one in datasets]) < share:
                below = middle
            else:
                above = middle
        return round(float(above), 2)

    return Intensity(
        mean=round(mean, 2),
        std=round(max(square**0.5, 1.0), 2),
        low=percentile(CLIPPED),
        high=percentile(1 - CLIPPED),
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
