"""Scans of any orientation go to the canonical grid and come back on their own."""

from __future__ import annotations

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from clnet.data_catalog.plan_grid import grid_shape, resample_image
from clnet.errors import InputError
from clnet.model.geometry import (
    from_canonical,
    image_matrix,
    linear_matrix,
    orientation_of,
    plan_shape,
    resample,
    to_canonical,
)

ORIENTATIONS = [
    "".join(axes[i][sign] for i, sign in zip(order, signs, strict=True))
    for axes in [("RL", "AP", "SI")]
    for order in permutations(range(3))
    for signs in product((0, 1), repeat=3)
]

sizes = st.integers(1, 7)
spacings = st.floats(0.3, 10.0)
angles = st.floats(-0.6, 0.6)


def affine_of(axcodes: str, spacing: tuple[float, ...], turn: np.ndarray) -> np.ndarray:
    """Affine of an array with these axes, turned by a small rotation."""
    affine = np.eye(4)
    world = nib.orientations.axcodes2ornt(axcodes)
    for axis, (to, sign) in enumerate(world):
        affine[int(to), axis] = sign * spacing[axis]
    affine[:3, :3] = turn @ affine[:3, :3]
    affine[:3, 3] = (12.5, -80.0, 300.0)
    return affine


def rotation(a: float, b: float) -> np.ndarray:
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    return about_x @ about_z


def test_there_are_48_orientations() -> None:
    assert len(set(ORIENTATIONS)) == 48


@pytest.mark.parametrize("axcodes", ORIENTATIONS)
@settings(max_examples=5, deadline=None)
@given(shape=st.tuples(sizes, sizes, sizes), spacing=st.tuples(spacings, spacings, spacings))
def test_a_mask_comes_back_on_its_own_grid(
    axcodes: str, shape: tuple[int, int, int], spacing: tuple[float, float, float]
) -> None:
    array = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    affine = affine_of(axcodes, spacing, np.eye(3))
    canonical, zyx, orientation = to_canonical(array, affine)
    back = from_canonical(canonical, orientation)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)
    lps = nib.Nifti1Image(array, affine).as_reoriented(
        nib.orientations.ornt_transform(
            nib.io_orientation(affine), nib.orientations.axcodes2ornt("LPS")
        )
    )
    np.testing.assert_array_equal(canonical, np.asarray(lps.dataobj).transpose(2, 1, 0))
    np.testing.assert_allclose(zyx, lps.header.get_zooms()[::-1], rtol=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    axcodes=st.sampled_from(ORIENTATIONS),
    a=angles,
    b=angles,
    shear=st.floats(-0.4, 0.4),
    spacing=st.tuples(spacings, spacings, spacings),
)
def test_oblique_and_sheared_axes_are_treated_as_nibabel_does(
    axcodes: str, a: float, b: float, shear: float, spacing: tuple[float, float, float]
) -> None:
    skew = np.eye(3)
    skew[1, 2] = shear  # a tilted gantry
    affine = affine_of(axcodes, spacing, rotation(a, b) @ skew)
    expected = nib.orientations.ornt_transform(
        nib.io_orientation(affine), nib.orientations.axcodes2ornt("LPS")
    )
    axes = [0, 0, 0]
    flips = [False] * 3
    for axis, (to, sign) in enumerate(expected):
        axes[2 - int(to)], flips[2 - int(to)] = axis, sign < 0
    orientation = orientation_of(affine)
    assert orientation.axes == tuple(axes)
    assert orientation.flips == tuple(flips)


@pytest.mark.parametrize(
    "affine", [np.zeros((4, 4)), np.full((4, 4), np.nan), np.eye(3), np.diag([1.0, 1, 0, 1])]
)
def test_an_affine_that_spans_no_space_is_refused(affine: np.ndarray) -> None:
    with pytest.raises(InputError, match="affine"):
        orientation_of(affine)


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 5, 2), (3, 0, 4)])
def test_what_is_not_a_volume_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="three axes"):
        to_canonical(np.zeros(shape), np.eye(4))


shapes = st.tuples(st.integers(1, 20), st.integers(1, 20), st.integers(1, 20))


@settings(max_examples=40, deadline=None)
@given(source=shapes, spacing=st.tuples(spacings, spacings, spacings), seed=st.integers(0, 99))
def test_inference_sees_the_grid_and_the_values_that_training_saw(
    source: tuple[int, int, int], spacing: tuple[float, float, float], seed: int
) -> None:
    target = (3.0, 2.0, 6.0)
    volume = np.random.default_rng(seed).integers(-1000, 1500, source).astype(np.int16)
    shape = plan_shape(source, spacing, target)
    assert shape == grid_shape(source, spacing, target)
    np.testing.assert_allclose(
        resample(volume, shape), resample_image(volume, shape), atol=0.01, rtol=1e-5
    )


@settings(max_examples=40, deadline=None)
@given(source=st.integers(1, 30), target=st.integers(1, 60))
def test_linear_resampling_is_torchs(source: int, target: int) -> None:
    line = torch.linspace(-1, 2, source) ** 2
    expected = F.interpolate(line[None, None], size=target, mode="linear", align_corners=False)
    matrix = torch.from_numpy(linear_matrix(source, target).toarray())
    torch.testing.assert_close(matrix @ line, expected[0, 0])


@settings(max_examples=40, deadline=None)
@given(source=st.integers(1, 60), target=st.integers(1, 60))
def test_resampling_keeps_a_constant(source: int, target: int) -> None:
    np.testing.assert_allclose(image_matrix(source, target).sum(axis=1), 1, rtol=1e-5)


def test_slabs_of_a_large_scan_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    volume = np.random.default_rng(0).normal(size=(23, 9, 11)).astype(np.float32)
    whole = resample(volume, (7, 5, 6))
    monkeypatch.setattr("clnet.model.geometry.SLAB_VOXELS", 4 * 9 * 11)
    np.testing.assert_allclose(resample(volume, (7, 5, 6)), whole, atol=1e-5)


def test_a_scan_that_runs_backwards_is_resampled_slice_by_slice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    volume = np.random.default_rng(0).normal(size=(5, 9, 11)).astype(np.float32)
    monkeypatch.setattr("clnet.model.geometry.SLAB_VOXELS", 9 * 11)
    backwards = resample(np.ascontiguousarray(volume[::-1])[::-1], (4, 5, 6))
    np.testing.assert_array_equal(backwards, resample(volume, (4, 5, 6)))
