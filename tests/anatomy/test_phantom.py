from __future__ import annotations

from functools import cache

import nibabel as nib
import numpy as np
import pytest
from scipy.stats import ks_2samp

from clnet.anatomy import vocabulary
from clnet.anatomy.phantom import (
    FIELDS_OF_VIEW,
    PHANTOM_ANATOMIES,
    PHANTOM_LABELS,
    SAME_HU_PAIRS,
    SAME_HU_PAIRS_UNENHANCED,
    Phantom,
    render,
)
from clnet.errors import InputError

SEEDS = range(5)


@cache
def whole_body(seed: int) -> Phantom:
    return render(seed, field_of_view="whole")


def contact(first: np.ndarray, second: np.ndarray) -> int:
    """Faces that two masks share."""
    faces = 0
    for axis in range(3):
        a, b = (np.moveaxis(mask, axis, 0) for mask in (first, second))
        faces += int((a[1:] & b[:-1]).sum() + (a[:-1] & b[1:]).sum())
    return faces


def test_same_seed_gives_the_same_scan() -> None:
    first, again, other = render(11), render(11), render(12)
    assert np.array_equal(first.ct, again.ct)
    assert all(np.array_equal(first.labels[k], again.labels[k]) for k in first.labels)
    assert first.ct.shape != other.ct.shape or not np.array_equal(first.ct, other.ct)


def test_same_seed_is_the_same_body_at_another_spacing() -> None:
    fine = render(3, spacing=(5.0, 3.0, 4.0), field_of_view="abdomen")
    coarse = render(3, field_of_view="abdomen")
    for anatomy in ("liver", "spleen", "kidney_right", "vertebrae_lumbar", "aorta"):
        fine_ml = fine.mask(anatomy).sum() * 60 / 1000
        coarse_ml = coarse.mask(anatomy).sum() * 216 / 1000
        assert fine_ml == pytest.approx(coarse_ml, rel=0.08), anatomy


def test_rendering_of_a_seed_has_not_drifted() -> None:
    # trained weights and published figures belong to these bodies; changing them orphans both
    phantom = whole_body(0)
    voxels = {"liver": 7066, "heart": 2531, "brain": 6849, "ribs_left": 2355}
    assert phantom.ct.shape == (159, 56, 80)
    assert phantom.phase == "venous"
    assert phantom.ct.mean() == pytest.approx(-676.9, abs=0.5)
    for anatomy, expected in voxels.items():
        assert phantom.mask(anatomy).sum() == pytest.approx(expected, rel=0.01), anatomy


def test_there_are_at_least_forty_anatomies_known_to_the_vocabulary() -> None:
    assert len(set(PHANTOM_ANATOMIES)) == len(PHANTOM_ANATOMIES) >= 40
    for layer, names in PHANTOM_LABELS.items():
        assert sorted(names) == list(range(1, len(names) + 1))
        assert {vocabulary()[name].layer for name in names.values()} == {layer}


@pytest.mark.parametrize("seed", SEEDS)
def test_whole_bodies_hold_every_anatomy(seed: int) -> None:
    phantom = whole_body(seed)
    assert phantom.names == PHANTOM_LABELS
    small = {a: int(phantom.mask(a).sum()) for a in PHANTOM_ANATOMIES}
    assert min(small.values()) >= 15, min(small, key=lambda name: small[name])


@pytest.mark.parametrize("seed", SEEDS)
def test_labels_lie_within_the_body(seed: int) -> None:
    phantom = whole_body(seed)
    inside = phantom.labels["body"] > 0
    for layer in ("container", "organ", "vessel", "muscle", "bone"):
        assert not (phantom.labels[layer][~inside] > 0).any(), layer


def test_sides_and_axes_are_those_of_lps() -> None:
    phantom = whole_body(1)
    assert nib.aff2axcodes(phantom.affine) == ("L", "P", "S")
    z, y, x = (
        {a: np.argwhere(phantom.mask(a))[:, axis].mean() for a in PHANTOM_ANATOMIES}
        for axis in range(3)
    )
    assert x["liver"] < x["stomach"]  # +x is Left: the liver is on the Right
    assert x["gallbladder"] < x["spleen"]
    assert x["inferior_vena_cava"] < x["aorta"]
    for name in PHANTOM_ANATOMIES:
        if name.endswith("_left"):
            assert x[name] > x[name.removesuffix("_left") + "_right"], name
    assert y["sternum"] < y["heart"] < y["vertebrae_thoracic"]
    assert z["urinary_bladder"] < z["liver"] < z["heart"] < z["thyroid_gland"] < z["brain"]


