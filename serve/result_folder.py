"""The files of a result in a folder, in which an earlier result may lie."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from clnet.anatomy.vocabulary import LAYERS
from clnet.storage import check_folder

__all__ = ["ARCHIVE", "LABELS", "MASKS", "PICTURE", "STATISTICS", "mask_name", "prepare"]

ARCHIVE = "result.zip"
LABELS = "labels.json"
MASKS = "masks"
PICTURE = "preview.png"
STATISTICS = "statistics.json"


def mask_name(layer: str) -> str:
    """The file of a layer's label map."""
    return f"{MASKS}/{layer}.nii.gz"


def prepare(folder: Path, names: Collection[str]) -> None:
    """Make way for the files `names`: what another result left there would be taken as theirs.

    Only files that a result has are removed; everything else in the folder stays.

    Raises:
        InputError: nothing can be written there.
    """
    check_folder(folder)
    for name in {LABELS, PICTURE, STATISTICS, *map(mask_name, LAYERS)} - set(names):
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):  # it holds something, or was never there
        (folder / MASKS).rmdir()
