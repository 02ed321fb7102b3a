"""Held-out phantoms, and how well networks do on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from clnet.anatomy.phantom import Phantom, render
from clnet.decoders_registry import DecoderRecord, Registry
from clnet.model.artefact import decode_decoder
from clnet.model.segmentation import SegmentationModel
from clnet.phantom_cases import to_nibabel
from clnet.platform.baseline import NaiveBayesBaseline
from clnet.platform.evaluation import LabelMaps, Score, score

__all__ = [
    "HeldOutScan",
    "baseline_scores",
    "channels_of",
    "dense_model",
    "held_out_scans",
    "scores_of",
]


@dataclass(frozen=True)
class HeldOutScan:
    """A phantom that nothing learned from, as a scanner would store it.

    Attributes:
        phantom: image and truth, canonical.
        orientation: axis codes of the stored scan.
    """

    phantom: Phantom
    orientation: str

    @property
    def name(self) -> str:
        """Of its files."""
        return f"phantom-{self.phantom.seed}"

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel."""
        return float(np.prod(self.phantom.spacing)) / 1000

    @cached_property
    def image(self) -> nib.Nifti1Image:
        """The scan in its own orientation."""
        return self._stored(self.phantom.ct)

    @cached_property
    def truth(self) -> LabelMaps:
        """What is there, on the stored scan's grid."""
        labels = {
            layer: np.asarray(self._stored(grid).dataobj)
            for layer, grid in self.phantom.labels.items()
        }
        return LabelMaps(labels, self.phantom.names)

    def write(self, folder: Path) -> Path:
        """The scan as a NIfTI file."""
        path = folder / f"{self.name}.nii.gz"
        nib.save(self.image, path)
        return path

    def _stored(self, zyx: NDArray[Any]) -> nib.Nifti1Image:
        image = nib.Nifti1Image(to_nibabel(zyx), self.phantom.affine)
        turn = nib.orientations.ornt_transform(
            nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(self.orientation)
        )
        stored: nib.Nifti1Image = image.as_reoriented(turn)
        return stored


def held_out_scans(
    first_seed: int,
    count: int,
    field_of_view: str | None,
    spacing: tuple[float, float, float],
    orientations: Sequence[str],
) -> Iterator[HeldOutScan]:
    """Held-out scans, one after another, in the given orientations in turn."""
    for index in range(count):
        phantom = render(first_seed + index, spacing=spacing, field_of_view=field_of_view)
        yield HeldOutScan(phantom, orientations[index % len(orientations)])


def scores_of(
    model: SegmentationModel, scan: HeldOutScan, anatomies: Sequence[str]
) -> dict[str, Score]:
    """How well `model` finds `anatomies` in a scan."""
    found = model.segment(np.asarray(scan.image.dataobj), scan.image.affine, anatomies)
    return score(LabelMaps(found.labels, found.names), scan.truth, anatomies, scan.voxel_ml)


def channels_of(records: Sequence[DecoderRecord]) -> list[str]:
    """Names of everything that decoders segment."""
    return [channel["name"] for record in records for channel in record.config["channels"]]


def dense_model(
    registry: Registry, model: SegmentationModel, dense: Mapping[str, DecoderRecord]
) -> SegmentationModel:
    """`model` with the dense versions of the groups in `dense`, by group."""
    decoders = []
    for decoder in model.decoders:
        record = dense.get(decoder.ref.partition("@")[0])
        if record is not None and decoder.served:
            network, info = decode_decoder(registry.artefact(record.sha256))
            decoder = replace(decoder, decoder=network, info=info)
        decoders.append(decoder)
    return replace(model, decoders=decoders)


def baseline_scores(
    training: Sequence[Phantom], scans: Sequence[HeldOutScan], anatomies: Sequence[str]
) -> list[dict[str, Score]]:
    """How well HU and mean position alone find `anatomies`, per scan."""
    baseline = NaiveBayesBaseline().fit((p.ct, p.labels, p.names, p.height) for p in training)
    found = []
    for scan in scans:
        phantom = scan.phantom
        predicted = LabelMaps(baseline.predict(phantom.ct, phantom.height), baseline.names)
        truth = LabelMaps(phantom.labels, phantom.names)
        found.append(score(predicted, truth, anatomies, scan.voxel_ml))
    return found
