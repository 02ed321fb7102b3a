"""One case on a plan's grid, as files of a folder: what training reads patches from."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import EllipsisType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clnet.anatomy.contract import LabelContract
from clnet.data_catalog.shard import Box, Shard, write_shard

__all__ = [
    "Intensities",
    "PlannedCase",
    "PlannedImage",
    "PlannedLabels",
    "open_planned",
    "write_planned",
]

IMAGE, LABELS, FOREGROUND = "image", "labels", "foreground.npy"
AXES = ("z", "y", "x")

Key = int | slice | EllipsisType | tuple[int | slice | EllipsisType, ...]


@dataclass(frozen=True, slots=True)
class Intensities:
    """How a plan's HU are kept, and normalised when they are read.

    Attributes:
        clip: lowest and highest HU kept, whole numbers inside the plan's.
        mean, std: what normalisation subtracts and divides by, in HU.
    """

    clip: tuple[int, int]
    mean: float
    std: float

    @classmethod
    def of(cls, clip: tuple[float, float], mean: float, std: float) -> Intensities:
        """Of a plan's own fields."""
        kept = np.iinfo(np.int16)
        low, high = max(kept.min, np.ceil(clip[0])), min(kept.max, np.floor(clip[1]))
        return cls((int(low), int(high)), mean, std)

    def keep(self, hu: NDArray[Any]) -> NDArray[np.int16]:
        """HU to what is stored: clipped, and rounded as scanners do."""
        kept = np.empty(hu.shape, dtype=np.int16)
        for index, plane in enumerate(hu):  # one fits in a processor's cache
            kept[index] = np.clip(np.rint(plane), *self.clip)
        return kept

    def normalise(self, kept: NDArray[np.int16]) -> NDArray[np.float32]:
        """What is stored to the network's intensities."""
        values = kept.astype(np.float32)
        values -= self.mean
        values /= self.std
        return values


class _Voxels(ABC):
    """Voxels that are read where they are sliced; ``numpy.asarray`` reads them all."""

    def __init__(self, shape: tuple[int, int, int], dtype: Any) -> None:
        self.shape = shape
        self.dtype: np.dtype[Any] = np.dtype(dtype)

    @abstractmethod
    def read(self, box: Box) -> NDArray[Any]:
        """A box, three slices of step 1 within the grid."""

    def __getitem__(self, key: Key) -> NDArray[Any]:
        box, single = _box(key, self.shape)
        return self.read(box)[single]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("voxels are read from files, so they are always a copy")
        whole = self.read(tuple(slice(0, size) for size in self.shape))
        return whole if dtype is None else whole.astype(dtype, copy=False)


class PlannedImage(_Voxels):
    """Normalised intensities, float32, ``(Z, Y, X)``.

    Args:
        shard: HU as `intensities` keeps them, or normalised values without.
    """

    def __init__(self, shard: Shard, intensities: Intensities | None) -> None:
        z, y, x = shard.shape
        super().__init__((z, y, x), np.float32)
        self._shard, self._intensities = shard, intensities

    def read(self, box: Box) -> NDArray[np.float32]:
        """A box of it."""
        kept = self._shard.read(box)
        if self._intensities is None:
            return kept.astype(np.float32)
        return self._intensities.normalise(kept)


class PlannedLabels(_Voxels):
    """The label map of one layer, uint8, ``(Z, Y, X)``."""

    def __init__(self, shard: Shard, layer: int) -> None:
        _, z, y, x = shard.shape
        super().__init__((z, y, x), shard.dtype)
        self._shard, self._layer = shard, layer

    def read(self, box: Box) -> NDArray[np.uint8]:
        """A box of it."""
        one = (slice(self._layer, self._layer + 1), *box)
        labels: NDArray[np.uint8] = self._shard.read(one)[0]
        return labels


