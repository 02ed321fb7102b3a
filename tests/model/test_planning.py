"""Plan and network from what a dataset is like, by nnU-Net's rules."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from clnet.data_catalog.fingerprint import FOREGROUND_PERCENTILES
from clnet.errors import InputError
from clnet.model.encoder import build_encoder
from clnet.model.plan import Plan
from clnet.model.planning import (
    Foreground,
    Intensity,
    network_for,
    plan_for,
    pool_intensities,
    target_spacing,
)

CT = Intensity(mean=60.0, std=110.0, low=-900.0, high=900.0)


def cases(spacing: tuple[float, ...], shape: tuple[int, ...], count: int = 3):
    return np.array([spacing] * count, float), np.array([shape] * count, int)


def test_the_spacing_is_the_median() -> None:
    spacings = np.array([[1.0, 0.8, 0.8], [2.0, 0.7, 0.7], [3.0, 0.9, 0.9]])
    shapes = np.array([[400, 512, 512]] * 3)
    assert target_spacing(spacings, shapes) == (2.0, 0.8, 0.8)


def test_thick_slices_of_a_flat_scan_are_made_thinner() -> None:
    spacings = np.array([[4.0, 0.8, 0.8]] + [[8.0, 0.8, 0.8]] * 9)
    shapes = np.array([[40, 512, 512]] * 10)
    z, _, _ = target_spacing(spacings, shapes)
    assert 4.0 < z < 8.0


def test_a_patch_of_thick_slices_has_few_of_them_and_is_first_halved_in_plane() -> None:
    spacings, shapes = cases((5.0, 0.8, 0.8), (200, 512, 512))
    plan = plan_for(spacings, shapes, CT, patch_voxels=128**3)
    network = network_for(plan)
    assert plan.patch_size[0] < plan.patch_size[1] / 3
    assert network.strides[1] == (1, 2, 2)
    assert network.kernels[0] == (1, 3, 3)
    assert network.kernels[-1] == (3, 3, 3)
    assert max(network.features) <= 320


def test_a_patch_is_no_larger_than_the_median_scan() -> None:
    spacings, shapes = cases((1.0, 1.0, 1.0), (40, 64, 64))
    plan = plan_for(spacings, shapes, CT, patch_voxels=192**3)
    assert plan.patch_size <= (40, 64, 64)
    assert (plan.clip, plan.mean, plan.std) == ((-900.0, 900.0), 60.0, 110.0)


@settings(deadline=None, max_examples=15)
@given(
    spacing=st.tuples(*[st.floats(0.3, 10.0)] * 3),
    shape=st.tuples(*[st.integers(2, 600)] * 3),
    voxels=st.integers(16**3, 24**3),
)
def test_every_planned_patch_goes_through_its_network(spacing, shape, voxels) -> None:
    plan = plan_for(*cases(spacing, shape), CT, patch_voxels=voxels)
    network = network_for(plan, features=2, max_features=4)
    steps = np.prod(network.strides, axis=0)
    assert not np.any(np.array(plan.patch_size) % steps)
    with torch.no_grad():
        features = build_encoder(network, 0)(torch.zeros(1, 1, *plan.patch_size))
    assert len(features) == len(network.features)


def test_no_case_and_tiny_patches_are_refused() -> None:
    with pytest.raises(InputError, match="no case"):
        plan_for(np.zeros((0, 3)), np.zeros((0, 3), int), CT, patch_voxels=64**3)
    with pytest.raises(InputError, match="at least 512"):
        plan_for(*cases((1, 1, 1), (64, 64, 64)), CT, patch_voxels=100)


COARSE = st.sampled_from([0.8, 1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0])


@settings(deadline=None, max_examples=200)
@given(
    coarse=COARSE,
    fine=st.floats(0.4, 1.2),
    factors=st.lists(st.floats(0.5, 2.0), min_size=1, max_size=7),
    sizes=st.lists(st.tuples(st.integers(10, 400), st.sampled_from([256, 512, 768])), min_size=7),
)
def test_the_target_spacing_is_nnunets(coarse, fine, factors, sizes) -> None:
    planner = pytest.importorskip(
        "nnunetv2.experiment_planning.experiment_planners.default_experiment_planner"
    ).ExperimentPlanner
    spacings = np.array([[coarse * factor, fine, fine] for factor in factors])
    shapes = np.array([[z, yx, yx] for z, yx in sizes[: len(factors)]])
    theirs = planner.__new__(planner)
    theirs.overwrite_target_spacing, theirs.anisotropy_threshold = None, 3
    theirs.dataset_fingerprint = {"spacings": spacings, "shapes_after_crop": shapes}
    expected = theirs.determine_fullres_target_spacing()
    assert target_spacing(spacings, shapes) == pytest.approx(tuple(expected), abs=1e-4)


@settings(deadline=None, max_examples=200)
@given(
    spacing=st.tuples(COARSE, st.floats(0.5, 2.0), st.floats(0.5, 2.0)),
    depth=st.integers(8, 700),
    voxels=st.sampled_from([48**3, 64**3, 96**3, 128**3, 160**3]),
)
@example(spacing=(0.8, 2.0, 2.0), depth=8, voxels=48**3)
@example(spacing=(0.8, 2.0, 2.0), depth=16, voxels=48**3)
def test_strides_and_kernels_of_a_planned_patch_are_nnunets(spacing, depth, voxels) -> None:
    topology = pytest.importorskip(
        "nnunetv2.experiment_planning.experiment_planners.network_topology"
    )
    plan = plan_for(*cases(spacing, (depth, 512, 512)), CT, patch_voxels=voxels)
    network = network_for(plan)
    _, strides, kernels, patch, _ = topology.get_pool_and_conv_props(
        plan.spacing, plan.patch_size, 4, 999999
    )
    assume(len(strides) > 1)  # ours have two scales at least, see below
    assert tuple(patch) == plan.patch_size
    assert network.strides == strides
    assert network.kernels == kernels


def test_a_network_has_two_scales_even_where_one_axis_alone_can_be_halved() -> None:
    plan = Plan(spacing=(10.0, 10.0, 0.5), patch_size=(8, 8, 8))
    assert network_for(plan).strides == ((1, 1, 1), (1, 1, 2), (2, 2, 1))


PERCENTS = FOREGROUND_PERCENTILES
OLDER = (0.5, 50.0, 99.5)


def measured(count: int, hu: np.ndarray, percents: tuple[float, ...] = PERCENTS) -> Foreground:
    percentiles = dict(zip(percents, np.percentile(hu, percents).tolist(), strict=True))
    return Foreground(count, float(hu.mean()), float(hu.std()), percentiles)


def test_intensities_of_several_datasets_are_those_of_nnunet_which_draws_alike_from_each_case() -> (
    None
):
    extractor = pytest.importorskip(
        "nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor"
    ).DatasetFingerprintExtractor
    rng = np.random.default_rng(0)
    soft = [rng.normal(60, 30, (1, 30, 30, 30)) for _ in range(8)]
    bodies = [  # few cases, but many voxels: lungs, soft tissue, bone
        rng.choice([-850, 40, 500], (1, 60, 60, 60), p=[0.3, 0.6, 0.1])
        + rng.normal(0, 80, (1, 60, 60, 60))
        for _ in range(2)
    ]
    drawn = np.concatenate(
        [
            extractor.collect_foreground_intensities(np.ones_like(hu), hu)[0][0]
            for hu in (*soft, *bodies)
        ]
    )
    pooled = pool_intensities([measured(8, np.stack(soft)), measured(2, np.stack(bodies))])
    expected = np.percentile(drawn, (0.5, 99.5))
    assert (pooled.low, pooled.high) == pytest.approx(tuple(expected), abs=10)
    assert (pooled.mean, pooled.std) == pytest.approx((drawn.mean(), drawn.std()), abs=5)


@pytest.mark.parametrize("percents", [PERCENTS, OLDER])
def test_few_odd_cases_do_not_stretch_the_clip(percents: tuple[float, ...]) -> None:
    rng = np.random.default_rng(0)
    usual = measured(999, rng.normal(60, 30, 10**6), percents)
    odd = measured(1, rng.normal(-850, 30, 10**4), percents)
    pooled = pool_intensities([usual, odd])
    assert pooled.low == pytest.approx(usual.percentiles[0.5], abs=5)
    assert pooled.high == pytest.approx(usual.percentiles[99.5], abs=1)


def test_of_one_dataset_the_measured_percentiles_are_taken_as_they_are() -> None:
    one = Foreground(3, 12.344, 99.0, {0.5: -950.0, 50.0: 40.0, 99.5: 1200.0})
    assert pool_intensities([one]) == Intensity(12.34, 99.0, -950.0, 1200.0)
    assert pool_intensities([one, one]) == pool_intensities([one])
    flat = Foreground(1, 5.0, 0.0, {0.5: 5.0, 50.0: 5.0, 99.5: 5.0})
    assert pool_intensities([flat, flat]) == Intensity(5.0, 1.0, 5.0, 5.0)
