"""Thousands of tiny scans with labels, contributed as sites do."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from clnet.data_catalog import CaseSource, Terms
from clnet.hub import Hub
from clnet.model.scratch import scratch_folder

__all__ = ["PLAN", "Wanted", "fill", "make_case", "wanted"]

EDGE = 16
SPACING = (20.0, 20.0, 20.0)
"""mm, ``(z, y, x)``: a trunk of 32 cm."""

PLAN: dict[str, Any] = {
    "orientation": "LPS",
    "spacing": list(SPACING),
    "clip": [-995.0, 1265.0],
    "mean": -187.85,
    "std": 490.7,
    "patch_size": [8, 8, 8],
}

MAPPINGS: tuple[dict[int, Any], ...] = (
    {1: "liver", 2: "kidney_right", 3: "kidney_left", 4: "spleen"},
    {1: "liver", 2: {"union": ["kidney_left", "kidney_right"]}, 3: "ignore", 4: "spleen"},
    {1: "liver", 2: "ignore", 3: "ignore", 4: "ignore"},
    {1: "ignore", 2: "ignore", 3: "kidney_left", 4: "spleen"},
    {1: "ignore", 2: "ignore", 3: "ignore", 4: "spleen"},
)
"""What the datasets of a site say that their label ids mean: each knows a part."""

SITES = ("site-a", "site-b", "site-c", "site-d")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A dataset of tiny scans.

    Attributes:
        first: number of its first case, which is the seed of its noise.
    """

    name: str
    mapping: dict[int, Any]
    first: int
    cases: int


def wanted(cases: int, datasets: int) -> list[Wanted]:
    """`cases` split among `datasets`, in turns of the four sites."""
    made, first = [], 0
    for number in range(datasets):
        share = cases // datasets + (number < cases % datasets)
        name = f"{SITES[number % len(SITES)]}/scans-{number:02d}"
        mapping = MAPPINGS[number // len(SITES) % len(MAPPINGS)]
        made.append(Wanted(name, mapping, first, share))
        first += share
    return made


def make_case(seed: int) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """HU and label ids of a trunk with four organs, ``(16, 16, 16)``, other noise for each seed."""
    random = np.random.default_rng(seed)
    _, y, x = np.ogrid[:EDGE, :EDGE, :EDGE]
    ids = np.zeros((EDGE, EDGE, EDGE), np.uint8)
    ids[7:12, 4:9, 3:7] = 1  # the right of the patient is where x is low
    ids[4:7, 9:11, 4:6] = 2
    ids[4:7, 9:11, 10:12] = 3
    ids[9:12, 8:11, 11:13] = 4
    inside = (y - 7.5) ** 2 / 36 + (x - 7.5) ** 2 / 49 < 1
    hu = np.where(inside, 40 + 15 * ids, -1000) + random.normal(0, 12, ids.shape)
    return hu.round().astype(np.int16), ids


def fill(
    hub: Hub, datasets: list[Wanted], tell: Callable[[int, str], None] = lambda done, text: None
) -> int:
    """Contribute and plan what is not there yet; returns how many cases were contributed.

    Args:
        tell: told how many cases were finished just now, and of what.
    """
    stored = {dataset.name: dataset for dataset in hub.datasets.list()}
    made = 0
    for one in datasets:
        dataset = stored.get(one.name)
        if dataset is None:
            with tempfile.TemporaryDirectory(dir=scratch_folder()) as folder:
                dataset = hub.datasets.contribute(
                    one.name,
                    list(_files(Path(folder), one)),
                    one.mapping,
                    Terms(licence="CC0-1.0"),
                    lambda fraction, case: tell(1, f"contributing {case}"),
                )
            made += one.cases
        else:
            tell(one.cases, one.name)
        if len(dataset) != one.cases:
            raise SystemExit(
                f"{dataset.ref} has {len(dataset)} cases, not {one.cases}: the workspace is of "
                "another run; give it another folder"
            )
        hub.catalog.plan_store(dataset, PLAN, lambda fraction, case: tell(0, f"planning {case}"))
    return made


def _files(folder: Path, one: Wanted) -> Iterator[CaseSource]:
    z, y, x = SPACING
    affine = np.diag([-x, -y, z, 1.0])
    for number in range(one.first, one.first + one.cases):
        ct, ids = make_case(number)
        paths = folder / f"{number:06d}.nii", folder / f"{number:06d}-labels.nii"
        for path, voxels in zip(paths, (ct, ids), strict=True):
            nib.save(nib.Nifti1Image(voxels.transpose(2, 1, 0), affine), path)
        yield CaseSource(f"case-{number:06d}", *paths)
