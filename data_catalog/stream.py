"""Batches of patches as a pure function of a specification and a batch number.

No state is carried from batch to batch: batch `t` draws from a counter-based generator keyed
by (seed, t), so that any worker, in any order, at any time reads the same patches. That is
what lets decoders share batches, and a job resume by setting `t`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from clnet.anatomy.patch import Patch
from clnet.data_catalog.manifest import content_sha256
from clnet.data_catalog.plan_store import PlanStore
from clnet.data_catalog.planned_case import PlannedCase
from clnet.errors import Incompatible, InputError

__all__ = ["DatasetPin", "PatchStream", "StreamSpec", "split_cases"]

OPEN_CASES = 128
"""Cases kept open: each is a handful of memory maps, and systems bound their number."""

OVERHANG = 8
"""A patch may reach over the scan's border by this fraction (1/8) of its size."""


class DatasetPin(BaseModel):
    """A dataset version by name and by content."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ref: str
    sha256: str


class StreamSpec(BaseModel):
    """Everything that decides which patches a stream gives.

    Attributes:
        datasets: ordered; two streams over other orders are other streams.
        plan_sha256: of the plan whose stores are read.
        patch_size: voxels, ``(z, y, x)``.
        batch_size: patches per batch.
        focus: leaf anatomies that foreground patches centre on; empty means all labelled.
        foreground: fraction of foreground-centred patches at the first and the last batch.
        total: batches over which that fraction moves, linearly.
        seed: of the generator.
        split: which side of the split is read.
        val_fraction: share of cases held for validation, by case hash.
        period: batch `t` equals batch `t` mod period, so that features can be kept.
        augment: whether the reader of the stream augments, seeded by :meth:`PatchStream.seed_for`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    datasets: tuple[DatasetPin, ...] = Field(min_length=1)
    plan_sha256: str
    patch_size: tuple[int, int, int]
    batch_size: int = Field(ge=1)
    focus: tuple[str, ...] = ()
    foreground: tuple[float, float] = (0.5, 0.5)
    total: int = Field(ge=1)
    seed: int = Field(default=0, ge=0, lt=2**63)
    split: Literal["train", "val"] = "train"
    val_fraction: float = Field(default=0.2, ge=0.0, lt=1.0)
    period: int | None = Field(default=None, ge=1)
    augment: bool = True

    @property
    def sha256(self) -> str:
        """Hash of the canonical JSON: equal streams, equal hash."""
        return content_sha256(self.model_dump(mode="json"))


class PatchStream:
    """The patches of a specification, read from plan stores.

    Picklable, and safe to read from several threads; every copy gives the same batches.

    Args:
        stores: one per dataset of the specification, in its order.
        spec: what to draw.

    Raises:
        Incompatible: the stores are not those of the specification.
        InputError: this side of the split has no case, or no case shows any focus anatomy
            while foreground patches are asked for.
    """

    def __init__(self, stores: Sequence[PlanStore], spec: StreamSpec) -> None:
        pins = tuple(DatasetPin(ref=s.dataset.ref, sha256=s.dataset.sha256) for s in stores)
        if pins != spec.datasets:
            raise Incompatible(
                f"stream wants {[pin.ref for pin in spec.datasets]}, "
                f"got {[pin.ref for pin in pins]} (or another content under the same name)"
            )
        for store in stores:
            if store.plan_sha256 != spec.plan_sha256:
                raise Incompatible(f"{store}: the stream wants plan {spec.plan_sha256[:12]}")
        self.stores = tuple(stores)
        self.spec = spec
        self._cases = _side_of_split(self.stores, spec)
        self._targets = _find_targets(self.stores, self._cases, frozenset(spec.focus))
        if max(spec.foreground) > 0 and not self._targets:
            wanted = ", ".join(spec.focus) or "any anatomy"
            raise InputError(
                f"no {spec.split} case of {[pin.ref for pin in pins]} shows {wanted}; "
                "choose another focus or dataset"
            )
        self._case = lru_cache(OPEN_CASES)(self._load)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_case"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._case = lru_cache(OPEN_CASES)(self._load)

    @property
    def cases(self) -> tuple[tuple[str, str], ...]:
        """``(dataset ref, case id)`` of every case on this side of the split."""
        return tuple((self.stores[s].dataset.ref, case_id) for s, case_id in self._cases)

    @property
    def targets(self) -> tuple[tuple[str, ...], ...]:
        """What foreground patches centre on, each equally often: members of an entry."""
        return tuple(self._targets)

    def foreground(self, t: int) -> float:
        """Probability that a patch of batch `t` is foreground-centred."""
        start, end = self.spec.foreground
        return start + (end - start) * min(1.0, self._batch(t) / max(1, self.spec.total - 1))

    def seed_for(self, t: int) -> int:
        """A seed below 2**63 for whatever else is random about batch `t`: augmentation."""
        return int(self._generator(t, self.spec.batch_size).integers(2**63))

    def patches(self, t: int) -> list[Patch]:
        """Batch `t`, `batch_size` patches."""
        if t < 0:
            raise InputError(f"batch {t}: batches count from 0")
        return [self._draw(t, sample) for sample in range(self.spec.batch_size)]

    def _batch(self, t: int) -> int:
        return t if self.spec.period is None else t % self.spec.period

    def _generator(self, t: int, sample: int) -> np.random.Generator:
        key = np.array([self.spec.seed, self._batch(t)], dtype=np.uint64)
        counter = np.array([0, 0, 0, sample], dtype=np.uint64)
        return np.random.Generator(np.random.Philox(key=key, counter=counter))

    def _draw(self, t: int, sample: int) -> Patch:
        # only random() is used: its bits are the most stable across versions of numpy
        u = self._generator(t, sample).random(8)
        if u[0] < self.foreground(t):
            holders = list(self._targets.values())[_pick(u[1], len(self._targets))]
            index, start, stop = holders[_pick(u[2], len(holders))]
            case = self._case(index)
            voxel = case.voxels[start + _pick(u[3], stop - start)]
        else:
            case = self._case(_pick(u[1], len(self._cases)))
            voxel = None
        corner = tuple(
            _place(
                None if voxel is None else int(voxel[axis]),
                case.image.shape[axis],
                self.spec.patch_size[axis],
                float(u[4 + axis]),
            )
            for axis in range(3)
        )
        return self._cut(case, corner)

    def _cut(self, case: PlannedCase, corner: tuple[int, ...]) -> Patch:
        size = self.spec.patch_size
        source, target = [], []
        for start, length, limit in zip(corner, size, case.image.shape, strict=True):
            low, high = max(0, start), min(limit, start + length)
            source.append(slice(low, high))
            target.append(slice(low - start, high - start))
        inside, place = tuple(source), tuple(target)
        image, labels = case.image.read(inside), case.maps(inside)
        if image.shape != size:
            image = _padded(image, size, place, self.stores[0].air)
            labels = {layer: _padded(grid, size, place, 0) for layer, grid in labels.items()}
        axis = case.z_axis
        slices = np.arange(corner[axis], corner[axis] + size[axis], dtype=np.float64)
        z_mm = case.z_origin + slices * case.z_step
        return Patch(image, labels, case.contract, z_mm, case.case_id, axis)

    def _load(self, index: int) -> PlannedCase:
        store, case_id = self._cases[index]
        return self.stores[store].open(case_id)


