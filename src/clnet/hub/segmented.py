"""A scan segmented in this process, with the same files that the service gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clnet.errors import CaseRejected, InputError
from clnet.storage import atomic_write

if TYPE_CHECKING:
    from clnet.model.result import Segmentation
    from clnet.model.scratch import Scratch
    from clnet.model.segmentation import SegmentationModel
    from clnet.model.watch import Progress
    from clnet.serve.outcome import Outcome, ReleaseCard

__all__ = ["SegmentedScan", "read_scan", "segment_file"]


@dataclass(frozen=True, slots=True)
class SegmentedScan:
    """What a release found in one scan.

    Attributes:
        result: label maps, states and sizes.
        release: what is known of the release.
    """

    result: Segmentation
    release: ReleaseCard
    _hu: NDArray[np.int16] = field(repr=False)
    _header: bytes = field(repr=False)

    @property
    def labels(self) -> dict[str, NDArray[Any]]:
        """Layer to label map, on the scan's own grid and in its own axis order."""
        return self.result.labels

    @property
    def names(self) -> dict[str, dict[int, str]]:
        """Layer to label value to canonical id."""
        return self.result.names

    def mask(self, anatomy: str) -> NDArray[np.bool_]:
        """Voxels of one anatomy, by any name that the vocabulary knows.

        Raises:
            UnknownAnatomy: the vocabulary does not know the name.
            NotFound: it was not looked for.
        """
        return self.result.mask(anatomy)

    def statistics(self) -> dict[str, Any]:
        """Per anatomy its state, volume and density, and what made it; JSON-able."""
        from clnet.serve.results import statistics_of

        return statistics_of(self._outcome(), self.release)

    def save(self, folder: str | Path, formats: Sequence[str] = ("nifti", "png")) -> list[Path]:
        """Write the result; returns the files.

        What an earlier result left in the folder and this one lacks is removed; other files stay.

        Args:
            formats: ``nifti`` gives ``masks/<layer>.nii.gz`` on the scan's own grid and
                ``labels.json`` with what their values mean; ``png`` gives ``preview.png``.
                ``statistics.json`` is always written.

        Raises:
            InputError: another format, or a folder that nothing can be written to.
        """
        from clnet.serve import result_folder, results

        for name in formats:
            if name not in results.FORMATS:
                raise InputError(f"format {name!r}: not one of {', '.join(results.FORMATS)}")
        files = results.result_files(
            self._hu,
            self.result.affine,
            self._header,
            self.labels,
            self._outcome(),
            self.release,
            formats,
        )
        target = Path(folder)
        result_folder.prepare(target, files)
        for name, data in files.items():
            atomic_write(target / name, data)
        return [target / name for name in files]

    def _outcome(self) -> Outcome:
        from clnet.serve.outcome import Outcome

        return Outcome({}, self.names, self.result.statistics(), {})


def segment_file(
    model: SegmentationModel,
    release: ReleaseCard,
    file: Path,
    anatomies: Sequence[str] | None,
    progress: Progress | None,
    memory_budget: int | None,
    cancelled: Callable[[], bool] | None,
) -> SegmentedScan:
    """Segment an image file, whose voxels go to a temporary file rather than to memory.

    Raises:
        CaseRejected: the file cannot be read, or is not a CT in HU.
        InputError: the disk has no room for its voxels.
        UnknownAnatomy: a name that the vocabulary does not know.
    """
    from clnet.model.scratch import Scratch

    scratch = Scratch()
    hu, affine = read_scan(file, scratch)
    result = model.segment(
        hu,
        affine,
        anatomies,
        progress,
        memory_budget=memory_budget,
        cancelled=cancelled,
        scratch=scratch,
    )
    return SegmentedScan(result, release, hu, _header_of(file, affine))


def read_scan(
    file: Path, scratch: Scratch | None = None
) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """HU in the file's axis order, in a temporary file, and its affine.

    NIfTI of any size is read, as it goes to disk slab by slab; NRRD and MHA, which are held whole
    meanwhile, up to 2 GiB.

    Args:
        file: NIfTI, NRRD or MHA.
        scratch: takes the temporary file; one of its own by default.

    Raises:
        CaseRejected: the file cannot be read, or is not a CT in HU.
        InputError: the disk has no room for it.
    """
    from clnet.data_catalog.hounsfield import as_hounsfield
    from clnet.data_catalog.volume import DEFAULT_MAX_BYTES, NIFTI, read_volume
    from clnet.model.scratch import Scratch

    scratch = scratch if scratch is not None else Scratch()
    limit = None if file.name.endswith(NIFTI) else DEFAULT_MAX_BYTES
    try:
        volume = read_volume(file, limit, allocate=scratch.zeros)
    except CaseRejected as rejection:
        if rejection.code != "file.too-large":
            raise
        raise CaseRejected(
            str(file),
            "shape",
            f"more than the {DEFAULT_MAX_BYTES >> 20} MiB of voxels that are read of such a file, "
            "as it is held in memory whole; convert it to NIfTI, which may be larger",
            rejection.code,
        ) from None
    return as_hounsfield(volume.voxels, str(file), scratch.zeros), volume.affine


def _header_of(file: Path, affine: NDArray[np.float64]) -> bytes:
    """The NIfTI header that masks inherit: the scan's own, or one with its grid."""
    import nibabel as nib

    from clnet.data_catalog.volume import NIFTI

    header: Any
    if file.name.endswith(NIFTI):
        header = nib.load(file).header
    else:
        header = nib.Nifti1Image(np.zeros((1, 1, 1), np.uint8), affine).header
        header.set_xyzt_units("mm")
    return bytes(header.binaryblock)
