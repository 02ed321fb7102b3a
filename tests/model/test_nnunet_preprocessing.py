"""Preparation and the way back, against nnU-Net's own functions."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from clnet.errors import Cancelled, InputError
from clnet.model.body_part import BodyPartConfig, BodyPartModel, build_body_part_network
from clnet.model.geometry import canonical_view, orientation_from, orientation_of, to_canonical
from clnet.model.inference import SlidingWindow
from clnet.model.nnunet.inference import scan_curve
from clnet.model.nnunet.intensities import without_holes
from clnet.model.nnunet.plan import SCHEMES, NnunetPlan
from clnet.model.nnunet.preprocessing import Prepared, prepare
from clnet.model.nnunet.resampling import resample_spline
from clnet.model.scratch import Scratch
from clnet.model.watch import Watch

SPACING = (3.0, 2.0, 2.0)


def plan(**changes: object) -> NnunetPlan:
    values: dict[str, object] = {
        "spacing": SPACING,
        "patch_size": (8, 8, 8),
        "clip": (-100.0, 200.0),
        "mean": 40.0,
        "std": 50.0,
    }
    return NnunetPlan(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shape", "target", "alone"),
    [
        ((9, 11, 13), (14, 8, 13), None),
        ((9, 11, 13), (5, 20, 9), 0),
        ((9, 11, 13), (9, 20, 9), 0),
        ((9, 11, 13), (12, 7, 26), 2),
        ((1, 11, 13), (1, 5, 7), None),
    ],
)
def test_images_are_resampled_as_nnunet_does(
    shape: tuple[int, int, int], target: tuple[int, int, int], alone: int | None
) -> None:
    reference = pytest.importorskip("skimage.transform")
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    found = resample_spline(image, target, 3, alone, 0)
    kwargs = {"mode": "edge", "anti_aliasing": False}
    if alone is None:
        expected = reference.resize(image.astype(float), target, 3, **kwargs)
    else:
        flat = np.moveaxis(image.astype(float), alone, 0)
        plane = tuple(s for axis, s in enumerate(target) if axis != alone)
        planes = np.stack([reference.resize(p, plane, 3, **kwargs) for p in flat])
        own, new = shape[alone], target[alone]
        rows = np.floor((np.arange(new) + 0.5) * own / new).astype(int)
        expected = np.moveaxis(planes[np.clip(rows, 0, own - 1)], 0, alone)
    np.testing.assert_allclose(found, expected, atol=2e-5)


@settings(max_examples=30, deadline=None)
@given(
    codes=st.permutations(["LR", "PA", "SI"]),
    signs=st.tuples(*[st.booleans()] * 3),
    transpose=st.permutations([0, 1, 2]),
)
def test_the_network_sees_the_scan_as_its_reader_would(
    codes: list[str], signs: tuple[bool, ...], transpose: list[int]
) -> None:
    axcodes = "".join(pair[sign] for pair, sign in zip(codes, signs, strict=True))
    shape = (4, 5, 6)
    affine = np.eye(4)
    for axis, code in enumerate(axcodes):
        affine[:3, axis] = np.where(np.arange(3) == "LPI".find(code), -1, 0)
        affine[:3, axis] += np.where(np.arange(3) == "RAS".find(code), 1, 0)
    assert "".join(nibabel.aff2axcodes(affine)) == axcodes
    stored = np.random.default_rng(1).integers(-90, 190, shape).astype(np.int16)
    canonical, spacing, orientation = to_canonical(stored, affine)
    assert orientation == orientation_of(affine) == orientation_from(axcodes)
    own = plan(spacing=(1.0, 1.0, 1.0), transpose=tuple(transpose))
    prepared = prepare(canonical, spacing, orientation, own, Scratch())
    expected = (stored.transpose(2, 1, 0).transpose(transpose).astype(np.float32) - 40) / 50
    np.testing.assert_allclose(prepared.image, expected, rtol=1e-6)
    np.testing.assert_array_equal(
        prepared.canonical, canonical_view(prepared.image, prepared.frame)
    )
    window = SlidingWindow(frame=prepared.frame)
    patch = torch.from_numpy(np.ascontiguousarray(prepared.canonical))[None, None]
    np.testing.assert_array_equal(window.seen(patch)[0, 0], prepared.image)
    assert torch.equal(window.unseen(window.seen(patch)), patch)
    assert window.canonical(prepared.image.shape) == prepared.canonical.shape
    for matrix, size in zip(prepared.back, canonical.shape, strict=True):
        np.testing.assert_array_equal(matrix.toarray(), np.eye(size))


def test_a_fixed_orientation_turns_every_scan() -> None:
    shape = (4, 5, 6)
    ras = np.random.default_rng(2).integers(1, 100, shape).astype(np.int16)
    own = plan(spacing=(1.0, 1.0, 1.0), orientation="RAS")
    image = nibabel.Nifti1Image(ras, np.eye(4))
    turned = image.as_reoriented(
        nibabel.orientations.ornt_transform(
            nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt("PIR")
        )
    )
    seen = []
    for scan in (image, turned):
        canonical, spacing, orientation = to_canonical(np.asarray(scan.dataobj), scan.affine)
        seen.append(prepare(canonical, spacing, orientation, own, Scratch()).image)
    np.testing.assert_array_equal(seen[0], seen[1])
    np.testing.assert_allclose(seen[0], (ras.transpose(2, 1, 0) - 40.0) / 50, rtol=1e-6)


def test_what_is_zero_around_the_scan_is_cropped_and_stays_background() -> None:
    ct = np.zeros((10, 12, 14), np.int16)
    ct[2:8, 3:11, 1:12] = 100
    ct[4, 5, 6] = 0  # enclosed
    prepared = prepare(ct, SPACING, orientation_from("LPS"), plan(), Scratch())
    assert prepared.box == (slice(2, 8), slice(3, 11), slice(1, 12))
    assert prepared.image.shape == (6, 8, 11)
    z = prepared.back[0].toarray()
    np.testing.assert_array_equal(z[2:8], np.eye(6))
    assert not z[:2].any()
    assert not z[8:].any()


@pytest.mark.parametrize("masked", [False, True])
def test_z_scores_are_of_the_scan_itself(masked: bool) -> None:
    ct = np.random.default_rng(3).integers(1, 100, (6, 7, 8)).astype(np.int16)
    ct[0, 0, :3] = 0
    own = plan(scheme="ZScoreNormalization", masked=masked)
    image = prepare(ct, SPACING, orientation_from("LPS"), own, Scratch()).image
    values = ct[ct != 0] if masked else ct
    expected = (ct - values.mean()) / values.std()
    if masked:
        expected[ct == 0] = 0
    np.testing.assert_allclose(image, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("spacing", "target", "axis"),
    [
        ((5.0, 0.7, 0.7), (3.0, 2.0, 2.0), 0),
        ((2.0, 2.0, 2.0), (1.0, 1.0, 4.0), 2),
        ((2.0, 2.0, 2.0), (3.0, 2.0, 2.0), None),
        ((0.5, 2.0, 2.0), (1.0, 1.0, 1.0), None),
    ],
)
def test_planes_far_apart_are_resampled_on_their_own(
    spacing: tuple[float, float, float],
    target: tuple[float, float, float],
    axis: int | None,
) -> None:
    assert plan(spacing=target).separate_axis(spacing) == axis
    assert plan(spacing=target, separate_z=False).separate_axis(spacing) is None


def test_logits_go_back_along_an_axis_of_their_own() -> None:
    coronal, own = (3.0, 12.0, 3.0), plan(spacing=(12.0, 3.5, 3.5))
    assert (own.separate_axis(coronal), own.separate_axis_back(coronal)) == (1, 0)
    forced = plan(spacing=(12.0, 3.5, 3.5), separate_z=True)
    assert forced.separate_axis((2.0, 2.0, 2.0)) is None
    assert forced.separate_axis_back((2.0, 2.0, 2.0)) == 0
    ct = np.random.default_rng(8).integers(1, 100, (24, 6, 14)).astype(np.int16)
    prepared = prepare(ct, coronal, orientation_from("LPS"), own, Scratch())
    nearest = [bool(np.isin(matrix.toarray(), (0, 1)).all()) for matrix in prepared.back]
    assert nearest == [True, False, False]


plans = st.builds(
    plan,
    spacing=st.tuples(*[st.floats(1.0, 6.0)] * 3),
    transpose=st.permutations([0, 1, 2]).map(tuple),
    scheme=st.sampled_from(SCHEMES),
    masked=st.booleans(),
    order_z=st.integers(0, 1),
    separate_z=st.sampled_from([None, True, False]),
)


@settings(max_examples=40, deadline=None)
@given(own=plans, shape=st.tuples(*[st.integers(2, 24)] * 3), seed=st.integers(0, 99))
def test_slabs_do_not_show_in_what_the_network_sees(
    own: NnunetPlan, shape: tuple[int, int, int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    ct = rng.integers(-900, 900, shape).astype(np.int16)
    ct[rng.random(shape) < 0.6] = 0

    def prepared() -> Prepared:
        return prepare(ct, SPACING, orientation_from("PSR"), own, Scratch())

    whole = prepared()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clnet.model.scratch.SLAB_VALUES", 50)
        parts = prepared()
    assert parts.box == whole.box
    tolerance = 1e-6 * max(1.0, float(np.abs(whole.image).max()))
    np.testing.assert_allclose(parts.image, whole.image, atol=tolerance, rtol=0)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 12)] * 3),
    held=st.floats(0.3, 0.9),
    seed=st.integers(0, 99),
    slab=st.integers(1, 200),
)
def test_holes_are_found_slab_by_slab(
    shape: tuple[int, int, int], held: float, seed: int, slab: int
) -> None:
    mask = np.random.default_rng(seed).random(shape) < held
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clnet.model.scratch.SLAB_VALUES", slab)
        found = without_holes(mask.astype(np.float32))
    np.testing.assert_array_equal(found, ndimage.binary_fill_holes(mask))


def test_z_scores_are_numpys_to_the_bit() -> None:
    hu = np.random.default_rng(5).normal(40, 300, (31, 64, 65)).astype(np.float32)
    found = plan(scheme="ZScoreNormalization").normalise(hu)
    np.testing.assert_array_equal(found, (hu - hu.mean()) / hu.std())


def test_preparation_is_cancelled_between_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clnet.model.scratch.SLAB_VALUES", 500)
    ct = np.random.default_rng(6).integers(1, 100, (12, 14, 16)).astype(np.int16)
    steps = []

    def count() -> None:
        steps.append(1)

    own = plan(scheme="ZScoreNormalization", masked=True, spacing=(2.0, 3.0, 1.5))
    prepare(ct, SPACING, orientation_from("LPS"), own, Scratch(), count)
    assert len(steps) > 50
    for last in range(0, len(steps), 9):
        stop = iter([False] * last + [True])
        watch = Watch(cancelled=lambda stop=stop: next(stop))  # type: ignore[misc]
        with pytest.raises(Cancelled):
            prepare(ct, SPACING, orientation_from("LPS"), own, Scratch(), watch.check)


def test_body_parts_are_looked_for_until_cancelled() -> None:
    network = build_body_part_network(BodyPartConfig(widths=(4, 4)), seed=0).eval()
    model = BodyPartModel(network, (0.0, 1.0), (0.0, 1.0), 0.001)
    ct = np.random.default_rng(7).integers(-900, 900, (300, 9, 8)).astype(np.int16)
    steps = []

    def third_batch() -> None:
        steps.append(1)
        if len(steps) == 5:  # two while the grid is made
            raise Cancelled("enough")

    with pytest.raises(Cancelled, match="enough"):
        scan_curve(model, ct, SPACING, np.zeros, third_batch)


def test_a_plan_survives_json() -> None:
    own = plan(transpose=(2, 0, 1), orientation="RAS", separate_z=True)
    assert NnunetPlan.from_dict(own.to_dict()) == own
    assert own.sha256 != plan().sha256


def test_a_plan_that_says_no_axes_to_mirror_allows_all() -> None:
    before = plan().to_dict()
    del before["mirror"]
    assert NnunetPlan.from_dict(before) == plan(mirror=(0, 1, 2))
    with pytest.raises(InputError, match="mirror"):
        plan(mirror=(0, 3))
