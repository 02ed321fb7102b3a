"""A stored case is an OME-Zarr image: other programs open it where it lies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
from ome_zarr_models import open_ome_zarr
from tiny_scans import MAPPING, SPACING, TERMS, case, lps_affine, organs, scan

from clnet.anatomy.vocabulary import vocabulary
from clnet.data_catalog import Case, Catalog


@pytest.fixture
def stored(catalog: Catalog, source: Path) -> Case:
    return catalog.contribute("s/d", [case(source, "c1", seed=7)], MAPPING, TERMS).case("c1")


def test_a_viewer_finds_image_and_labels(stored: Case) -> None:
    location = parse_url(stored.folder)
    assert location is not None
    nodes = {Path(node.zarr.path).name: node for node in Reader(location)()}
    assert nodes.keys() == {stored.folder.name, "labels", "organ"}
    (ct,) = nodes[stored.folder.name].data
    (labels,) = nodes["organ"].data
    np.testing.assert_array_equal(np.asarray(ct), scan(7))
    np.testing.assert_array_equal(np.asarray(labels), organs())
    colour = bytes.fromhex(vocabulary()["liver"].colour.removeprefix("#"))
    shown = nodes["organ"].metadata["color"]
    np.testing.assert_allclose(shown[1], [*(part / 255 for part in colour), 1.0])


def test_the_metadata_is_that_of_the_specification(stored: Case) -> None:
    image = open_ome_zarr(zarr.open_group(stored.folder, mode="r"))
    (multiscale,) = image.attributes.ome.multiscales
    assert [(axis.name, axis.type, axis.unit) for axis in multiscale.axes] == [
        (name, "space", "millimeter") for name in "zyx"
    ]
    scale, translation = multiscale.datasets[0].coordinateTransformations
    assert scale.scale == pytest.approx(list(SPACING))
    x, y, z = lps_affine()[:3, 3]
    assert translation.translation == pytest.approx([z, -y, -x])
    label = open_ome_zarr(zarr.open_group(stored.folder, mode="r", path="labels/organ"))
    told = label.attributes.ome.image_label
    names = {p.label_value: p.model_extra["anatomy"] for p in told.properties}
    assert names == {1: "liver", 2: "spleen", 255: "unknown"}


def test_a_store_of_plain_label_arrays_is_still_read(stored: Case) -> None:
    group = zarr.open_group(stored.folder, mode="r+")
    voxels = stored.labels("organ")
    del group["labels"]
    group.create_array("labels/organ", data=voxels)
    again = Case(stored.record, stored.folder)
    np.testing.assert_array_equal(again.labels("organ"), voxels)
    again.verify()
