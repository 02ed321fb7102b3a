"""Scans that a site withdrew: they do not come back unless somebody says so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from clnet.data_catalog.dataset import Dataset

__all__ = ["WithdrawnScan", "withdrawn_scans"]


@dataclass(frozen=True, slots=True)
class WithdrawnScan:
    """A scan that only withdrawn versions hold.

    Attributes:
        dataset: ``site/name@version``, the newest that held it.
        case: its id there.
        reason: why the version was withdrawn.
    """

    dataset: str
    case: str
    reason: str

    def __str__(self) -> str:
        return f"{self.case} of {self.dataset}, withdrawn: {self.reason}"


def withdrawn_scans(
    datasets: Iterable[Dataset], reasons: Mapping[str, str]
) -> dict[str, WithdrawnScan]:
    """Scans that were withdrawn, by the hash of their voxels.

    A scan that another version still holds in good standing is not among them: withdrawing a
    version that a better one replaced says nothing about its scans.

    Args:
        datasets: all of one site, erased ones too.
        reasons: why versions were withdrawn, by ref.
    """
    gone: dict[str, WithdrawnScan] = {}
    standing: set[str] = set()
    for dataset in datasets:
        reason = reasons.get(dataset.ref)
        for record in dataset.manifest.cases:
            if reason is None:
                standing.add(record.arrays["ct"])
            else:
                gone[record.arrays["ct"]] = WithdrawnScan(dataset.ref, record.id, reason)
    return {scan: found for scan, found in gone.items() if scan not in standing}
