"""What only shows when cases are seen together: duplicates and odd voxel sizes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict

from clnet.data_catalog.manifest import CaseRecord
from clnet.data_catalog.validation.findings import Finding, finding

__all__ = ["CrossSiteDuplicate", "KnownScan", "check_together", "cross_site"]

ENOUGH = 5
"""Cases from which on a dataset has a usual voxel size."""

FACTOR = 3.0
"""How many times more or less than the median is odd."""


@dataclass(frozen=True, slots=True)
class KnownScan:
    """A scan that the catalog has already.

    Attributes:
        dataset: ``site/name@version``.
        case: its id there.
    """

    dataset: str
    case: str

    @property
    def site(self) -> str:
        """The site that contributed it."""
        return self.dataset.partition("/")[0]


class CrossSiteDuplicate(BaseModel):
    """A scan that two sites contributed: its patient was in both. For hub admins only."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    case: str
    elsewhere: str
    elsewhere_case: str


def check_together(
    site: str, cases: Sequence[tuple[CaseRecord, str]], known: Mapping[str, Sequence[KnownScan]]
) -> Iterator[Finding]:
    """Findings about cases of one contribution, seen together.

    Nothing about other sites is said here: it would reveal that a patient was elsewhere.

    Args:
        cases: manifest lines of what will be stored, and their image files.
        known: scans of other datasets by the hash of their voxels.
    """
    yield from _duplicates(cases)
    for record, file in cases:
        here = [k for k in known.get(record.arrays["ct"], ()) if k.site == site]
        if here:
            places = ", ".join(sorted({f"{k.dataset} ({k.case})" for k in here})[:3])
            yield finding("duplicate.catalog", file, record.id, f"the same voxels as {places}")
    yield from _odd_spacing(cases)


def cross_site(
    site: str, cases: Iterable[CaseRecord], known: Mapping[str, Sequence[KnownScan]]
) -> list[CrossSiteDuplicate]:
    """Scans that another site has too."""
    return [
        CrossSiteDuplicate(case=record.id, elsewhere=k.dataset, elsewhere_case=k.case)
        for record in cases
        for k in known.get(record.arrays["ct"], ())
        if k.site != site
    ]


def _duplicates(cases: Sequence[tuple[CaseRecord, str]]) -> Iterator[Finding]:
    first: dict[str, CaseRecord] = {}
    for record, file in cases:
        other = first.setdefault(record.arrays["ct"], record)
        if other is record:
            continue
        code = "duplicate.case" if other.arrays == record.arrays else "duplicate.scan"
        yield finding(code, file, record.id, f"the same voxels as case {other.id}")


def _odd_spacing(cases: Sequence[tuple[CaseRecord, str]]) -> Iterator[Finding]:
    if len(cases) < ENOUGH:
        return
    median = np.median([record.spacing for record, _ in cases], axis=0)
    for record, file in cases:
        ratio = np.array(record.spacing) / median
        if ratio.max() > FACTOR or ratio.min() < 1 / FACTOR:
            own = " x ".join(f"{size:.3g}" for size in record.spacing)
            usual = " x ".join(f"{size:.3g}" for size in median)
            yield finding(
                "spacing.outlier", file, record.id, f"{own} mm (z, y, x), {usual} mm is usual here"
            )
