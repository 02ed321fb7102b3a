"""One case from files to canonical arrays, checked on the way; nothing is stored here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clnet.anatomy.contract import UNKNOWN
from clnet.anatomy.mapping import LabelMapping
from clnet.data_catalog.canonical import Canonical, grid_distance, to_canonical
from clnet.data_catalog.case import CaseContent
from clnet.data_catalog.embedding import embed
from clnet.data_catalog.hounsfield import as_hounsfield
from clnet.data_catalog.labels import translate_map, translate_masks
from clnet.data_catalog.source import CaseSource
from clnet.data_catalog.volume import DEFAULT_MAX_BYTES, Stored, read_volume
from clnet.errors import CaseRejected

__all__ = ["read_case"]

GRID_TOLERANCE = 0.1
"""How far image and label grids may be apart at any corner, in voxels of the finest axis."""


def read_case(
    source: CaseSource, mapping: LabelMapping, max_bytes: int = DEFAULT_MAX_BYTES
) -> CaseContent:
    """Read, check and reorient one case.

    Raises:
        CaseRejected: naming the file, the field and the reason.
    """
    image = to_canonical(read_volume(source.image, max_bytes))
    ct = as_hounsfield(image.voxels, str(source.image))

    def on_grid(labels: Path | Stored) -> NDArray[Any]:
        grid = to_canonical(read_volume(labels, max_bytes))
        if not isinstance(labels, Path):
            grid = embed(grid, image, str(labels))
        _same_grid(image, grid, str(labels))
        return grid.voxels

    if isinstance(source.labels, Mapping):
        used = {key: m for key, m in source.labels.items() if not mapping.leaves_out(key)}
        if not used.keys() - mapping.unknown:
            raise CaseRejected(str(source.image), "labels", "no mask that the mapping uses")
        masks = _Masks({k: m for k, m in used.items() if k not in mapping.unknown}, on_grid)
        files = {key: str(mask) for key, mask in used.items()}
        labels, contract = translate_masks(masks, files, mapping, image.spacing[0])
        for key in used.keys() & mapping.unknown:
            _forget(labels, (on_grid(used[key]) != 0))
    else:
        ids = on_grid(source.labels)
        labels, contract = translate_map(ids, str(source.labels), mapping, image.spacing[0])
        unknown = [int(key) for key in mapping.unknown if key.isdecimal()]
        if unknown:
            _forget(labels, np.isin(ids, unknown))
    return CaseContent(ct, labels, contract, image.spacing, image.affine, image.axcodes)


class _Masks(Mapping[str, NDArray[Any]]):
    """Masks by key, each read when it is looked up: a case may have more than fit in memory."""

    def __init__(
        self,
        sources: Mapping[str, Path | Stored],
        read: Callable[[Path | Stored], NDArray[Any]],
    ) -> None:
        self._sources = sources
        self._read = read

    def __getitem__(self, key: str) -> NDArray[Any]:
        return self._read(self._sources[key])

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)


def _forget(labels: Mapping[str, NDArray[np.uint8]], where: NDArray[np.bool_]) -> None:
    """Make voxels unknown in every layer, unless another label says what they are."""
    for grid in labels.values():
        grid[where & (grid == 0)] = UNKNOWN


def _same_grid(image: Canonical, labels: Canonical, file: str) -> None:
    if labels.voxels.shape != image.voxels.shape:
        raise CaseRejected(
            file,
            "shape",
            f"labels have {labels.voxels.shape} voxels (z, y, x), "
            f"the image {image.voxels.shape}; resample the labels to the image's grid",
        )
    z, y, x = image.voxels.shape
    distance = grid_distance(image.affine, labels.affine, (z, y, x))
    if distance > GRID_TOLERANCE * min(image.spacing):
        raise CaseRejected(
            file,
            "affine",
            f"labels lie up to {distance:.2f} mm off the image's grid; "
            "resample the labels to the image's grid, or repair the header",
        )
