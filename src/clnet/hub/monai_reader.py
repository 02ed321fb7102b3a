"""Stored cases for MONAI's transforms: ``LoadImaged(keys, reader=hub.datasets.reader())``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import PurePath
from typing import Any

import numpy as np
from monai.data.image_reader import ImageReader
from monai.utils.enums import MetaKeys, SpaceKeys
from numpy.typing import NDArray

from clnet.data_catalog import Case, Dataset
from clnet.errors import InputError

__all__ = ["CaseReader", "items_of"]

CT = "ct"
Name = str | PathLike[str]


@dataclass(frozen=True, slots=True)
class StoredImage:
    """One array of a case, not yet read.

    Attributes:
        case: that it belongs to.
        part: ``ct``, or the layer of a label map.
    """

    case: Case
    part: str

    def voxels(self) -> NDArray[Any]:
        """HU or label values, ``(Z, Y, X)``."""
        return self.case.ct() if self.part == CT else self.case.labels(self.part)


class CaseReader(ImageReader):
    """Reads ``site/name@version/case/ct`` and ``site/name@version/case/LAYER``.

    Arrays come as MONAI has them: ``(X, Y, Z)`` with the affine to RAS+ mm.

    Args:
        get: gives a dataset by its ref.
    """

    def __init__(self, get: Callable[[str], Dataset]) -> None:
        super().__init__()
        self._get = get

    def verify_suffix(self, filename: Sequence[Name] | Name) -> bool:
        """Whether all of these name parts of cases."""
        return all(len(PurePath(name).parts) == 4 for name in _several(filename))

    def read(self, data: Sequence[Name] | Name, **kwargs: Any) -> list[StoredImage]:
        """What the names mean; voxels are read by :meth:`get_data`.

        Raises:
            InputError: a name of another form.
            NotFound: no such dataset, case or layer.
        """
        return [self._find(name) for name in _several(data)]

    def get_data(self, img: Sequence[StoredImage]) -> tuple[NDArray[Any], dict[str, Any]]:
        """Voxels ``(X, Y, Z)``, channels last if there are several, and where they lie."""
        arrays = [image.voxels().transpose(2, 1, 0) for image in img]
        case = img[0].case
        single = len(arrays) == 1
        voxels = np.ascontiguousarray(arrays[0] if single else np.stack(arrays, axis=-1))
        return voxels, {
            MetaKeys.AFFINE: case.affine,
            MetaKeys.ORIGINAL_AFFINE: case.affine,
            MetaKeys.SPATIAL_SHAPE: np.array(arrays[0].shape),
            MetaKeys.SPACE: SpaceKeys.RAS,
            MetaKeys.ORIGINAL_CHANNEL_DIM: float("nan") if single else -1,
        }

    def _find(self, name: Name) -> StoredImage:
        parts = PurePath(name).parts
        if len(parts) != 4:
            raise InputError(f"{name}: give site/name@version/case/ct or .../LAYER")
        case = self._get("/".join(parts[:2])).case(parts[2])
        return StoredImage(case, parts[3])


def items_of(dataset: Dataset, layer: str) -> list[dict[str, str]]:
    """MONAI's data list: ``image`` and ``label`` of every case that has labels in `layer`."""
    return [
        {
            "image": f"{dataset.ref}/{case.id}/{CT}",
            "label": f"{dataset.ref}/{case.id}/{layer}",
        }
        for case in dataset
        if layer in case.layers
    ]


def _several(names: Sequence[Name] | Name) -> list[Name]:
    return [names] if isinstance(names, str | PathLike) else list(names)
