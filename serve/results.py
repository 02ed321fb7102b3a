"""The files of a result: masks on the scan's own grid, what their values mean, a picture."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Collection, Mapping
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from clnet.anatomy.vocabulary import vocabulary
from clnet.serve.outcome import Outcome, ReleaseCard
from clnet.serve.planes import colour_of
from clnet.serve.render import Caption, render
from clnet.serve.result_folder import ARCHIVE, LABELS, PICTURE, STATISTICS, mask_name

__all__ = ["FORMATS", "archived", "result_files", "statistics_of"]

FORMATS = ("nifti", "png")
SLAB_VOXELS = 1 << 22  # of a label map, compressed at once
SPEED = 4  # of gzip: label maps shrink to a hundredth at any level

HEADERS: dict[int, Any] = {
    348: nib.Nifti1Header,
    540: nib.Nifti2Header,
}


def result_files(
    hu: NDArray[np.int16],
    affine: NDArray[np.float64],
    header: bytes,
    labels: Mapping[str, NDArray[Any]],
    outcome: Outcome,
    card: ReleaseCard,
    formats: Collection[str] = FORMATS,
) -> dict[str, bytes]:
    """The files of a result by name.

    Args:
        hu: the scan in its own axis order.
        affine: voxel indices to RAS+ mm.
        header: the scan's NIfTI header.
        labels: layer to label map on the scan's grid.
        outcome: names and statistics that go with them.
        card: of the release that was served.
        formats: ``nifti`` for the label maps and what their values mean, ``png`` for the
            picture; the statistics come with any.
    """
    files: dict[str, bytes] = {}
    if "nifti" in formats:
        files |= {mask_name(layer): mask_file(values, header) for layer, values in labels.items()}
        files[LABELS] = _json(_label_names(outcome, card))
    files[STATISTICS] = _json(statistics_of(outcome, card))
    if "png" in formats:
        shape = " × ".join(str(size) for size in hu.shape)
        zooms = " × ".join(f"{size:.2g}" for size in np.linalg.norm(affine[:3, :3], axis=0))
        caption = Caption(
            subtitle=f"release {card.name}  ·  {shape} voxels of {zooms} mm", notice=card.notice
        )
        files[PICTURE] = render(hu, affine, labels, outcome.names, caption)
    return files


def archived(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """`files`, and ``result.zip`` that holds them all."""
    return {**files, ARCHIVE: _zipped(files)}


def mask_file(labels: NDArray[Any], header: bytes) -> bytes:
    """A label map as ``.nii.gz`` with the grid of the scan whose NIfTI header is given.

    Shape, affine, qform, sform and their codes are the scan's. Text fields are not copied, as
    scanners write patients' names there.
    """
    kind = HEADERS[348 if len(header) == 348 else 540]
    own = kind(header)
    own.set_data_dtype(labels.dtype)
    own.set_slope_inter(1, 0)
    own["cal_min"], own["cal_max"] = 0, 0
    for name in ("descrip", "aux_file", "intent_name", "db_name"):
        if name in own:
            own[name] = b""
    own["vox_offset"] = 0
    own["dim"] = [3, *labels.shape, 1, 1, 1, 1]
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=SPEED, mtime=0) as file:
        own.write_to(file)
        step = max(1, SLAB_VOXELS // (labels.shape[0] * labels.shape[1]))
        for first in range(0, labels.shape[2], step):
            file.write(labels[:, :, first : first + step].tobytes(order="F"))
    return buffer.getvalue()


def _label_names(outcome: Outcome, card: ReleaseCard) -> dict[str, Any]:
    known = vocabulary()

    def described(anatomy: str) -> dict[str, Any]:
        if anatomy not in known:  # a union that has no name of its own
            return {"anatomy": anatomy, "name": anatomy, "colour": colour_of(anatomy)}
        entry = known[anatomy]
        return {
            "anatomy": anatomy,
            "name": entry.name,
            "colour": entry.colour,
            "snomed": entry.snomed,
        }

    return {
        "release": card.name,
        "layers": {
            layer: {
                "file": mask_name(layer),
                "labels": {str(value): described(name) for value, name in sorted(names.items())},
            }
            for layer, names in outcome.names.items()
        },
    }


def statistics_of(outcome: Outcome, card: ReleaseCard) -> dict[str, Any]:
    """What `outcome` says per anatomy, and which release said it; JSON-able."""
    release = {
        "name": card.name,
        "sha256": card.sha256,
        "encoder": card.encoder,
        "body_part_model": card.body_part_model,
        "terms": card.terms,
        "notice": card.notice,
    }
    return {"release": release, **outcome.statistics}


def _json(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, indent=2, ensure_ascii=False).encode() + b"\n"


def _zipped(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            compressed = name.endswith((".gz", ".png"))
            method = zipfile.ZIP_STORED if compressed else zipfile.ZIP_DEFLATED
            archive.writestr(zipfile.ZipInfo(name), data, compress_type=method)
    return buffer.getvalue()