def split_cases(hashes: Sequence[str], val_fraction: float) -> frozenset[str]:
    """Which of the case hashes are validation cases: a share of the space of hashes.

    A case keeps its side whatever other cases there are, except that where one side would be
    empty the smallest hash alone validates. With a single case, or a fraction of 0, none does.
    """
    unique = sorted(set(hashes))
    if val_fraction == 0 or len(unique) < 2:
        return frozenset()
    val = frozenset(h for h in unique if int(h[:8], 16) / 2**32 < val_fraction)
    return val if 0 < len(val) < len(unique) else frozenset(unique[:1])


def _side_of_split(stores: Sequence[PlanStore], spec: StreamSpec) -> list[tuple[int, str]]:
    cases = [(s, case_id) for s, store in enumerate(stores) for case_id in store.case_ids]
    hashes = {(s, case_id): stores[s].case_sha256(case_id) for s, case_id in cases}
    val = split_cases(list(hashes.values()), spec.val_fraction)
    side = [case for case in cases if (hashes[case] in val) == (spec.split == "val")]
    if not side:
        raise InputError(
            f"no {spec.split} case: {len(cases)} case(s) with val_fraction "
            f"{spec.val_fraction}; add cases or read the other side"
        )
    return side


def _find_targets(
    stores: Sequence[PlanStore], cases: Sequence[tuple[int, str]], focus: frozenset[str]
) -> dict[tuple[str, ...], list[tuple[int, int, int]]]:
    """Members of each entry in focus, to ``(case, first row, last row)`` of its voxels."""
    targets: dict[tuple[str, ...], list[tuple[int, int, int]]] = {}
    for index, (store, case_id) in enumerate(cases):
        for entry in stores[store].describe(case_id)["entries"]:
            members = tuple(entry["members"])
            if entry["stop"] > entry["start"] and (not focus or focus & set(members)):
                holder = (index, int(entry["start"]), int(entry["stop"]))
                targets.setdefault(members, []).append(holder)
    return dict(sorted(targets.items()))


def _padded(
    values: NDArray[Any], size: tuple[int, int, int], place: tuple[slice, ...], outside: float
) -> NDArray[Any]:
    whole = np.full(size, outside, dtype=values.dtype)
    whole[place] = values
    return whole


def _pick(u: float, count: int) -> int:
    """One of `count` from a uniform number in 0..1."""
    return min(int(u * count), count - 1)


def _place(voxel: int | None, size: int, patch: int, u: float) -> int:
    """First voxel of the patch along one axis.

    With a voxel it lies in the patch's central half, nearer to the border only where the
    scan ends: a patch hangs over the scan's border by an eighth of its size at most, or as
    far as it must because it is larger than the scan.
    """
    margin = patch // OVERHANG
    low = min(0, size - patch) - margin
    high = max(0, size - patch) + margin
    if voxel is None:
        return low + _pick(u, high - low + 1)
    start = voxel - patch // 4 - _pick(u, max(1, patch // 2))
    return min(max(start, low), high)
