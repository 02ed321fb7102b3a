"""A folder per case: the image beside one label map, or beside a folder of masks."""

from __future__ import annotations

from pathlib import Path

from clnet.data_catalog.source import CaseSource, Labels, as_labels, stem
from clnet.data_catalog.sources.folder import SourceFolder, mask_of
from clnet.errors import CaseRejected, InputError

LOOKS_FOR = (
    "ID/image.nii.gz (or ct, img, imaging, scan, volume) and ID/labels.nii.gz (or label, mask, "
    "seg, segmentation) or ID/masks/NAME.nii.gz (or labels, segmentations, structures)"
)
IMAGES = frozenset({"ct", "image", "img", "imaging", "scan", "volume"})
MAPS = frozenset({"label", "labels", "mask", "seg", "segmentation"})
FOLDERS = ("labels", "masks", "segmentations", "structures")


def detect(folder: Path) -> bool:
    """Whether some folder looks like a case, TotalSegmentator's own layout aside."""
    for case in _folders(folder):
        names = {stem(path) for path in case.iterdir()}
        image = names & IMAGES
        if not image:
            continue
        if names & MAPS:
            return True
        masks = [name for name in FOLDERS if (case / name).is_dir()]
        if masks and not (masks == ["segmentations"] and image == {"ct"}):
            return True
    return False


def cases(folder: Path) -> SourceFolder:
    """Every folder that holds an image.

    Raises:
        CaseRejected: a case with two images, or without labels or with labels of two kinds.
        InputError: no case.
    """
    found = [case for one in _folders(folder) if (case := _case(one)) is not None]
    if not found:
        raise InputError(f"{folder}: no case: looked for {LOOKS_FOR}")
    return SourceFolder(found)


def _case(folder: Path) -> CaseSource | None:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    images = [path for path in files if stem(path) in IMAGES]
    if not images:
        return None
    if len(images) > 1:
        raise CaseRejected(str(images[1]), "image", f"{images[0].name} is an image too; keep one")
    labels: list[Labels] = [as_labels(path) for path in files if stem(path) in MAPS]
    for name in FOLDERS:
        masks = sorted(p for p in (folder / name).glob("*") if p.is_file())
        named = {key: mask_of(p) for p in masks if (key := stem(p)) is not None}
        if named:
            labels.append(named)
    if len(labels) != 1:
        seen = "no labels" if not labels else "labels of two kinds"
        raise CaseRejected(str(folder), "labels", f"{seen} beside {images[0].name}")
    return CaseSource(folder.name, images[0], labels[0])


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
