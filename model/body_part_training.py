"""Training and calibration of body-part regression.

Self-supervised slice ordering (Yan et al. 2018, "Unsupervised body part regression via
spatially self-ordering convolutional neural networks"): higher slices must score higher, and
equidistant slices must score equidistantly. No label is read; a calibration with a few
landmarks then puts the scores on the body.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.transforms import Compose, RandAffine, RandGaussianNoise, RandScaleIntensity
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from torch import Tensor

from clnet.errors import InputError
from clnet.model.body_part import (
    BodyPartConfig,
    BodyPartModel,
    body_part_slices,
    build_body_part_network,
)
from clnet.model.geometry import Spacing

__all__ = ["calibrate", "ordering_loss", "train_body_part_model"]

Volume = tuple[NDArray[Any], Spacing]
Progress = Callable[[float, str], None]

VOLUMES_PER_STEP = 6
SLICES_PER_VOLUME = 8
LEARNING_RATE = 2e-3
KNOTS = 24


def ordering_loss(scores: Tensor) -> Tensor:
    """Order plus equidistance loss of ``(volumes, slices)`` scores, slices from low to high.

    Equations 1 and 2 of Yan et al. 2018, averaged instead of summed.
    """
    rise = scores[:, 1:] - scores[:, :-1]
    order = -F.logsigmoid(rise).mean()
    distance = F.smooth_l1_loss(rise[:, 1:], rise[:, :-1])
    return order + distance


def train_body_part_model(
    volumes: Sequence[Volume],
    steps: int = 1500,
    seed: int = 0,
    progress: Progress | None = None,
    config: BodyPartConfig | None = None,
) -> BodyPartModel:
    """Learn the order of slices from unlabelled volumes.

    The scores are calibrated so that the lowest and highest slices seen lie at 0 and 1;
    :func:`calibrate` replaces that by known heights.

    Args:
        volumes: normalised images ``(Z, Y, X)`` with spacing (z, y, x) in mm.
        steps: optimiser steps.
        seed: of initialisation, sampling and augmentation.
        progress: told the fraction done and the loss.
        config: of the slice network.

    Raises:
        InputError: no volume has eight slices.
    """
    config = config or BodyPartConfig()
    stacks = [
        body_part_slices(volume, spacing, config).squeeze(1).half()
        for volume, spacing in volumes
        if len(volume) >= SLICES_PER_VOLUME
    ]
    if not stacks:
        raise InputError(
            f"body-part model: none of the {len(volumes)} volumes has {SLICES_PER_VOLUME} slices"
        )
    network = build_body_part_network(config, seed).train()
    augment = _augmentation(seed)
    optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps)
    rng = np.random.default_rng(seed)
    for step in range(steps):
        batch = torch.stack([_draw(stacks, rng, augment) for _ in range(VOLUMES_PER_STEP)])
        scores = network(batch.flatten(0, 1).unsqueeze(1)).view(len(batch), -1)
        loss = ordering_loss(scores)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        schedule.step()
        if progress is not None and (step % 50 == 49 or step + 1 == steps):
            progress((step + 1) / steps, f"body parts: loss {loss.item():.3f}")
    network.requires_grad_(False).eval()
    return _spread(BodyPartModel(network, (0.0, 1.0), (0.0, 1.0), 1.0), volumes)


def calibrate(
    model: BodyPartModel, volumes: Sequence[tuple[NDArray[Any], Spacing, NDArray[np.float64]]]
) -> BodyPartModel:
    """The model with its scores put on the body by slices of known height.

    Args:
        model: a trained model.
        volumes: normalised image, spacing in mm and the height of each slice, ``(Z,)``: 0 at
            the bottom of the hips, 1 at the top of the head, NaN where unknown.

    Raises:
        InputError: fewer than two heights are known.
    """
    raw, heights, slopes = [], [], []
    for volume, spacing, known in volumes:
        where = np.isfinite(known)
        raw.append(model.raw_scores(volume, spacing)[where])
        heights.append(known[where])
        z = np.flatnonzero(where) * spacing[0]
        if len(z) > 1:
            slopes.append((heights[-1][-1] - heights[-1][0]) / (z[-1] - z[0]))
    x, y = np.concatenate([*raw, []]), np.concatenate([*heights, []])
    if len(x) < 2 or not slopes or x.min() == x.max():
        raise InputError("body-part calibration: fewer than two slices of known height")
    edges = np.array_split(np.argsort(x, kind="stable"), min(KNOTS, len(x)))
    knots = np.array([np.median(x[part]) for part in edges])
    levels = isotonic_regression([np.median(y[part]) for part in edges]).x
    distinct = np.r_[True, np.diff(knots) > 1e-9]
    return BodyPartModel(
        model.network,
        tuple(float(v) for v in knots[distinct]),
        tuple(float(v) for v in levels[distinct]),
        float(np.median(slopes)),
    )


def _spread(model: BodyPartModel, volumes: Sequence[Volume]) -> BodyPartModel:
    """The model with the extremes of its training volumes at 0 and 1."""
    scores = [model.raw_scores(volume, spacing) for volume, spacing in volumes]
    low, high = np.percentile(np.concatenate(scores), (1, 99))
    rises = [
        np.polyfit(np.arange(len(s)) * spacing[0], s, 1)[0]
        for s, (_, spacing) in zip(scores, volumes, strict=True)
        if len(s) > 1
    ]
    width = max(float(high - low), 1e-6)
    per_mm = max(float(np.median(rises)) / width, 1e-6)
    return BodyPartModel(model.network, (float(low), float(low) + width), (0.0, 1.0), per_mm)


def _draw(stacks: Sequence[Tensor], rng: np.random.Generator, augment: Compose) -> Tensor:
    """Equidistant slices of one volume, low to high, ``(slices, Y, X)``."""
    stack = stacks[int(rng.integers(len(stacks)))]
    step = int(rng.integers(1, (len(stack) - 1) // (SLICES_PER_VOLUME - 1) + 1))
    start = int(rng.integers(0, len(stack) - step * (SLICES_PER_VOLUME - 1)))
    slices = stack[start::step][:SLICES_PER_VOLUME].float()
    augmented: Tensor = augment(slices)
    return torch.as_tensor(augmented)


def _augmentation(seed: int) -> Compose:
    """Small changes of posture, size and intensity, the same for all slices of a volume."""
    return Compose(
        [
            RandAffine(
                prob=0.9,
                rotate_range=0.15,
                translate_range=6.0,
                scale_range=0.15,
                padding_mode="border",
            ),
            RandScaleIntensity(factors=0.05, prob=0.5),
            RandGaussianNoise(prob=0.5, std=0.05),
        ]
    ).set_random_state(seed)
