"""Images in one folder, labels of the same names (or a folder of masks each) in another."""

from __future__ import annotations

from pathlib import Path

from clnet.data_catalog.source import find_cases
from clnet.data_catalog.sources.folder import SourceFolder

LOOKS_FOR = "images/ID.nii.gz and labels/ID.nii.gz or labels/ID/NAME.nii.gz (or imagesTr, labelsTr)"

_PAIRS = (("images", "labels"), ("imagesTr", "labelsTr"))


def detect(folder: Path) -> bool:
    """Whether both folders are there, and no ``dataset.json`` that would say more."""
    return not (folder / "dataset.json").is_file() and any(
        (folder / images).is_dir() and (folder / labels).is_dir() for images, labels in _PAIRS
    )


def cases(folder: Path) -> SourceFolder:
    """Every image with its labels."""
    return SourceFolder(find_cases(folder))
