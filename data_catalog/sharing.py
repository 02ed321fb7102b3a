"""Equal cases of different datasets share their bytes; who withdraws takes only its own share.

Cases are shared by hard links, so the file system counts who still needs them: bytes go when
the last version that holds them is erased, and a crash can never leave a wrong count.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from clnet.data_catalog.case import Case
from clnet.data_catalog.dataset import Dataset, case_folder
from clnet.data_catalog.manifest import CaseRecord
from clnet.data_catalog.staging import link_or_copy
from clnet.errors import IntegrityError

__all__ = ["holders_of", "share_cases"]


def holders_of(datasets: Iterable[Dataset]) -> dict[str, Path]:
    """Where some version keeps each case, by the hash of its content."""
    return {
        record.sha256: case_folder(dataset.folder, record.id)
        for dataset in datasets
        if not dataset.erased
        for record in dataset.manifest.cases
    }


def share_cases(version: Path, records: Iterable[CaseRecord], holders: Mapping[str, Path]) -> None:
    """Put links in the place of the cases of an unfinished version that are stored elsewhere.

    Every voxel is compared with its hash first: damage at one site must not spread to another.
    """
    for record in records:
        holder = holders.get(record.sha256)
        if holder is None:
            continue
        own = case_folder(version, record.id)
        linked = own.with_name(f"{own.name}.shared")
        try:
            shutil.copytree(holder, linked, copy_function=link_or_copy)
            Case(record, linked).verify()
        except (OSError, shutil.Error, IntegrityError):  # damaged, or erased just now
            shutil.rmtree(linked, ignore_errors=True)
            continue
        shutil.rmtree(own)
        linked.rename(own)