@dataclass(frozen=True, slots=True)
class PlannedCase:
    """One case on the plan grid; voxels are read where they are sliced.

    An open case stays readable when it is evicted meanwhile.

    Attributes:
        image: normalised intensity, float32, ``(Z, Y, X)``.
        labels: layer to label map, uint8, same shape.
        z_axis: the axis of the arrays that runs along the body, 0 in plans of our own.
        z_origin, z_step: centre of the first slice along it in mm from the case's slice 0, and
            the distance to the next, negative where the axis runs downwards.
        voxels: sampled foreground voxels ``(N, 3)``, see :mod:`.foreground`.
        entries: one record per contract entry: which rows of `voxels` are its own.
    """

    case_id: str
    sha256: str
    image: PlannedImage
    labels: Mapping[str, PlannedLabels]
    contract: LabelContract
    z_axis: int
    z_origin: float
    z_step: float
    voxels: NDArray[np.int32]
    entries: list[dict[str, Any]]
    _stack: Shard | None

    def maps(self, box: Box) -> dict[str, NDArray[np.uint8]]:
        """A box of the label maps of all layers, which lie together and are read at once."""
        if self._stack is None:
            return {}
        stack = self._stack.read((slice(0, self._stack.shape[0]), *box))
        return dict(zip(self.labels, stack, strict=True))


def write_planned(
    folder: Path,
    image: NDArray[Any],
    labels: Mapping[str, NDArray[np.uint8]],
    voxels: NDArray[np.int32],
) -> None:
    """Write a case into an empty folder.

    Args:
        image: as it is kept: HU, int16, or normalised values, float16.
        labels: by layer.
    """
    write_shard(folder / IMAGE, image, AXES)
    if labels:
        stack = np.stack([labels[layer] for layer in sorted(labels)])
        write_shard(folder / LABELS, stack, ("layer", *AXES))
    np.save(folder / FOREGROUND, voxels)


def open_planned(
    folder: Path,
    record: Mapping[str, Any],
    case_id: str,
    sha256: str,
    intensities: Intensities | None,
) -> PlannedCase:
    """Open what :func:`write_planned` wrote.

    Args:
        record: what is known of the case without its voxels, see :class:`.plan_store.PlanStore`.
        intensities: how HU are kept; None where the image holds normalised values.

    Raises:
        FileNotFoundError: it is not there, or no longer.
        IntegrityError: it is not as it was written.
    """
    contract = LabelContract.from_json(record["contract"])
    stack = Shard(folder / LABELS) if contract.layers else None
    labels = {}
    if stack is not None:
        labels = {layer: PlannedLabels(stack, n) for n, layer in enumerate(contract.layers)}
    return PlannedCase(
        case_id=case_id,
        sha256=sha256,
        image=PlannedImage(Shard(folder / IMAGE), intensities),
        labels=labels,
        contract=contract,
        z_axis=record["z_axis"],
        z_origin=record["z_origin"],
        z_step=record["z_step"],
        voxels=np.load(folder / FOREGROUND, mmap_mode="r"),
        entries=record["entries"],
        _stack=stack,
    )


def _box(key: Key, shape: Sequence[int]) -> tuple[Box, tuple[int | slice, ...]]:
    """The slices that an index means, and how to drop the axes that it names a single one of."""
    parts = list(key) if isinstance(key, tuple) else [key]
    named = sum(part is not Ellipsis for part in parts)
    if named > len(shape):
        raise IndexError(f"{named} indices of {len(shape)} axes")
    at = parts.index(Ellipsis) if named < len(parts) else named
    parts[at : at + 1] = [slice(None)] * (len(shape) - named)
    box: list[slice] = []
    single: list[int | slice] = []
    for part, size in zip(parts, shape, strict=True):
        if isinstance(part, slice):
            start, stop, step = part.indices(size)
            if step != 1:
                raise IndexError(f"step {step}: voxels are read in steps of 1")
            box.append(slice(start, max(start, stop)))
            single.append(slice(None))
        else:
            number = operator.index(part)  # type: ignore[arg-type]
            if not -size <= number < size:
                raise IndexError(f"index {number} of an axis of {size}")
            box.append(slice(number % size, number % size + 1))
            single.append(0)
    return tuple(box), tuple(single)
