"""What a newer release makes of voxels that an older one labelled, scan by scan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clnet.anatomy.vocabulary import vocabulary
from clnet.errors import InputError, NotFound, UnknownAnatomy

if TYPE_CHECKING:
    from clnet.model.result import Segmentation
    from clnet.model.segmentation import SegmentationModel
    from clnet.model.watch import Progress

__all__ = ["PHANTOM", "VoxelChange", "changed_voxels"]

PHANTOM = "phantom:"
PHANTOM_MM = (6.0, 6.0, 6.0)


@dataclass(frozen=True, slots=True)
class VoxelChange:
    """One anatomy of the older release in one scan.

    Attributes:
        before, after: voxels of it, parts of it in its layer included.
        lost: voxels that were it and are no more.
        gained: voxels that are it and were not.
    """

    scan: str
    anatomy: str
    before: int
    after: int
    lost: int
    gained: int

    @property
    def changed(self) -> int:
        """Voxels in which the two releases differ about it."""
        return self.lost + self.gained

    def to_dict(self) -> dict[str, Any]:
        """The change as JSON-able values."""
        return asdict(self) | {"changed": self.changed}


def changed_voxels(
    before: SegmentationModel,
    after: SegmentationModel,
    scans: Sequence[str | Path],
    progress: Progress | None = None,
) -> list[VoxelChange]:
    """Segment scans with both releases and count, per anatomy that the older one looks for.

    Args:
        before, after: the loaded releases.
        scans: image files, or ``phantom:SEED`` for the phantom of that seed.
        progress: told the fraction done and the scan in work.

    Raises:
        CaseRejected: a file cannot be read, or is not a CT in HU.
        InputError: a seed that is no number.
    """
    found = []
    for done, scan in enumerate(scans):
        if progress is not None:
            progress(done / len(scans), str(scan))
        hu, affine = _read(str(scan))
        old, new = before.segment(hu, affine), after.segment(hu, affine)
        found += list(_changes(str(scan), old, new))
    return found


def _changes(scan: str, old: Segmentation, new: Segmentation) -> Iterator[VoxelChange]:
    for anatomy in sorted(name for names in old.names.values() for name in names.values()):
        was, now = _mask(old, anatomy), _mask(new, anatomy)
        lost, gained = was & ~now, now & ~was
        counts = (int(np.count_nonzero(mask)) for mask in (was, now, lost, gained))
        yield VoxelChange(scan, anatomy, *counts)


def _mask(result: Segmentation, anatomy: str) -> NDArray[np.bool_]:
    """Voxels of an anatomy and its parts; none where nobody looks for it."""
    for layer, names in result.names.items():
        for value, name in names.items():
            if name == anatomy not in vocabulary():  # a union without a name of its own
                return np.asarray(result.labels[layer] == value)
    try:
        return result.mask(anatomy)
    except (NotFound, UnknownAnatomy):
        return np.zeros(next(iter(result.labels.values())).shape, bool)


def _read(scan: str) -> tuple[NDArray[Any], NDArray[np.float64]]:
    from clnet.hub.segmented import read_scan

    if not scan.startswith(PHANTOM):
        return read_scan(Path(scan))
    from clnet.anatomy.phantom import render
    from clnet.phantom_cases import to_nibabel

    seed = scan.removeprefix(PHANTOM)
    if not seed.isdecimal():
        raise InputError(f"{scan}: a number expected after {PHANTOM}")
    phantom = render(int(seed), spacing=PHANTOM_MM)
    return to_nibabel(phantom.ct), phantom.affine
