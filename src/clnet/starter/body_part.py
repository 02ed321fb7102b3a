"""The starter's body-part model: order learned from slices alone, heights from two landmarks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from clnet.data_catalog import PlanStore
from clnet.data_catalog.plan_store import PlannedCase
from clnet.model.body_part import BodyPartModel
from clnet.model.body_part_training import calibrate, train_body_part_model
from clnet.starter.recipe import StarterRecipe

__all__ = ["known_heights", "make_body_part_model"]

Progress = Callable[[float, str], None]

BOTTOM, TOP = ("hip_left", "hip_right"), ("skull",)


def make_body_part_model(
    stores: Sequence[PlanStore], recipe: StarterRecipe, progress: Progress | None = None
) -> BodyPartModel:
    """Learn the order of slices of every case, then put the scores on the body."""
    spacing = recipe.plan.spacing
    cases = [store.open(case_id) for store in stores for case_id in store.case_ids]
    images = [np.asarray(case.image, dtype=np.float32) for case in cases]
    part = recipe.body_part_model
    model = train_body_part_model(
        [(image, spacing) for image in images], part.steps, part.seed, progress
    )
    known = [
        (image, spacing, heights)
        for image, case in zip(images, cases, strict=True)
        if (heights := known_heights(case)) is not None
    ]
    return calibrate(model, known)


def known_heights(case: PlannedCase) -> NDArray[np.float64] | None:
    """Height of every slice of a case that shows both landmarks whole, else None.

    0 is the lowest slice of the hips, 1 the highest of the skull.
    """
    bottom = _slices(case, BOTTOM)
    top = _slices(case, TOP)
    depth = case.image.shape[0]
    if not len(bottom) or not len(top) or bottom[0] == 0 or top[-1] == depth - 1:
        return None
    return np.asarray((np.arange(depth) - bottom[0]) / (top[-1] - bottom[0]), dtype=np.float64)


def _slices(case: PlannedCase, anatomies: tuple[str, ...]) -> NDArray[np.intp]:
    for layer in case.contract.layers:
        values = [
            e.value for e in case.contract.for_layer(layer) if set(e.members) <= set(anatomies)
        ]
        if values:
            return np.flatnonzero(np.isin(case.labels[layer], values).any(axis=(1, 2)))
    return np.array([], dtype=np.intp)
