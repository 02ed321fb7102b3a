"""Body-part models: order learned from slices alone, heights from landmarks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from clnet.data_catalog import PlanStore, Terms
from clnet.decoders_registry import BodyPartRecord, Lineage, Registry
from clnet.errors import InputError
from clnet.model.body_part import BodyPartModel, encode_body_part_model
from clnet.model.body_part_training import calibrate, train_body_part_model
from clnet.model.bpreg import read_bpreg
from clnet.model.plan import Plan
from clnet.platform.body_landmarks import LANDMARKS, known_heights
from clnet.platform.importing import IMPORTED, data_use
from clnet.platform.register import code_version

__all__ = ["BODY_PART_PLAN", "import_bpreg", "make_body_part_model"]

Progress = Callable[[float, str], None]

BODY_PART_PLAN = Plan(spacing=(6.0, 6.0, 6.0), patch_size=(48, 48, 48))
"""Grid and intensities of the slices; every encoder's scans are brought to them."""

MAX_CASES = 500  # all are in memory at once


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
        InputError: no case shows two landmarks whole and labelled, so that nothing says where
            0 and 1 are.
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
            "body-part model: nothing says where the slices lie, as no case shows two landmarks "
            f"whole and labelled; add a dataset that has two of {', '.join(LANDMARKS)} (both hips "
            "count as one)"
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
