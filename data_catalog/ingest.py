"""One case from files to canonical arrays, checked on the way; nothing is stored here."""

from __future__ import annotations

from clnet.anatomy.mapping import LabelMapping
from clnet.data_catalog.canonical import Canonical, grid_distance, to_canonical
from clnet.data_catalog.case import CaseContent
from clnet.data_catalog.hounsfield import as_hounsfield
from clnet.data_catalog.labels import translate_map, translate_masks
from clnet.data_catalog.source import CaseSource
from clnet.data_catalog.volume import DEFAULT_MAX_BYTES, read_volume
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
    if isinstance(source.labels, dict):
        names = {key: path for key, path in source.labels.items() if key not in mapping.ignored}
        if not names:
            raise CaseRejected(str(source.image), "labels", "no mask that the mapping uses")
        files = {key: str(path) for key, path in names.items()}
        masks = {}
        for key, path in names.items():
            mask = to_canonical(read_volume(path, max_bytes))
            _same_grid(image, mask, files[key])
            masks[key] = mask.voxels
        labels, contract = translate_masks(masks, files, mapping, image.spacing[0])
    else:
        file = str(source.labels)
        grid = to_canonical(read_volume(source.labels, max_bytes))
        _same_grid(image, grid, file)
        labels, contract = translate_map(grid.voxels, file, mapping, image.spacing[0])
    return CaseContent(ct, labels, contract, image.spacing, image.affine, image.axcodes)


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
