"""Cases resampled to a plan: what training reads. A cache, rebuilt when evicted or damaged."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from clnet.data_catalog.case import Case
from clnet.data_catalog.dataset import Dataset
from clnet.data_catalog.eviction import DATA, LOCK, evict, remove, size_of
from clnet.data_catalog.foreground import sample_foreground
from clnet.data_catalog.manifest import content_sha256
from clnet.data_catalog.plan_grid import (
    grid_shape,
    resample_image,
    resample_labels,
    slice_positions,
)
from clnet.data_catalog.planned_case import (
    Intensities,
    PlannedCase,
    open_planned,
    write_planned,
)
from clnet.data_catalog.preparer import Preparer, own_order
from clnet.errors import Incompatible, InputError, IntegrityError
from clnet.storage import atomic_directory, atomic_write, exclusive, sweep_temporaries

__all__ = ["PlanStore", "forget"]

T = TypeVar("T")

RECORD = "case.json"
"""Beside the voxels: what is drawn from is known without making evicted cases again."""

FORMAT = 2
"""Part of every store's path: raise it when the stored arrays change their meaning."""


class PlanStore:
    """The cases of one dataset version under one plan.

    Args:
        root: the folder of all plan stores.
        dataset: whose cases they are.
        plan: as ``Plan.to_dict()`` gives it.
        preparers: how cases are prepared for plans of other kinds than our own, by kind.
        max_bytes: what all plan stores may take: making a case evicts those unused for longest.
            Cases that are open keep their bytes until they are closed, and the case just made
            stays whatever its size.

    Raises:
        InputError: the plan lacks a field.
        Incompatible: the plan wants another orientation than LPS, or is of an unknown kind.
    """

    def __init__(
        self,
        root: Path,
        dataset: Dataset,
        plan: dict[str, Any],
        preparers: Mapping[str, Preparer] | None = None,
        max_bytes: int | None = None,
    ) -> None:
        self.root, self.max_bytes = root, max_bytes
        self.dataset = dataset
        self.plan = dict(plan)
        kind = self.plan.get("kind")
        self._preparer = None if kind is None else (preparers or {}).get(kind)
        if kind is not None and self._preparer is None:
            raise Incompatible(f"plan of kind {kind!r}: nothing here prepares cases for it")
        try:
            self._target = _triple(plan["spacing"])
            clip = (float(plan["clip"][0]), float(plan["clip"][1]))
            intensities = Intensities.of(clip, float(plan["mean"]), float(plan["std"]))
            orientation = plan["orientation"]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise InputError(f"plan {plan}: missing or malformed field ({error})") from None
        if self._preparer is None and orientation != "LPS":
            raise Incompatible(f"plan orientation {orientation!r}: only LPS is supported")
        # other kinds of plans normalise as they like: their values are kept, not their HU
        self._intensities = intensities if self._preparer is None else None
        self.plan_sha256 = content_sha256(self.plan)
        self.folder = root / f"v{FORMAT}-{self.plan_sha256}"
        self._sha256 = {record.id: record.sha256 for record in dataset.manifest.cases}

    def __repr__(self) -> str:
        return f"PlanStore({self.dataset.ref!r}, plan={self.plan_sha256[:12]})"

    @property
    def case_ids(self) -> tuple[str, ...]:
        """Ids in the manifest's order."""
        return self.dataset.case_ids

    def case_sha256(self, case_id: str) -> str:
        """Content hash of a case, by which splits are made."""
        return self._sha256[case_id]

    @property
    def air(self) -> float:
        """What pads the outside of a scan: air (-1000 HU), or 0 in plans of other kinds."""
        if self._intensities is None:
            return 0.0
        outside = self._intensities.keep(np.array([-1000.0]))
        return float(self._intensities.normalise(outside)[0])

    @property
    def bytes(self) -> int:
        """Bytes on disk of this dataset's cases."""
        return sum(size_of(folder) for folder in {self._case_folder(i) for i in self.case_ids})

    def build(self, progress: Callable[[float, str], None] | None = None) -> None:
        """Make what is missing, several cases at once; what is there is marked as used now."""
        missing = []
        for case_id in self.case_ids:
            try:
                os.utime(self._case_folder(case_id))
            except FileNotFoundError:
                missing.append(case_id)
        if not missing:
            return
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            jobs = {pool.submit(self._ensure, case_id): case_id for case_id in missing}
            try:
                for done, job in enumerate(as_completed(jobs), start=1):
                    job.result()
                    if progress is not None:
                        progress(done / len(missing), f"{self.dataset.ref}: {jobs[job]}")
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def describe(self, case_id: str) -> dict[str, Any]:
        """The case's record: shape, contract, foreground entries; no voxel is read."""
        record = self.folder.joinpath(self._sha256[case_id], RECORD)
        try:
            return _read(record)
        except FileNotFoundError:
            self._ensure(case_id)
            return _read(record)

    def open(self, case_id: str) -> PlannedCase:
        """The case, built first if it was evicted, and again if it is damaged.

        What is open stays readable when the case is evicted meanwhile.
        """
        try:
            return _retry(lambda: self._open(case_id))
        except IntegrityError:
            remove(self._case_folder(case_id))
            return _retry(lambda: self._open(case_id))

    def _open(self, case_id: str) -> PlannedCase:
        folder = self._ensure(case_id)
        os.utime(folder)
        return open_planned(
            folder,
            _read(folder.parent / RECORD),
            case_id,
            self._sha256[case_id],
            self._intensities,
        )

    def _case_folder(self, case_id: str) -> Path:
        return self.folder.joinpath(self._sha256[case_id], DATA)

    def _ensure(self, case_id: str) -> Path:
        target = self._case_folder(case_id)
        if not target.exists():
            with exclusive(target.parent / LOCK):
                if not target.exists():
                    sweep_temporaries(target.parent)
                    self._make(self.dataset.case(case_id), target)
            if self.max_bytes is not None:
                evict(self.root, self.max_bytes, keep=target)
        return target

    def _make(self, case: Case, target: Path) -> None:
        image, labels, z_axis, z_mm, z_step = self._planned(case)
        voxels, entries = sample_foreground(labels, case.contract, z_mm, case.sha256, z_axis)
        record = {
            "shape": list(image.shape),
            "contract": case.contract.to_json(),
            "z_axis": z_axis,
            "z_origin": float(z_mm[0]),
            "z_step": z_step,
            "entries": entries,
        }
        with atomic_directory(target) as folder:
            write_planned(folder, image, labels, voxels)
            atomic_write(target.parent / RECORD, json.dumps(record).encode())

    def _planned(
        self, case: Case
    ) -> tuple[NDArray[Any], dict[str, NDArray[np.uint8]], int, NDArray[np.float64], float]:
        """Image and labels on the plan's grid, the axis along the body, its slices and step."""
        if self._intensities is not None:
            shape = grid_shape(case.shape, case.spacing, self._target)
            ct = case.ct()
            same = ct.shape == shape
            image = self._intensities.keep(ct if same else resample_image(ct, shape))
            labels = {layer: resample_labels(case.labels(layer), shape) for layer in case.layers}
            z_mm = slice_positions(case.shape[0], shape[0], case.spacing[0])
            return image, labels, 0, z_mm, case.spacing[0] * case.shape[0] / shape[0]
        assert self._preparer is not None
        prepared = self._preparer(case.ct(), case.spacing, case.axcodes, self.plan)
        a, b, c = prepared.image.shape
        labels = {
            layer: resample_labels(own_order(case.labels(layer), prepared), (a, b, c))
            for layer in case.layers
        }
        z_axis, kept = prepared.axes[0], prepared.box[0]
        size, planned = kept.stop - kept.start, prepared.image.shape[z_axis]
        z_mm = slice_positions(size, planned, case.spacing[0]) + kept.start * case.spacing[0]
        z_step = case.spacing[0] * size / planned
        if prepared.flips[0]:
            z_mm, z_step = z_mm[::-1], -z_step
        return prepared.image.astype(np.float16), labels, z_axis, z_mm, z_step


def forget(root: Path, cases: Collection[str]) -> None:
    """Remove cases by their hash, from every plan."""
    for folder in root.glob("*/*"):
        if folder.name in cases:
            remove(folder / DATA)
            (folder / RECORD).unlink(missing_ok=True)


def _read(record: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(record.read_bytes())
    return found


def _retry(read: Callable[[], T], attempts: int = 3) -> T:
    """`read`, again if another process evicted the case while it was read."""
    for _ in range(attempts - 1):
        try:
            return read()
        except FileNotFoundError:
            continue
    return read()


def _triple(values: Any) -> tuple[float, float, float]:
    z, y, x = (float(value) for value in values)
    return z, y, x