def test_affine_places_voxels_in_millimetres() -> None:
    phantom = render(2, spacing=(8.0, 6.0, 7.0), field_of_view="chest")
    assert np.allclose(np.diag(phantom.affine), [-7, -6, 8, 1])
    assert phantom.ct.shape[1:] == (56, 69)


def test_height_is_true_to_the_body() -> None:
    whole, chest = whole_body(4), render(4, field_of_view=(0.4, 0.7))
    assert (np.diff(whole.height) > 0).all()
    assert whole.height[0] < 0.01
    assert whole.height[-1] > 0.99
    assert chest.height[0] == pytest.approx(0.4, abs=0.01)
    assert chest.height[-1] == pytest.approx(0.7, abs=0.02)
    heart = np.argwhere(whole.mask("heart"))[:, 0].mean()
    heart_in_chest = np.argwhere(chest.mask("heart"))[:, 0].mean()
    heights = [p.height[round(z)] for p, z in ((whole, heart), (chest, heart_in_chest))]
    assert heights[0] == pytest.approx(heights[1], abs=0.015)


def test_tissues_have_their_hounsfield_units() -> None:
    for seed in SEEDS:
        phantom = whole_body(seed)
        median = {a: float(np.median(phantom.ct[phantom.mask(a)])) for a in PHANTOM_ANATOMIES}
        assert phantom.ct.dtype == np.int16
        assert -870 < median["lung_lower_lobe_left"] < -750
        assert -1024 <= median["trachea"] < -800
        assert 20 < median["brain"] < 55
        assert 30 < median["liver"] < 140
        assert -10 < median["urinary_bladder"] < 40
        assert median["femur_left"] > 140
        assert (median["aorta"] > 80) == (phantom.phase != "none")


def test_contrast_phase_field_of_view_and_position_vary() -> None:
    phantoms = [render(seed, spacing=(16.0, 16.0, 16.0)) for seed in range(100, 120)]
    assert {p.phase for p in phantoms} == {"none", "arterial", "venous"}
    starts = np.array([p.height[0] for p in phantoms])
    assert (starts < 0.05).any()
    assert (starts > 0.3).any()
    centres = [np.argwhere(p.labels["body"] > 0)[:, 2].mean() * 16 for p in phantoms]
    assert np.std(centres) > 8


def test_lesions_and_gas_do_not_change_labels() -> None:
    nodules = [
        (whole_body(s).ct[whole_body(s).mask("lung_upper_lobe_left")] > -150).mean() for s in SEEDS
    ]
    assert 0 < max(nodules) < 0.05
    bowel_gas = [
        ((p.ct < -700) & (p.labels["body"] > 0) & (p.labels["organ"] == 0)).sum()
        for p in (whole_body(s) for s in SEEDS)
    ]
    assert min(bowel_gas) > 30


def test_many_neighbours_share_their_hounsfield_units() -> None:
    assert len(set(SAME_HU_PAIRS)) >= 10
    for first, second in SAME_HU_PAIRS:
        distances = []
        for seed in SEEDS:
            phantom = whole_body(seed)
            a, b = phantom.mask(first), phantom.mask(second)
            assert contact(a, b) >= 3, (first, second, seed)
            distances.append(ks_2samp(phantom.ct[a], phantom.ct[b]).statistic)
        assert np.mean(distances) < 0.25, (first, second)


def test_unenhanced_neighbours_share_their_hounsfield_units_without_contrast() -> None:
    plain = next(p for p in map(whole_body, range(20)) if p.phase == "none")
    for first, second in SAME_HU_PAIRS_UNENHANCED:
        a, b = plain.mask(first), plain.mask(second)
        assert contact(a, b) >= 3
        assert abs(np.median(plain.ct[a]) - np.median(plain.ct[b])) < 8


@pytest.mark.parametrize("name", FIELDS_OF_VIEW)
def test_every_named_field_of_view_renders(name: str) -> None:
    phantom = render(5, spacing=(12.0, 12.0, 12.0), field_of_view=name)
    assert phantom.ct.shape == phantom.labels["organ"].shape
    assert len(phantom.height) == len(phantom.ct)
    assert (phantom.labels["body"] > 0).any()


def test_wrong_requests_are_refused_by_name() -> None:
    with pytest.raises(InputError, match="'knee' is none of whole"):
        render(0, field_of_view="knee")
    with pytest.raises(InputError, match="low < high"):
        render(0, field_of_view=(0.5, 0.5))
    with pytest.raises(InputError, match="spacing > 0"):
        render(0, spacing=(6.0, 0.0, 6.0))
    with pytest.raises(InputError, match="seed >= 0"):
        render(-1)
    with pytest.raises(InputError, match="no anatomy of the phantom"):
        whole_body(0).mask("tail")
