"""Cases resampled and normalised to a plan: what training reads. A cache, rebuilt when evicted."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from clnet.anatomy.contract import LabelContract
from clnet.data_catalog.case import Case
from clnet.data_catalog.dataset import Dataset
from clnet.data_catalog.foreground import sample_foreground
from clnet.data_catalog.manifest import content_sha256
from clnet.data_catalog.plan_grid import (
    grid_shape,
    resample_image,
    resample_labels,
    slice_positions,
)
from clnet.data_catalog.preparer import Preparer, own_order
from clnet.errors import Incompatible, InputError
from clnet.storage import TEMPORARY, atomic_directory, exclusive, sweep_temporaries

__all__ = ["PlanStore", "PlannedCase", "evict", "forget", "stored_bytes"]

T = TypeVar("T")

META = "case.json"
DATA = "data"
LOCK = ".lock"
FORMAT = 1
"""Part of every store's path: raise it when the stored arrays change their meaning."""


@dataclass(frozen=True, slots=True)
class PlannedCase:
    """One case on the plan grid; the arrays are memory maps, read where they are sliced.

    Attributes:
        image: normalised intensity, float16, ``(Z, Y, X)``.
        labels: layer to label map, uint8, same shape.
        z_axis: the axis of the arrays that runs along the body, 0 in plans of our own.
        z_origin, z_step: centre of the first slice along it in mm from the case's slice 0, and
            the distance to the next, negative where the axis runs downwards.
        voxels: sampled foreground voxels ``(N, 3)``, see :mod:`.foreground`.
        entries: one record per contract entry: which rows of `voxels` are its own.
    """

    case_id: str
    sha256: str
    image: NDArray[np.float16]
    labels: dict[str, NDArray[np.uint8]]
    contract: LabelContract
    z_axis: int
    z_origin: float
    z_step: float
    voxels: NDArray[np.int32]
    entries: list[dict[str, Any]]


