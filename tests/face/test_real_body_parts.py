"""What the starter's body-part model says of real CT, whole and cut: it learned from phantoms."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import clnet
from clnet.hub.segmented import read_scan
from clnet.model.artefact import decode_decoder
from clnet.model.body_part import BodyPartModel, decode_body_part_model
from clnet.model.body_part_curve import BodyPartCurve, Range
from clnet.model.geometry import Spacing, to_canonical
from clnet.model.nnunet.inference import scan_curve
from clnet.model.statistics import State, state_of
from clnet.starter import RELEASE

SCANS = {
    "abdomen": "ts_abdomen_pelvis/example_ct.nii.gz",
    "chest": "pyradiomics_lung1/lung1_image.nrrd",
    "cranium": "invesalius_cranium/cranium_ct.nii.gz",
    "knee": "ibsi_sts_042/CT_image.nii.gz",
}


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[clnet.Hub]:
    with clnet.connect(tmp_path_factory.mktemp("starter")) as hub:
        hub.releases.import_(RELEASE)
        yield hub


@pytest.fixture(scope="module")
def model(starter: clnet.Hub) -> BodyPartModel:
    record = starter.body_parts.get("starter")
    return decode_body_part_model(starter.registry.artefact(record.sha256))


@pytest.fixture(scope="module")
def ranges(starter: clnet.Hub) -> dict[str, Range]:
    decoders = starter.releases.get("starter").decoders
    found = [decode_decoder(starter.registry.artefact(d.sha256))[1].ranges for d in decoders]
    return {name: where for each in found for name, where in each.items()}


@pytest.fixture(scope="module")
def scans(real_data: Path) -> dict[str, tuple[NDArray[np.float32], Spacing]]:
    """HU ``(Z, Y, X)`` and spacing."""
    read = {name: to_canonical(*read_scan(real_data / path)) for name, path in SCANS.items()}
    return {name: (np.asarray(hu, np.float32), spacing) for name, (hu, spacing, _) in read.items()}


def parts(depth: int, size: int) -> list[slice]:
    """Seven parts of `size` slices, from the lowest to the highest."""
    starts = np.linspace(0, depth - size, 7).round().astype(int)
    return [slice(start, start + size) for start in starts]


@pytest.mark.parametrize("name", ["chest", "cranium", "knee"])
@pytest.mark.parametrize("length_mm", [15, 60, 95])
def test_a_short_part_of_a_real_scan_is_never_trusted(
    model: BodyPartModel,
    scans: dict[str, tuple[NDArray[np.float32], Spacing]],
    name: str,
    length_mm: int,
) -> None:
    hu, spacing = scans[name]
    for part in parts(len(hu), round(length_mm / spacing[0])):
        curve = scan_curve(model, hu[part], spacing)
        assert not curve.trusted
        assert not curve.upside_down


def test_a_cranium_is_told_from_one_that_is_upside_down(
    model: BodyPartModel, scans: dict[str, tuple[NDArray[np.float32], Spacing]]
) -> None:
    hu, spacing = scans["cranium"]
    for part in (slice(None), *parts(len(hu), round(120 / spacing[0]))[:4]):
        curve = scan_curve(model, hu[part], spacing)
        assert curve.trusted
        assert not curve.upside_down
        assert curve.span[0] > 0.7
        turned = scan_curve(model, hu[part][::-1], spacing)
        assert turned.upside_down
        assert not turned.trusted


def test_a_knee_and_a_chest_that_phantoms_do_not_resemble_are_not_trusted(
    model: BodyPartModel, scans: dict[str, tuple[NDArray[np.float32], Spacing]]
) -> None:
    for name in ("knee", "chest"):
        hu, spacing = scans[name]
        for part in (slice(None), *parts(len(hu), round(120 / spacing[0]))):
            assert not scan_curve(model, hu[part], spacing).trusted
    hu, spacing = scans["chest"]
    for turned in (hu, hu[::-1]):  # its scores, which fit no body, fall in one of these
        assert not scan_curve(model, turned, spacing).upside_down


def padded(
    model: BodyPartModel, hu: NDArray[np.float32], spacing: Spacing, below: int, above: int
) -> BodyPartCurve:
    air = np.pad(hu, ((below, above), (0, 0), (0, 0)), constant_values=-1024)
    return scan_curve(model, air, spacing)


def test_air_that_pads_a_cranium_does_not_put_the_abdomen_into_view(
    model: BodyPartModel,
    ranges: dict[str, Range],
    scans: dict[str, tuple[NDArray[np.float32], Spacing]],
) -> None:
    hu, spacing = scans["cranium"]
    curve = padded(model, hu, spacing, below=6, above=0)
    assert curve.trusted
    assert not curve.patient[0]
    for anatomy in ("liver", "spleen", "femur_left", "urinary_bladder", "heart"):
        assert state_of(0, ranges[anatomy], curve) is State.OUT_OF_FIELD, anatomy


def test_air_that_pads_an_abdomen_does_not_put_the_head_into_view(
    model: BodyPartModel,
    ranges: dict[str, Range],
    scans: dict[str, tuple[NDArray[np.float32], Spacing]],
) -> None:
    hu, spacing = scans["abdomen"]
    plain, air = padded(model, hu, spacing, 0, 0), padded(model, hu, spacing, 4, 4)
    assert air.trusted
    assert not air.patient[[0, -1]].any()
    for anatomy, where in ranges.items():
        assert state_of(0, where, air) is state_of(0, where, plain), anatomy
    assert state_of(0, ranges["brain"], air) is State.OUT_OF_FIELD
