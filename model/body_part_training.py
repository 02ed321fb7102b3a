"""Training and calibration of body-part regression.

Self-supervised slice ordering (Yan et al. 2018, "Unsupervised body part regression via
spatially self-ordering convolutional neural networks"): higher slices must score higher, and
equidistant slices must score equidistantly. No label is read; a calibration with slices of
known height then puts the scores on the body.

Order within a body does not tell one body from the next: a network may score a whole scan too
high. Two things hold that down. Every slice is augmented by itself, so that size, position and
contrast are noise to the order; and the calibration refits the last, linear layer, which halves
the offsets left (phantoms: from 0.048 to 0.024 of the body height).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from torch import Tensor, nn

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
LEARNING_RATE = 5e-3
EQUIDISTANCE = 0.1  # weight of that loss; at 1 the scores shrink before they are in order
RIDGE = 0.1
MIRRORED = 0.2  # share of slices that are mirrored, along either axis
KNOTS = 24
LEFT_OUT = 20  # most cases that are left out in turn: every one takes a fit to all others


def ordering_loss(scores: Tensor) -> Tensor:
    """Order plus equidistance loss of ``(volumes, slices)`` scores, slices from low to high.

    The two losses of Yan et al. 2018, averaged instead of summed.
    """
    rise = scores[:, 1:] - scores[:, :-1]
    order = -F.logsigmoid(rise).mean()
    distance = F.smooth_l1_loss(rise[:, 1:], rise[:, :-1])
    return order + EQUIDISTANCE * distance


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
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    noise = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps)
    rng = np.random.default_rng(seed)
    for step in range(steps):
        slices = torch.cat([_draw(stacks, rng) for _ in range(VOLUMES_PER_STEP)])
        scores = network(_augmented(slices.unsqueeze(1), config, noise))
        loss = ordering_loss(scores.view(VOLUMES_PER_STEP, SLICES_PER_VOLUME))
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        schedule.step()
        if progress is not None and (step % 50 == 49 or step + 1 == steps):
            progress((step + 1) / steps, f"body parts: loss {loss.item():.3f}")
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    network.requires_grad_(False).eval()
    return _spread(BodyPartModel(network, (0.0, 1.0), (0.0, 1.0), 1.0), volumes)


def calibrate(
    model: BodyPartModel, volumes: Sequence[tuple[NDArray[Any], Spacing, NDArray[np.float64]]]
) -> BodyPartModel:
    """The model with its scores put on the body by slices of known height.

    The linear layer on top is refitted by ridge regression, then a monotone map takes what
    bend is left. How far scores are off is measured on cases that are left out in turn.

    Args:
        model: a trained model; it is not changed.
        volumes: normalised image, spacing in mm and the height of each slice, ``(Z,)``: 0 at
            the bottom of the hips, 1 at the top of the head, NaN where unknown.

    Raises:
        InputError: no volume has two slices of known height.
    """
    cases = [
        _Known(volume, spacing, known, heights[known], model.features(volume, spacing)[known])
        for volume, spacing, heights in volumes
        if (known := np.flatnonzero(np.isfinite(heights))).size > 1
    ]
    if not cases:
        raise InputError("body-part calibration: fewer than two slices of known height")
    fitted = _fitted(model, cases)
    return replace(fitted, error=float(np.percentile(_errors(model, fitted, cases), 90)))


@dataclass(frozen=True, slots=True)
class _Known:
    """A normalised volume, the slices of it whose height is known, and their features."""

    volume: NDArray[Any]
    spacing: Spacing
    slices: NDArray[np.intp]
    heights: NDArray[np.float64]
    features: Tensor


def _fitted(model: BodyPartModel, cases: Sequence[_Known]) -> BodyPartModel:
    y = np.concatenate([case.heights for case in cases])
    network = copy.deepcopy(model.network)
    features = torch.cat([case.features for case in cases])
    raw = _refit(network.score, features, torch.from_numpy(y))
    parts = np.array_split(np.argsort(raw, kind="stable"), min(KNOTS, len(raw)))
    knots = np.array([np.median(raw[part]) for part in parts])
    levels = isotonic_regression([np.median(y[part]) for part in parts]).x
    distinct = np.r_[True, np.diff(knots) > 1e-9]
    rises = [np.ptp(c.heights) / (np.ptp(c.slices) * c.spacing[0]) for c in cases]
    return BodyPartModel(
        network,
        tuple(float(v) for v in knots[distinct]),
        tuple(float(v) for v in levels[distinct]),
        float(np.median(rises)),
    )


def _errors(
    model: BodyPartModel, fitted: BodyPartModel, cases: Sequence[_Known]
) -> NDArray[np.float64]:
    """How far scores are from the known heights of cases that they were not fitted to.

    A single case can only be measured by the fit to itself.
    """
    if len(cases) == 1:
        return _misses(fitted, cases[0])
    chosen = np.unique(np.linspace(0, len(cases) - 1, LEFT_OUT).round().astype(int))
    return np.concatenate(
        [_misses(_fitted(model, [*cases[:i], *cases[i + 1 :]]), cases[i]) for i in chosen]
    )


def _misses(fitted: BodyPartModel, case: _Known) -> NDArray[np.float64]:
    scores = fitted.scores(case.volume, case.spacing)[case.slices]
    return np.asarray(np.abs(scores - case.heights), dtype=np.float64)


def _refit(layer: nn.Linear, features: Tensor, heights: Tensor) -> NDArray[np.float64]:
    """Fit `layer` to give `heights` from `features` ``(N, 2 C)``, in place; what it now gives."""
    x = features.double()
    mean, scale = x.mean(dim=0), x.std(dim=0) + 1e-6
    x = (x - mean) / scale
    ridge = RIDGE * len(x) * torch.eye(x.shape[1], dtype=torch.float64)
    weight = torch.linalg.solve(x.T @ x + ridge, x.T @ (heights - heights.mean())) / scale
    with torch.no_grad():
        layer.weight.copy_(weight[None])
        layer.bias.fill_(float(heights.mean() - mean @ weight))
        given = features.double() @ layer.weight[0].double() + layer.bias.double()
    return given.numpy().astype(np.float64)


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


def _draw(stacks: Sequence[Tensor], rng: np.random.Generator) -> Tensor:
    """Equidistant slices of one volume, low to high, ``(slices, Y, X)``."""
    stack = stacks[int(rng.integers(len(stacks)))]
    step = int(rng.integers(1, (len(stack) - 1) // (SLICES_PER_VOLUME - 1) + 1))
    start = int(rng.integers(0, len(stack) - step * (SLICES_PER_VOLUME - 1)))
    return stack[start::step][:SLICES_PER_VOLUME].float()


def _augmented(slices: Tensor, config: BodyPartConfig, generator: torch.Generator) -> Tensor:
    """Slices ``(B, 1, Y, X)``, each turned, scaled, shifted, its HU stretched, noise added.

    Some are mirrored too: headers err about left and front, and the height is the same.
    """

    def within(limit: float) -> Tensor:
        return (torch.rand(len(slices), generator=generator) * 2 - 1) * limit

    turn, size, shape, noise = within(0.15), 1 + within(0.12), within(0.06), within(20.0)
    x, y = size * (1 + shape), size * (1 - shape)
    x = torch.where(torch.rand(len(slices), generator=generator) < MIRRORED, -x, x)
    y = torch.where(torch.rand(len(slices), generator=generator) < MIRRORED, -y, y)
    rows = (
        torch.stack((turn.cos() * x, -turn.sin() * y, within(0.12)), dim=1),
        torch.stack((turn.sin() * x, turn.cos() * y, within(0.12)), dim=1),
    )
    grid = F.affine_grid(torch.stack(rows, dim=1), list(slices.shape), align_corners=False)
    moved = F.grid_sample(slices, grid, padding_mode="border", align_corners=False)
    hu = moved * config.std + config.mean
    gain, offset, noise = ((v.view(-1, 1, 1, 1)) for v in (1 + within(0.08), within(10.0), noise))
    hu = hu * gain + offset + noise * torch.randn(hu.shape, generator=generator)
    return (hu - config.mean) / config.std
