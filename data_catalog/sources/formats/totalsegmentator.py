"""TotalSegmentator's layout: a folder per case with the CT and one mask per structure."""

from __future__ import annotations

from pathlib import Path

from clnet.data_catalog.sources.folder import Layout, SourceFolder

LOOKS_FOR = "ID/ct.nii.gz and ID/segmentations/NAME.nii.gz"
LAYOUT = Layout(image="{id}/ct.nii.gz", labels="{id}/segmentations/{name}.nii.gz")


def detect(folder: Path) -> bool:
    """Whether some folder has ``ct.nii.gz`` beside ``segmentations/``."""
    return any((image.parent / "segmentations").is_dir() for image in folder.glob("*/ct.nii.gz"))


def cases(folder: Path) -> SourceFolder:
    """The cases that have masks."""
    return SourceFolder(LAYOUT.cases(folder))
