"""Plan stores of imported networks: the network's own axis order, slices found again along it."""

from __future__ import annotations

import pickle
from pathlib import Path

import nibabel
import numpy as np
import pytest

from clnet.data_catalog import CaseSource, Catalog, DatasetPin, PatchStream, StreamSpec, Terms
from clnet.errors import Incompatible
from clnet.model.decoder import Channel
from clnet.model.nnunet.plan import NnunetPlan
from clnet.model.preparers import PREPARERS
from clnet.model.supervision import supervise

SHAPE = (10, 12, 14)  # posterior, superior, left: stored as PSL
AFFINE = np.array([[0, 0, -2.0, 0], [-2.0, 0, 0, 0], [0, 3.0, 0, 0], [0, 0, 0, 1]])
PLAN = NnunetPlan(
    spacing=(2.0, 3.0, 2.0), patch_size=(8, 8, 8), clip=(-200.0, 300.0), mean=10.0, std=50.0
)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """Two cases in which the liver grows towards the head, contoured up to slice 5 only."""
    sources = []
    for index in range(2):
        ct = np.random.default_rng(index).integers(-150, 200, SHAPE).astype(np.int16)
        labels = np.zeros(SHAPE, np.uint8)
        labels[:6, 3:6, 2:9] = 1
        image, mask = tmp_path / f"{index}.nii.gz", tmp_path / f"{index}-seg.nii.gz"
        nibabel.save(nibabel.Nifti1Image(ct, AFFINE), image)
        nibabel.save(nibabel.Nifti1Image(labels, AFFINE), mask)
        sources.append(CaseSource(f"case-{index}", image, mask))
    catalog = Catalog(tmp_path / "datasets", preparers=PREPARERS)
    mapping = {1: {"anatomy": "liver", "within": "auto"}}
    catalog.contribute("site/psl", sources, mapping, Terms(licence="CC0-1.0"))
    return catalog


def test_cases_are_kept_as_the_network_sees_them(catalog: Catalog) -> None:
    store = catalog.plan_store(catalog.get("site/psl"), PLAN.to_dict())
    case = store.open("case-0")
    # files are read as (x, y, z), networks see (z, y, x): left, superior, posterior
    stored = nibabel.load(catalog.root.parent / "0.nii.gz")
    expected = (np.asarray(stored.dataobj).transpose(2, 1, 0) - 10.0) / 50
    np.testing.assert_allclose(case.image, expected, atol=2e-3)
    assert case.z_axis == 1
    assert (case.z_origin, case.z_step) == (0.0, 3.0)
    assert (np.asarray(case.labels["organ"]).any(axis=(0, 2)).nonzero()[0] == [3, 4, 5]).all()
    assert store.air == 0.0


def test_patches_know_where_their_slices_are(catalog: Catalog) -> None:
    dataset = catalog.get("site/psl")
    store = catalog.plan_store(dataset, PLAN.to_dict())
    spec = StreamSpec(
        datasets=(DatasetPin(ref=dataset.ref, sha256=dataset.sha256),),
        plan_sha256=store.plan_sha256,
        patch_size=(8, 8, 8),
        batch_size=2,
        foreground=(1.0, 1.0),
        total=4,
    )
    stream = pickle.loads(pickle.dumps(PatchStream([store], spec)))
    for patch in (patch for t in range(4) for patch in stream.patches(t)):
        assert patch.z_axis == 1
        known = (patch.z_mm >= 9.0) & (patch.z_mm <= 15.0)
        assert not patch.labels["organ"][:, ~known].any()
        supervision = supervise([patch], "organ", [Channel("liver", ("liver",))])
        # beyond its extent nothing is known, so every channel is allowed
        assert supervision.allowed[0, :, :, ~known].all()
        assert not supervision.allowed[0, :, :, known].all(dim=0).any()


def test_an_unknown_kind_of_plan_is_refused(catalog: Catalog) -> None:
    with pytest.raises(Incompatible, match="of kind 'other'"):
        catalog.plan_store(catalog.get("site/psl"), PLAN.to_dict() | {"kind": "other"})
    bare = Catalog(catalog.root)
    with pytest.raises(Incompatible, match="nnunet"):
        bare.plan_store(bare.get("site/psl"), PLAN.to_dict())
