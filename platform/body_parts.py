"""Body-part models: order learned from slices alone, heights from two landmarks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clnet.anatomy import vocabulary
from clnet.data_catalog import PlanStore, Terms
from clnet.data_catalog.planned_case import PlannedCase
from clnet.decoders_registry import BodyPartRecord, Lineage, Registry
from clnet.errors import InputError
from clnet.model.body_part import BodyPartModel, encode_body_part_model
from clnet.model.body_part_training import calibrate, train_body_part_model
from clnet.model.bpreg import read_bpreg
from clnet.model.plan import Plan
from clnet.platform.importing import IMPORTED, data_use
from clnet.platform.register import code_version

__all__ = ["BODY_PART_PLAN", "import_bpreg", "known_heights", "make_body_part_model"]

Progress = Callable[[float, str], None]

BODY_PART_PLAN = Plan(spacing=(6.0, 6.0, 6.0), patch_size=(48, 48, 48))
"""Grid and intensities of the slices; every encoder's scans are brought to them."""

MAX_CASES = 500  # all are in memory at once
BOTTOM, TOP = ("hip_left", "hip_right"), ("skull",)


def make_body_part_model(
    stores: Sequence[PlanStore],
    spacing: tuple[float, float, float],
    steps: int,
    seed: int,
    progress: Progress | None = None,
) -> BodyPartModel:
    """Learn the order of slices of every case, then put the scores on the body.

    Args:
        stores: of a plan with the intensities of :data:`BODY_PART_PLAN`.
        spacing: of that plan, (z, y, x) in mm.
        steps: of the optimiser.
        seed: of weights and sampling, and of which cases are left out of very many.

    Raises:
        InputError: no case shows both hips and skull whole and labelled, so that nothing says
            where 0 and 1 are.
    """
    every = [(store, case_id) for store in stores for case_id in store.case_ids]
    chosen = np.random.default_rng(seed).permutation(len(every))[:MAX_CASES]
    cases = [every[index][0].open(every[index][1]) for index in sorted(chosen)]
    images = [np.asarray(case.image, dtype=np.float32) for case in cases]
    known = [
        (image, spacing, heights)
        for image, case in zip(images, cases, strict=True)
        if (heights := known_heights(case)) is not None
    ]
    if not known:
        raise InputError(
            "body-part model: no case shows both hips and skull whole, with labels of both; add "
            "a dataset of whole bodies that has them"
        )
    model = train_body_part_model([(image, spacing) for image in images], steps, seed, progress)
    return calibrate(model, known)


def import_bpreg(
    registry: Registry, folder: Path, terms: Terms, name: str, command: str
) -> BodyPartRecord:
    """Register the public ``bpreg`` model of a folder; doing it again adds nothing.

    Args:
        registry: where to.
        folder: with ``model.pt`` and ``inference-settings.json``.
        terms: of the model, as whoever gave it declares them.
        name: of the model.
        command: what was typed, for the lineage.

    Raises:
        NotFound: folder or file is not there.
        IntegrityError: a file that holds more than weights.
        Incompatible: weights of another network.
        InputError: settings that do not say where pelvis and eyes score.
    """
    data = encode_body_part_model(read_bpreg(folder))
    described = {"body_part_model_sha256": hashlib.sha256(data).hexdigest()}
    lineage = Lineage(
        command=command,
        code_version=code_version(),
        datasets=(data_use(registry, described, f"{IMPORTED}/{name}", terms),),
        config={"imported_from": {"kind": "bpreg"}},
    )
    return registry.add_body_part_model(name, data, lineage)


def known_heights(case: PlannedCase) -> NDArray[np.float64] | None:
    """Height of every slice of a case that shows both landmarks whole, else None.

    0 is the lowest slice of the hips, 1 the highest of the skull.
    """
    bottom, top = _slices(case, BOTTOM), _slices(case, TOP)
    depth = case.image.shape[0]
    if not len(bottom) or not len(top) or bottom[0] == 0 or top[-1] == depth - 1:
        return None
    return np.asarray((np.arange(depth) - bottom[0]) / (top[-1] - bottom[0]), dtype=np.float64)


def _slices(case: PlannedCase, landmark: tuple[str, ...]) -> NDArray[np.intp]:
    """Slices that hold a landmark; none unless all that belongs to it is labelled, and whole.

    A label with an extent ends where an annotator stopped, not where the bone does.
    """
    leaves = {leaf for name in landmark for leaf in vocabulary().leaves(name)}
    held = np.zeros(case.image.shape[0], bool)
    labelled: set[str] = set()
    for layer in case.contract.layers:
        labels = np.asarray(case.labels[layer])
        for entry in case.contract.for_layer(layer):
            if entry.within is None and set(entry.members) <= leaves:
                slices = (labels == entry.value).any(axis=(1, 2))
                if slices.any():
                    held |= slices
                    labelled |= set(entry.members)
    if labelled != leaves:
        return np.array([], dtype=np.intp)
    return np.flatnonzero(held)
