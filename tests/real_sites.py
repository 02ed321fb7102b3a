"""Two openly licensed CT scans as six sites would contribute them, read without the catalog."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from clnet.anatomy import default_stratification, vocabulary
from clnet.data_catalog import CaseSource, Terms

TERMS = Terms(licence="Apache-2.0", attribution="TotalSegmentator test data")
CIP_TERMS = Terms(
    licence="LicenseRef-CIP-BSD-style",
    attribution="Chest Imaging Platform",
    obligations=frozenset(),
)

ABDOMEN, CHEST = "abdomen", "chest"
"""Ids of the two cases."""

# layer of the anatomies that each site labels; the abdomen is the same scan at all five
LAYER_OF = {
    "north/organs": "organ",
    "south/digestion": "organ",
    "harbour/vessels": "vessel",
    "east/bones": "bone",
    "west/muscles": "muscle",
}
DIGESTION = ("abdomen/stomach", "abdomen/gallbladder", "abdomen/bowel")
"""Groups that the site in the south labels, and the one in the north does not."""

CHEST_SITE = "valley/chest"

# Chest Imaging Platform: id = region + 256 * type; type 2 is airway, which belongs to no lung
LEFT_THIRDS, RIGHT_THIRDS, AIRWAY = (9, 10, 11), (12, 13, 14), 2


@dataclass(frozen=True)
class Site:
    """What one site labels, and where.

    Attributes:
        labels: id in the label file to canonical anatomy; several ids may mean one.
        ignored: ids that mean nothing to the site.
    """

    case: CaseSource
    terms: Terms
    labels: dict[int, str]
    ignored: tuple[int, ...]

    @property
    def mapping(self) -> dict[str, str | None]:
        """As the site writes it."""
        return {str(i): name for i, name in self.labels.items()} | {
            str(i): None for i in self.ignored
        }

    def ids(self, anatomy: str) -> list[int]:
        """Ids in the label file that mean `anatomy`."""
        return [i for i, name in self.labels.items() if name == anatomy]


def sites(folder: Path) -> dict[str, Site]:
    """Name of each site's dataset to what it has."""
    made = {name: _abdomen(folder, name) for name in LAYER_OF}
    return made | {CHEST_SITE: _chest(folder)}


def _abdomen(folder: Path, site: str) -> Site:
    home = folder / "ts_abdomen_pelvis"
    case = CaseSource(
        ABDOMEN, home / "example_ct.nii.gz", home / "example_seg_fast_force_split.nii.gz"
    )
    known = vocabulary()
    names = json.loads((home / "total_class_map.json").read_text(encoding="utf-8"))
    meant = {int(i): known.resolve(name) for i, name in names.items()}
    digestion = {a for group in DIGESTION for a in default_stratification()[group].anatomies}
    labels = {
        i: anatomy
        for i, anatomy in meant.items()
        if known[known.leaves(anatomy)[0]].layer == LAYER_OF[site]
        and (anatomy in digestion) == (site == "south/digestion")
    }
    return Site(case, TERMS, labels, tuple(sorted(set(meant) - set(labels))))


def _chest(folder: Path) -> Site:
    home = folder / "cip_chest64"
    case = CaseSource(CHEST, home / "ct-64.nrrd", home / "lm-64.nrrd")
    labels, ignored = {}, []
    for value in map(int, np.unique(read(case.labels))):
        kind, region = divmod(value, 256)
        if kind != AIRWAY and region in LEFT_THIRDS:
            labels[value] = "lung_left"
        elif kind != AIRWAY and region in RIGHT_THIRDS:
            labels[value] = "lung_right"
        elif value:
            ignored.append(value)
    return Site(case, CIP_TERMS, labels, tuple(ignored))


def read(path: Any) -> NDArray[Any]:
    """Voxels of a file in LPS, ``(z, y, x)``, by the readers that its users have."""
    if path.name.endswith(".nrrd"):
        return np.asarray(sitk.GetArrayFromImage(sitk.ReadImage(str(path))))
    lps = nib.orientations.axcodes2ornt("LPS")
    image = nib.load(path)
    turned = image.as_reoriented(
        nib.orientations.ornt_transform(nib.io_orientation(image.affine), lps)
    )
    return np.asanyarray(turned.dataobj).transpose(2, 1, 0)


def dsc(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Dice score of two masks."""
    return 2 * int((found & truth).sum()) / (int(found.sum()) + int(truth.sum()))
