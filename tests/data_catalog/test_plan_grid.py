from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clnet.data_catalog.plan_grid import (
    grid_shape,
    resample_image,
    resample_labels,
    slice_positions,
)
from clnet.model.geometry import plan_shape, resample

sizes = st.tuples(*[st.integers(1, 14)] * 3)


def ramp(shape: tuple[int, int, int], axis: int) -> np.ndarray:
    positions = np.arange(shape[axis], dtype=np.float32)
    return np.broadcast_to(np.moveaxis(positions[:, None, None], 0, axis), shape).copy()


@settings(max_examples=80, deadline=None)
@given(old=sizes, new=sizes, seed=st.integers(0, 99))
def test_images_are_resampled_as_inference_does(
    old: tuple[int, int, int], new: tuple[int, int, int], seed: int
) -> None:
    ct = np.random.default_rng(seed).integers(-1000, 1000, old).astype(np.int16)
    np.testing.assert_allclose(resample_image(ct, new), resample(ct, new), atol=0.02)


@given(
    shape=sizes,
    spacing=st.tuples(*[st.floats(0.3, 9)] * 3),
    target=st.tuples(*[st.floats(0.3, 9)] * 3),
)
def test_the_grid_is_that_of_inference(
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    target: tuple[float, float, float],
) -> None:
    assert grid_shape(shape, spacing, target) == plan_shape(shape, spacing, target)


@pytest.mark.parametrize(("size", "new"), [(10, 14), (10, 7), (5, 20)])
def test_positions_are_those_of_torch_interpolate(size: int, new: int) -> None:
    values = torch.arange(size, dtype=torch.float64) * 3.0
    expected = torch.nn.functional.interpolate(
        values[None, None], size=new, mode="linear", align_corners=False
    )[0, 0].numpy()
    ours = np.clip(slice_positions(size, new, 3.0), 0, (size - 1) * 3.0)
    np.testing.assert_allclose(ours, expected)


def test_both_grids_cover_the_same_extent() -> None:
    positions = slice_positions(10, 5, 3.0)
    np.testing.assert_allclose(positions, [1.5, 7.5, 13.5, 19.5, 25.5])
    assert positions.mean() == pytest.approx(slice_positions(10, 10, 3.0).mean())


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_ramp_stays_a_ramp(axis: int) -> None:
    new = [8, 9, 10]
    new[axis] = 13
    result = resample_image(ramp((8, 9, 10), axis), (new[0], new[1], new[2]))
    expected = np.clip(slice_positions((8, 9, 10)[axis], 13, 1.0), 0, (8, 9, 10)[axis] - 1)
    lines = np.moveaxis(result, axis, 0).reshape(13, -1)
    np.testing.assert_allclose(lines, np.broadcast_to(expected[:, None], lines.shape), atol=1e-5)


def test_an_equal_grid_changes_nothing() -> None:
    labels = np.random.default_rng(0).integers(0, 4, (5, 6, 7)).astype(np.uint8)
    np.testing.assert_array_equal(resample_labels(labels, (5, 6, 7)), labels)
    np.testing.assert_array_equal(resample_image(labels, (5, 6, 7)), labels)


def by_argmax(labels: np.ndarray, new: tuple[int, int, int]) -> np.ndarray:
    """The definition, without windows: every label's share everywhere, the largest wins."""
    values = np.unique(labels)
    shares = np.stack(
        [
            torch.nn.functional.interpolate(
                torch.from_numpy((labels == value).astype(np.float32))[None, None],
                size=new,
                mode="trilinear",
                align_corners=False,
            )[0, 0].numpy()
            for value in values
        ]
    )
    ranked = np.sort(shares, axis=0)
    decided = ranked[-1] - (ranked[-2] if len(values) > 1 else 0) > 1e-4
    return np.where(decided, values[shares.argmax(axis=0)], 255)


@settings(max_examples=80, deadline=None)
@given(old=sizes, new=sizes, seed=st.integers(0, 99))
def test_labels_go_to_the_largest_share(
    old: tuple[int, int, int], new: tuple[int, int, int], seed: int
) -> None:
    coarse = np.random.default_rng(seed).integers(0, 4, tuple(-(-n // 3) for n in old))
    labels = coarse.astype(np.uint8).repeat(3, 0).repeat(3, 1).repeat(3, 2)
    labels = np.ascontiguousarray(labels[: old[0], : old[1], : old[2]])
    expected = by_argmax(labels, new)
    found = resample_labels(labels, new)
    decided = expected != 255
    np.testing.assert_array_equal(found[decided], expected[decided])


def test_labels_never_gain_a_value() -> None:
    labels = np.zeros((6, 6, 6), np.uint8)
    labels[:3] = 10
    labels[3:] = 20
    assert set(np.unique(resample_labels(labels, (9, 7, 11)))) == {10, 20}
