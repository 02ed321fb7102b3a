"""Plan and network from what a dataset is like, by nnU-Net's rules."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clnet.errors import InputError
from clnet.model.encoder import build_encoder
from clnet.model.planning import Intensity, network_for, plan_for, target_spacing

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
