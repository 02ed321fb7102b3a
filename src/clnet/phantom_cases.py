"""Phantoms as files, the way a site would have them: an image and one mask per anatomy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from clnet.anatomy.phantom import Phantom
from clnet.data_catalog import CaseSource

__all__ = ["to_nibabel", "write_case", "write_image"]


def write_image(phantom: Phantom, path: Path) -> Path:
    """The phantom's CT as NIfTI."""
    nib.save(nib.Nifti1Image(to_nibabel(phantom.ct), phantom.affine), path)
    return path


def write_case(
    phantom: Phantom, folder: Path, case_id: str, labels: Mapping[str, Sequence[str]]
) -> CaseSource:
    """Image and masks of one phantom under `folder`, ready to be contributed.

    A mask is written for every labelled anatomy, empty where the scan does not hold it: the
    annotator looked and found nothing.

    Args:
        labels: name of each mask to the phantom's anatomies in it, several where the site
            merges them.
    """
    home = folder / case_id
    home.mkdir(parents=True)
    value_of = {
        name: (layer, value)
        for layer, names in phantom.names.items()
        for value, name in names.items()
    }
    masks: dict[str, Path] = {}
    for name, members in labels.items():
        mask = np.zeros(phantom.ct.shape, np.uint8)
        for member in members:
            layer, value = value_of[member]
            mask |= phantom.labels[layer] == value
        masks[name] = home / f"{name}.nii.gz"
        nib.save(nib.Nifti1Image(to_nibabel(mask), phantom.affine), masks[name])
    return CaseSource(case_id, write_image(phantom, home / "ct.nii.gz"), masks)


def to_nibabel(zyx: NDArray[Any]) -> NDArray[Any]:
    """A canonical array ``(Z, Y, X)`` in nibabel's axis order."""
    return np.ascontiguousarray(zyx.transpose(2, 1, 0))
