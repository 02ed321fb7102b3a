"""Intensity augmentation of a batch, as a pure function of its number in the stream.

Nothing here moves voxels: mirroring would swap sides, and labels keep their grid.
"""

from __future__ import annotations

import numpy as np
import torch
from monai.transforms import (
    Compose,
    RandAdjustContrast,
    RandGaussianNoise,
    RandScaleIntensity,
    RandShiftIntensity,
)
from torch import Tensor

__all__ = ["augment"]


def augment(images: Tensor, seed: int, t: int) -> Tensor:
    """Noise, gain, offset and gamma on images ``(B, 1, Z, Y, X)``, set by (seed, t) alone."""
    transform = Compose(
        [
            RandGaussianNoise(prob=0.3, std=0.08),
            RandScaleIntensity(factors=0.1, prob=0.5),
            RandShiftIntensity(offsets=0.1, prob=0.5, safe=True),
            RandAdjustContrast(prob=0.2, gamma=(0.8, 1.25), retain_stats=True),
        ]
    )
    transform.set_random_state(state=np.random.RandomState(_state(seed, t)))
    return torch.stack([torch.as_tensor(transform(image)).float() for image in images])


def _state(seed: int, t: int) -> int:
    generator = np.random.Generator(np.random.Philox(key=seed, counter=t))
    return int(generator.integers(2**32, dtype=np.uint64))
