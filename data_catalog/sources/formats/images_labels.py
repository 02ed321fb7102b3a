"""Images in one folder, labels of the same names (or a folder of masks each) in another."""

from __future__ import annotations

from pathlib import Path

from clnet.data_catalog.source import image_files
from clnet.data_catalog.sources.folder import SourceFolder
from clnet.data_catalog.sources.pairing import Pairing
from clnet.errors import InputError

LOOKS_FOR = "images/ID.nii.gz and labels/ID.nii.gz or labels/ID/NAME.nii.gz (or imagesTr, labelsTr)"

_PAIRS = (("images", "labels"), ("imagesTr", "labelsTr"))


def detect(folder: Path) -> bool:
    """Whether both folders are there, and no ``dataset.json`` that would say more."""
    return not (folder / "dataset.json").is_file() and _pair(folder) is not None


def cases(folder: Path) -> SourceFolder:
    """Every image with its labels. nnU-Net's suffix ``_0000`` of images is not part of the id.

    Raises:
        InputError: neither pair of folders is there, or there is nothing in them.
    """
    pair = _pair(folder)
    if pair is None:
        raise InputError(f"{folder}: no folders images/ and labels/ (or imagesTr/ and labelsTr/)")
    images, labels = pair
    found = Pairing(folder, LOOKS_FOR)
    for name, path in image_files(images):
        found.image(name.removesuffix("_0000"), path)
    for name, path in image_files(labels):
        found.label_map(name, path)
    for masks in sorted(labels.iterdir()):
        if masks.is_dir() and not masks.name.startswith("."):
            for name, path in image_files(masks):
                found.mask(masks.name, name, path)
    return found.cases()


def _pair(folder: Path) -> tuple[Path, Path] | None:
    for images, labels in _PAIRS:
        if (folder / images).is_dir() and (folder / labels).is_dir():
            return folder / images, folder / labels
    return None
