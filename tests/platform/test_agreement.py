"""Agreement of masks: known values for shifted boxes, and what holds for any pair."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monai.metrics import compute_hausdorff_distance, compute_surface_dice

from clnet.platform.evaluation.agreement import Agreement, agree

masks = arrays(np.bool_, (4, 5, 3))
spacings = st.tuples(*[st.sampled_from([0.7, 1.0, 2.5])] * 3)
few = settings(max_examples=25, deadline=None)


def box(start: tuple[int, int, int], size: tuple[int, int, int] = (10, 12, 14)) -> np.ndarray:
    mask = np.zeros((30, 30, 30), np.bool_)
    mask[tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))] = True
    return mask


@pytest.mark.parametrize(
    ("start", "dsc", "hd95"), [((7, 5, 5), 8 / 10, 2 * 3.0), ((5, 5, 8), 11 / 14, 3 * 1.5)]
)
def test_a_shifted_box_has_the_values_that_geometry_says(
    start: tuple[int, int, int], dsc: float, hd95: float
) -> None:
    found = agree(box((5, 5, 5)), box(start), (3.0, 1.0, 1.5), tolerance_mm=2.0)
    assert found.dsc == pytest.approx(dsc)
    assert found.hd95_mm == pytest.approx(hd95)
    assert found.reference_voxels == found.predicted_voxels == 10 * 12 * 14


def test_a_shift_within_the_tolerance_is_forgiven_and_one_beyond_it_costs_two_faces() -> None:
    one, other = box((5, 5, 5), (20, 20, 20)), box((5, 5, 7), (20, 20, 20))
    assert agree(one, other, (1.0, 1.0, 1.0), tolerance_mm=2.0).nsd == pytest.approx(1.0)
    strict = agree(one, other, (1.0, 1.0, 1.0), tolerance_mm=1.0).nsd
    assert strict == pytest.approx(4 / 6, abs=0.06)  # edges are rounded off


@pytest.mark.parametrize(
    ("spacing", "voxels", "tolerance"),
    [(0.4, 5, 2.0), (float(np.float32(0.4)), 5, 2.0), (0.7, 3, 2.1), (0.6, 3, 1.8), (0.8, 3, 2.4)],
)
@pytest.mark.parametrize("start", [2, 5, 7])
def test_a_shift_of_exactly_the_tolerance_is_forgiven_whatever_its_last_bit(
    spacing: float, voxels: int, tolerance: float, start: int
) -> None:
    one, other = box((5, 5, start)), box((5, 5, start + voxels))
    assert agree(one, other, (spacing,) * 3, tolerance).nsd == pytest.approx(1.0)
    assert agree(one, other, (spacing,) * 3, tolerance * (1 - 1e-4)).nsd < 0.9


def test_a_box_grown_all_around_has_the_growth_as_its_distance() -> None:
    found = agree(box((5, 5, 5), (10, 10, 10)), box((4, 4, 4), (12, 12, 12)), (2.0, 2.0, 2.0), 2.0)
    assert found.dsc == pytest.approx(2 * 1000 / (1000 + 1728))
    assert 2.0 <= found.hd95_mm <= 2.0 * 3**0.5


def test_far_apart_scores_nothing() -> None:
    found = agree(box((0, 0, 0), (3, 3, 3)), box((20, 0, 0), (3, 3, 3)), (1.0, 1.0, 1.0), 2.0)
    assert (found.dsc, found.nsd) == (0.0, 0.0)
    assert found.hd95_mm == pytest.approx(20.0)


@settings(max_examples=15, deadline=None)
@given(masks, masks, spacings, st.sampled_from([0.5, 1.0, 3.0]))
def test_surfaces_score_as_monai_says(
    one: np.ndarray, other: np.ndarray, spacing: tuple[float, float, float], tolerance: float
) -> None:
    one[1, 2, 1] = other[2, 2, 1] = True
    found = agree(one, other, spacing, tolerance)
    y, y_pred = (torch.from_numpy(mask)[None, None] for mask in (one, other))
    same = {"include_background": True, "spacing": spacing}
    with warnings.catch_warnings():
        # MONAI 1.6 passes itself an argument that it has deprecated
        warnings.filterwarnings("ignore", "monai.metrics.utils", FutureWarning)
        nsd = compute_surface_dice(y_pred, y, [tolerance], use_subvoxels=True, **same)
        hd95 = compute_hausdorff_distance(y_pred, y, percentile=95, **same)
    assert found.nsd == pytest.approx(float(nsd), abs=1e-5)
    assert found.hd95_mm == pytest.approx(float(hd95), abs=1e-4)


@few
@given(masks, masks, spacings)
def test_agreement_is_symmetric(
    one: np.ndarray, other: np.ndarray, spacing: tuple[float, float, float]
) -> None:
    there, back = agree(one, other, spacing, 1.0), agree(other, one, spacing, 1.0)
    assert there.dsc == back.dsc
    assert there.nsd == pytest.approx(back.nsd)
    assert there.hd95_mm == pytest.approx(back.hd95_mm)


@few
@given(masks, spacings)
def test_equal_masks_agree_wholly(mask: np.ndarray, spacing: tuple[float, float, float]) -> None:
    found = agree(mask, mask, spacing, 0.0)
    if mask.any():
        assert (found.dsc, found.nsd, found.hd95_mm) == (1.0, 1.0, 0.0)
    else:
        assert found == Agreement(None, None, None, 0, 0)


@few
@given(masks, masks)
def test_scores_lie_between_nothing_and_all(one: np.ndarray, other: np.ndarray) -> None:
    found = agree(one, other, (1.0, 1.0, 1.0), 1.0)
    for score in (found.dsc, found.nsd):
        assert score is None or 0 <= score <= 1
    assert (found.hd95_mm is None) == (not one.any() or not other.any())


@few
@given(masks)
def test_what_one_side_misses_scores_zero_and_has_no_distance(mask: np.ndarray) -> None:
    found = agree(mask, np.zeros_like(mask), (1.0, 1.0, 1.0), 5.0)
    if mask.any():
        assert (found.dsc, found.nsd, found.hd95_mm) == (0.0, 0.0, None)


@few
@given(masks, masks)
def test_what_lies_around_does_not_matter(one: np.ndarray, other: np.ndarray) -> None:
    wide = [np.pad(mask, ((2, 7), (0, 3), (5, 1))) for mask in (one, other)]
    near, far = agree(one, other, (1.0, 2.0, 1.0), 1.0), agree(*wide, (1.0, 2.0, 1.0), 1.0)
    assert (near.dsc, near.nsd, near.hd95_mm) == (far.dsc, far.nsd, far.hd95_mm)
