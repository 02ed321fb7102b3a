"""One case under judgement: its content, and what several checks want to know of its labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clnet.data_catalog.case import CaseContent
from clnet.data_catalog.validation.findings import Finding, finding

__all__ = ["Region", "Subject"]

SAMPLES = 96
"""Voxels looked at along each axis where a sample will do: sums stay small on any scan."""


@dataclass(frozen=True, slots=True)
class Region:
    """Where a label is, and how dense.

    Attributes:
        layer: its layer.
        voxels: all of them.
        centroid: mm along (z, y, x) of the canonical grid, from voxel 0; from a sample.
        hu: mean, from the same sample.
    """

    layer: str
    voxels: int
    centroid: tuple[float, float, float]
    hu: float


@dataclass(frozen=True)
class Subject:
    """A case that could be read, and is now looked at.

    Attributes:
        case: its id.
        content: what would be stored.
        image_file: the CT, for messages.
        label_files: the label map (key ``""``) or a mask per mapping key.
    """

    case: str
    content: CaseContent
    image_file: str
    label_files: Mapping[str, str] = field(default_factory=dict)

    @property
    def labels_file(self) -> str:
        """The label map, or the folder of the masks."""
        if "" in self.label_files:
            return self.label_files[""]
        folders = {str(Path(file).parent) for file in self.label_files.values()}
        return folders.pop() if len(folders) == 1 else self.image_file

    def about_image(self, code: str, explanation: str) -> Finding:
        """A finding about the CT."""
        return finding(code, self.image_file, self.case, explanation)

    def about_labels(self, code: str, explanation: str) -> Finding:
        """A finding about the labels."""
        return finding(code, self.labels_file, self.case, explanation)

    @cached_property
    def steps(self) -> tuple[slice, slice, slice]:
        """Picks the sample: at most about :data:`SAMPLES` voxels per axis."""
        z, y, x = (slice(None, None, max(1, n // SAMPLES)) for n in self.content.ct.shape)
        return z, y, x

    @cached_property
    def sample(self) -> NDArray[np.int16]:
        """The CT at the sample, ``(z, y, x)``."""
        return self.content.ct[self.steps]

    @cached_property
    def counts(self) -> dict[str, int]:
        """Voxels of every label by name, 0 for one that is known and not there."""
        found: dict[str, int] = {}
        for layer, grid in self.content.labels.items():
            total = np.zeros(256, np.int64)
            for plane in grid:
                total += np.bincount(plane.reshape(-1), minlength=256)
            for entry in self.content.contract.for_layer(layer):
                found[entry.name] = found.get(entry.name, 0) + int(total[entry.value])
        return found

    @cached_property
    def regions(self) -> dict[str, Region]:
        """Every label with a voxel in the sample, by name."""
        found: dict[str, Region] = {}
        step = np.array([s.step or 1 for s in self.steps]) * np.array(self.content.spacing)
        for layer, grid in self.content.labels.items():
            codes = grid[self.steps]
            voxels = np.nonzero(codes)
            values = codes[voxels]
            n = np.bincount(values, minlength=256)
            axes = [np.bincount(values, weights=axis, minlength=256) for axis in voxels]
            hu = np.bincount(values, weights=self.sample[voxels], minlength=256)
            for entry in self.content.contract.for_layer(layer):
                count = int(n[entry.value])
                if count:
                    z, y, x = (
                        float(a[entry.value]) / count * s for a, s in zip(axes, step, strict=True)
                    )
                    found[entry.name] = Region(
                        layer, self.counts[entry.name], (z, y, x), float(hu[entry.value]) / count
                    )
        return found