class PlanStore:
    """The cases of one dataset version under one plan.

    Args:
        root: the folder of all plan stores.
        dataset: whose cases they are.
        plan: as ``Plan.to_dict()`` gives it.
        preparers: how cases are prepared for plans of other kinds than our own, by kind.

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
    ) -> None:
        self.dataset = dataset
        self.plan = dict(plan)
        kind = self.plan.get("kind")
        self._preparer = None if kind is None else (preparers or {}).get(kind)
        if kind is not None and self._preparer is None:
            raise Incompatible(f"plan of kind {kind!r}: nothing here prepares cases for it")
        try:
            self._target = _triple(plan["spacing"])
            self._clip = (float(plan["clip"][0]), float(plan["clip"][1]))
            self._mean, self._std = float(plan["mean"]), float(plan["std"])
            orientation = plan["orientation"]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise InputError(f"plan {plan}: missing or malformed field ({error})") from None
        if self._preparer is None and orientation != "LPS":
            raise Incompatible(f"plan orientation {orientation!r}: only LPS is supported")
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
        if self._preparer is not None:
            return 0.0
        return float(self._normalise(np.array([-1000.0], dtype=np.float32))[0])

    @property
    def bytes(self) -> int:
        """Bytes on disk of this dataset's cases."""
        return sum(_size(folder) for folder in {self._case_folder(i) for i in self.case_ids})

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
        return _retry(lambda: _read_meta(self._ensure(case_id)))

    def open(self, case_id: str) -> PlannedCase:
        """The case as memory maps, built first if it was evicted.

        Maps that are open stay valid when the case is evicted meanwhile.
        """
        return _retry(lambda: self._open(case_id))

    def _open(self, case_id: str) -> PlannedCase:
        folder = self._ensure(case_id)
        os.utime(folder)
        meta = _read_meta(folder)
        contract = LabelContract.from_json(meta["contract"])
        return PlannedCase(
            case_id=case_id,
            sha256=self._sha256[case_id],
            image=np.load(folder / "image.npy", mmap_mode="r"),
            labels={
                layer: np.load(folder / f"labels-{layer}.npy", mmap_mode="r")
                for layer in contract.layers
            },
            contract=contract,
            z_axis=meta.get("z_axis", 0),
            z_origin=meta["z_origin"],
            z_step=meta["z_step"],
            voxels=np.load(folder / "foreground.npy", mmap_mode="r"),
            entries=meta["entries"],
        )

    def _case_folder(self, case_id: str) -> Path:
        return self.folder / self._sha256[case_id] / DATA

    def _ensure(self, case_id: str) -> Path:
        target = self._case_folder(case_id)
        if not target.exists():
            with exclusive(target.parent / LOCK):
                if not target.exists():
                    sweep_temporaries(target.parent)
                    self._make(self.dataset.case(case_id), target)
        return target

    def _make(self, case: Case, target: Path) -> None:
        image, labels, z_axis, z_mm, z_step = self._planned(case)
        voxels, entries = sample_foreground(labels, case.contract, z_mm, case.sha256, z_axis)
        meta = {
            "shape": list(image.shape),
            "contract": case.contract.to_json(),
            "z_axis": z_axis,
            "z_origin": float(z_mm[0]),
            "z_step": z_step,
            "entries": entries,
        }
        with atomic_directory(target) as folder:
            np.save(folder / "image.npy", image)
            for layer, grid in labels.items():
                np.save(folder / f"labels-{layer}.npy", grid)
            np.save(folder / "foreground.npy", voxels)
            (folder / META).write_text(json.dumps(meta), encoding="utf-8")

    def _planned(
        self, case: Case
    ) -> tuple[NDArray[np.float16], dict[str, NDArray[np.uint8]], int, NDArray[np.float64], float]:
        """Image and labels on the plan's grid, the axis along the body, its slices and step."""
        if self._preparer is None:
            shape = grid_shape(case.shape, case.spacing, self._target)
            image = self._normalise(resample_image(case.ct(), shape)).astype(np.float16)
            labels = {layer: resample_labels(case.labels(layer), shape) for layer in case.layers}
            z_mm = slice_positions(case.shape[0], shape[0], case.spacing[0])
            return image, labels, 0, z_mm, case.spacing[0] * case.shape[0] / shape[0]
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

    def _normalise(self, hu: NDArray[np.float32]) -> NDArray[np.float32]:
        clipped = np.clip(hu, *self._clip)
        return ((clipped - self._mean) / self._std).astype(np.float32)


def stored_bytes(root: Path) -> int:
    """Bytes of all plan stores under `root`."""
    return sum(_size(folder) for folder in _cases(root))


def evict(root: Path, max_bytes: int) -> int:
    """Remove the cases unused for longest until `max_bytes` remain; returns bytes freed."""
    cases = sorted((folder.stat().st_mtime_ns, folder) for folder in _cases(root))
    sizes = {folder: _size(folder) for _, folder in cases}
    excess = sum(sizes.values()) - max_bytes
    freed = 0
    for _, folder in cases:
        if freed >= excess:
            break
        with exclusive(folder.parent / LOCK):
            # out of sight first, so that no reader finds half a case
            doomed = folder.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
            try:
                folder.rename(doomed)
            except FileNotFoundError:
                continue  # evicted by another process meanwhile
            shutil.rmtree(doomed)
        freed += sizes[folder]
    return freed


def forget(root: Path, cases: Collection[str]) -> None:
    """Remove cases by their hash, from every plan."""
    for folder in _cases(root):
        if folder.parent.name in cases:
            with exclusive(folder.parent / LOCK):
                shutil.rmtree(folder, ignore_errors=True)


def _cases(root: Path) -> list[Path]:
    return list(root.glob(f"*/*/{DATA}"))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*"))


def _read_meta(folder: Path) -> dict[str, Any]:
    meta: dict[str, Any] = json.loads((folder / META).read_text(encoding="utf-8"))
    return meta


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
