"""A folder per case: the image beside one label map, or beside a folder of masks."""

from __future__ import annotations

from pathlib import Path

from clnet.data_catalog.source import image_files, stem
from clnet.data_catalog.sources.folder import SourceFolder, folders_in
from clnet.data_catalog.sources.pairing import Pairing
from clnet.errors import CaseRejected

LOOKS_FOR = (
    "ID/image.nii.gz (or ct, img, imaging, scan, volume) and ID/labels.nii.gz (or label, mask, "
    "seg, segmentation) or ID/masks/NAME.nii.gz (or labels, segmentations, structures)"
)
IMAGES = frozenset({"ct", "image", "img", "imaging", "scan", "volume"})
MAPS = frozenset({"label", "labels", "mask", "seg", "segmentation"})
FOLDERS = ("labels", "masks", "segmentations", "structures")


def detect(folder: Path) -> bool:
    """Whether some folder looks like a case, TotalSegmentator's own layout aside."""
    for case in folders_in(folder):
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
    """Every folder that holds scans or labels.

    Raises:
        InputError: no folder does.
    """
    found = Pairing(folder, LOOKS_FOR)
    others = [one.name for one in folders_in(folder) if not _add(found, one)]
    found.left_out("folders without scans and labels", others)
    return found.cases()


def _add(found: Pairing, case: Path) -> bool:
    """Add what a folder holds; False if that is nothing."""
    files = image_files(case)
    for name, path in files:
        if name in IMAGES:
            found.image(case.name, path)
        elif name in MAPS:
            found.label_map(case.name, path)
    masks = {name: inside for name in FOLDERS if (inside := _masks(case / name))}
    for inside in masks.values():
        for name, path in inside:
            found.mask(case.name, name, path)
    if len(masks) > 1:
        told = f"masks in {' and in '.join(masks)}; keep one of them"
        found.fault(case.name, CaseRejected(str(case), "labels", told, "case.ambiguous"))
    if files and case.name not in found:
        there = ", ".join(path.name for _, path in files)
        told = f"none is called as images are (ct, image, img ...); there are {there}"
        found.fault(case.name, CaseRejected(str(case), "image", told, "case.no-image"))
    return case.name in found


def _masks(folder: Path) -> list[tuple[str, Path]]:
    return image_files(folder) if folder.is_dir() else []
