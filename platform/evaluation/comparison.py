"""One case compared: every anatomy that either side labels, one at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from clnet.errors import CaseRejected
from clnet.platform.evaluation.agreement import agree
from clnet.platform.evaluation.labelled_scan import LabelledScan
from clnet.platform.evaluation.layouts import Labels

__all__ = ["CaseJob", "Row", "compare_case"]

EVERYTHING = ""
"""Stands for the anatomy in the row of a case that cannot be compared at all."""

Finding = Literal["matched", "missed", "false positive", "absent"]


@dataclass(frozen=True, slots=True)
class Row:
    """One anatomy in one case.

    Attributes:
        case: id of the case.
        anatomy: canonical id; empty where the whole case could not be compared.
        reason: why it was not evaluated; empty if it was.
        dsc, nsd: 0 to 1; None if neither side holds the anatomy.
        hd95_mm: None if one side does not hold it.
        reference_ml, predicted_ml: volumes.
    """

    case: str
    anatomy: str
    reason: str = ""
    dsc: float | None = None
    nsd: float | None = None
    hd95_mm: float | None = None
    reference_ml: float | None = None
    predicted_ml: float | None = None

    @property
    def evaluated(self) -> bool:
        """Whether both sides label the anatomy, present or not."""
        return not self.reason

    @property
    def finding(self) -> Finding | None:
        """Who holds the anatomy; None if it was not evaluated."""
        if not self.evaluated:
            return None
        if self.reference_ml:
            return "matched" if self.predicted_ml else "missed"
        return "false positive" if self.predicted_ml else "absent"

    @property
    def volume_error_ml(self) -> float | None:
        """Predicted less reference volume."""
        if self.reference_ml is None or self.predicted_ml is None:
            return None
        return self.predicted_ml - self.reference_ml

    @property
    def volume_error_percent(self) -> float | None:
        """The same, of the reference volume; None if that is 0."""
        error = self.volume_error_ml
        return 100 * error / self.reference_ml if error is not None and self.reference_ml else None


@dataclass(frozen=True, slots=True)
class CaseJob:
    """One case to compare.

    Attributes:
        prediction: None if there is none for this case.
        tolerance_mm: of the NSD.
    """

    case: str
    reference: Labels
    prediction: Labels | None
    tolerance_mm: float


def compare_case(job: CaseJob) -> list[Row]:
    """Compare one case; what cannot be compared becomes a row that says why."""
    if job.prediction is None:
        return [Row(job.case, EVERYTHING, "no prediction for this case")]
    try:
        reference, predicted = job.reference.open(), job.prediction.open()
    except CaseRejected as error:
        return [Row(job.case, EVERYTHING, str(error))]
    if different := reference.grid.difference(predicted.grid):
        return [
            Row(
                job.case,
                EVERYTHING,
                f"the prediction is not on the reference's grid ({different}); "
                "resample it with nearest neighbours",
            )
        ]
    rows = [
        Row(job.case, name, f"{side}: {reason}")
        for side, scan in (("reference", reference), ("prediction", predicted))
        for name, reason in scan.unusable.items()
    ]
    named = reference.names | predicted.names
    for anatomy, members in sorted(named.items()):
        try:
            rows.append(_compare(job, reference, predicted, anatomy, members))
        except CaseRejected as error:  # one damaged mask is not the end of the others
            rows.append(Row(job.case, anatomy, str(error)))
    return rows


def _compare(
    job: CaseJob,
    reference: LabelledScan,
    predicted: LabelledScan,
    anatomy: str,
    members: frozenset[str],
) -> Row:
    lacking = [
        f"the {side} {reason}"
        for side, scan in (("reference", reference), ("prediction", predicted))
        if (reason := scan.lacks(members))
    ]
    if lacking:
        return Row(job.case, anatomy, "; ".join(lacking))
    held, found = reference.draw(members), predicted.draw(members)
    known = slice(
        max(held.slices.start, found.slices.start), min(held.slices.stop, found.slices.stop)
    )
    if known.start >= known.stop:
        return Row(job.case, anatomy, "no slice was drawn on by both sides")
    grid = reference.grid
    result = agree(held.mask[known], found.mask[known], grid.spacing, job.tolerance_mm)
    return Row(
        job.case,
        anatomy,
        dsc=result.dsc,
        nsd=result.nsd,
        hd95_mm=result.hd95_mm,
        reference_ml=result.reference_voxels * grid.voxel_ml,
        predicted_ml=result.predicted_voxels * grid.voxel_ml,
    )
