"""TotalSegmentator's layout: a folder per case with the CT and one mask per structure."""

from __future__ import annotations

from pathlib import Path

from clnet.data_catalog.sources.folder import SourceFolder, folders_in
from clnet.data_catalog.sources.layout import Layout

LOOKS_FOR = "ID/ct.nii.gz and ID/segmentations/NAME.nii.gz"
LAYOUT = Layout(image="{id}/ct.nii.gz", labels="{id}/segmentations/{name}.nii.gz")


def detect(folder: Path) -> bool:
    """Whether some folder has ``ct.nii.gz`` beside ``segmentations/``."""
    return any((image.parent / "segmentations").is_dir() for image in folder.glob("*/ct.nii.gz"))


def cases(folder: Path) -> SourceFolder:
    """Every folder that has the CT or masks."""
    found = LAYOUT.pair(folder)
    others = [one.name for one in folders_in(folder) if one.name not in found]
    found.left_out("folders with neither CT nor masks", others)
    return found.cases()
