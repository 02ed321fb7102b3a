"""Body-part regression on phantoms: the order of slices, upside-down scans, ranges."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clnet.anatomy.phantom import Phantom, render
from clnet.errors import InputError, IntegrityError
from clnet.model.body_part import (
    BodyPartConfig,
    BodyPartModel,
    decode_body_part_model,
    encode_body_part_model,
)
from clnet.model.body_part_curve import BodyPartCurve, Range, fit_curve, ranges_from_labels
from clnet.model.body_part_training import calibrate, ordering_loss, train_body_part_model
from clnet.model.plan import Plan

SPACING = (12.0, 12.0, 12.0)
PLAN = Plan(SPACING, (8, 8, 8))
SMALL = BodyPartConfig(pixels=32, pixel_mm=16.0, widths=(8, 16, 16))


def image(phantom: Phantom) -> np.ndarray:
    return PLAN.normalise(phantom.ct)


@pytest.fixture(scope="module")
def phantoms() -> list[Phantom]:
    return [render(seed, spacing=SPACING, field_of_view="whole") for seed in range(3)]


@pytest.fixture(scope="module")
def model(phantoms: list[Phantom]) -> BodyPartModel:
    trained = train_body_part_model(
        [(image(p), SPACING) for p in phantoms], steps=120, seed=0, config=SMALL
    )
    return calibrate(trained, [(image(p), SPACING, p.height) for p in phantoms])


def test_slices_are_put_in_order_and_at_their_height(
    model: BodyPartModel, phantoms: list[Phantom]
) -> None:
    for phantom in phantoms:
        curve = model.curve(image(phantom), SPACING)
        assert curve.scores.dtype == np.float64
        assert curve.scores.shape == phantom.height.shape
        assert (np.diff(curve.scores) >= 0).all()
        assert curve.trusted
        assert np.abs(curve.scores - phantom.height).mean() < 0.08


def test_an_upside_down_scan_is_seen(model: BodyPartModel, phantoms: list[Phantom]) -> None:
    curve = model.curve(image(phantoms[0])[::-1].copy(), SPACING)
    assert curve.upside_down
    assert not curve.trusted


@pytest.mark.parametrize("axis", [1, 2], ids=["front-to-back", "left-to-right"])
def test_a_mirrored_scan_is_put_at_its_height(
    model: BodyPartModel, phantoms: list[Phantom], axis: int
) -> None:
    for phantom in phantoms:
        curve = model.curve(np.flip(image(phantom), axis).copy(), SPACING)
        assert not curve.upside_down
        assert curve.trusted
        # the tiny network of these tests saw few mirrored slices in its 120 steps
        assert np.abs(curve.scores - phantom.height).mean() < 0.15


@pytest.mark.parametrize("part", [(0.0, 0.5), (0.25, 0.75), (0.5, 1.0)])
def test_a_part_of_a_body_is_put_at_its_height(
    model: BodyPartModel, phantoms: list[Phantom], part: tuple[float, float]
) -> None:
    for phantom in phantoms:
        inside = np.flatnonzero((phantom.height >= part[0]) & (phantom.height <= part[1]))
        curve = model.curve(image(phantom)[inside], SPACING)
        assert not curve.upside_down
        assert np.abs(curve.scores - phantom.height[inside]).mean() < 0.12


def test_a_part_of_an_upside_down_scan_is_seen(
    model: BodyPartModel, phantoms: list[Phantom]
) -> None:
    middle = image(phantoms[1])[len(phantoms[1].height) // 4 : -len(phantoms[1].height) // 4]
    assert model.curve(middle[::-1].copy(), SPACING).upside_down


def test_slices_without_a_patient_are_told(model: BodyPartModel, phantoms: list[Phantom]) -> None:
    phantom = phantoms[0]
    air = np.full((5, *phantom.ct.shape[1:]), PLAN.air, np.float32)
    curve = model.curve(np.concatenate((image(phantom), air)), SPACING)
    assert not curve.patient[-5:].any()
    assert curve.patient[5:-8].all()
    assert curve.view[1] == np.inf


@pytest.mark.parametrize(("pixels", "shown"), [(20, True), (60, False)])
def test_a_thin_part_is_a_patient_in_a_field_of_view_of_its_size(
    model: BodyPartModel, pixels: int, shown: bool
) -> None:
    wrist = np.full((9, pixels, pixels), PLAN.air, np.float32)
    wrist[:, 8:12, 8:12] = PLAN.normalise(np.array([50.0]))  # 23 cm2
    assert (model.curve(wrist, SPACING).patient == shown).all()


def test_nothing_but_air_is_not_trusted(model: BodyPartModel) -> None:
    curve = model.curve(np.full((9, 20, 20), PLAN.air, np.float32), SPACING)
    assert curve.quality == 0
    assert not curve.trusted


def test_a_detail_cut_out_of_a_body_is_not_trusted(
    model: BodyPartModel, phantoms: list[Phantom]
) -> None:
    middle = image(phantoms[0])[5:30, 11:17, 16:24]
    assert (middle > PLAN.normalise(np.array([-300.0]))).mean() > 0.8
    assert not model.curve(middle, SPACING).trusted


def test_equal_seeds_train_equal_models(phantoms: list[Phantom]) -> None:
    volumes = [(image(p), SPACING) for p in phantoms[:1]]
    first, second = (
        encode_body_part_model(train_body_part_model(volumes, 3, seed=5, config=SMALL))
        for _ in range(2)
    )
    assert first == second


def test_a_model_comes_back_from_its_bytes(model: BodyPartModel, phantoms: list[Phantom]) -> None:
    data = encode_body_part_model(model)
    back = decode_body_part_model(data)
    assert encode_body_part_model(back) == data
    np.testing.assert_array_equal(
        back.scores(image(phantoms[0]), SPACING), model.scores(image(phantoms[0]), SPACING)
    )
    with pytest.raises(IntegrityError):
        decode_body_part_model(data[: len(data) // 2])


def test_the_loss_wants_order_and_equal_distances() -> None:
    even = torch.arange(8.0).view(1, 8) * 2
    uneven = even.clone()
    uneven[0, 4:] += 3
    assert ordering_loss(even) < ordering_loss(uneven)
    assert ordering_loss(even) < ordering_loss(even.flip(1))


def test_too_few_slices_to_learn_from_are_refused() -> None:
    with pytest.raises(InputError, match="has 8 slices"):
        train_body_part_model([(np.zeros((4, 8, 8), np.float32), SPACING)], steps=1)


def test_a_calibration_without_heights_is_refused(model: BodyPartModel) -> None:
    volume = np.zeros((4, 8, 8), np.float32)
    with pytest.raises(InputError, match="calibration"):
        calibrate(model, [(volume, SPACING, np.full(4, np.nan))])


def test_the_error_is_measured_on_bodies_that_were_left_out(
    model: BodyPartModel, phantoms: list[Phantom]
) -> None:
    known = [(image(p), SPACING, p.height) for p in phantoms]
    missed = [
        np.abs(calibrate(model, [*known[:i], *known[i + 1 :]]).scores(image(p), SPACING) - p.height)
        for i, p in enumerate(phantoms)
    ]
    assert calibrate(model, known).error == np.percentile(np.concatenate(missed), 90)
    alone = calibrate(model, known[:1])
    fitted = np.abs(alone.scores(image(phantoms[0]), SPACING) - phantoms[0].height)
    assert alone.error == np.percentile(fitted, 90)


def test_single_slices_that_err_do_not_bend_the_curve() -> None:
    truth = 0.2 + np.arange(60) * 6 / 900
    noisy = truth + np.random.default_rng(0).normal(0, 0.02, 60)
    noisy[::9] += 0.5
    curve = fit_curve(noisy, 6.0, np.ones(60, bool), 1 / 900)
    assert np.abs(curve.scores - truth).max() < 0.03
    assert curve.trusted


def test_a_few_slices_take_the_usual_slope() -> None:
    curve = fit_curve(np.array([0.5, 0.49]), 5.0, np.ones(2, bool), 1 / 900)
    np.testing.assert_allclose(np.diff(curve.scores), 5 / 900, rtol=0.5)
    assert abs(curve.scores.mean() - 0.495) < 0.01


def test_a_scan_too_short_to_check_is_not_trusted() -> None:
    rising = 0.3 + np.arange(60) * 2 / 900
    assert not fit_curve(rising[:50], 2.0, np.ones(50, bool), 1 / 900).trusted  # 98 mm
    assert fit_curve(rising, 2.0, np.ones(60, bool), 1 / 900).trusted


def test_falling_scores_are_upside_down_only_where_they_fit_a_body_that_is_turned() -> None:
    every = np.ones(60, bool)
    rising = 0.3 + np.arange(60) * 6 / 900
    assert fit_curve(rising[::-1], 6.0, every, 1 / 900).upside_down
    assert not fit_curve(rising, 6.0, every, 1 / 900).upside_down
    scattered = rising + np.random.default_rng(0).normal(0, 0.3, 60)
    for falls in (5 * rising, scattered):  # too steeply, and without a course
        assert not fit_curve(falls[::-1], 6.0, every, 1 / 900).upside_down


def test_scores_without_a_course_are_not_trusted() -> None:
    noise = np.random.default_rng(1).uniform(0, 1, 80)
    assert not fit_curve(noise, 6.0, np.ones(80, bool), 1 / 900).trusted


def straight(low: float, high: float, quality: float = 1.0) -> BodyPartCurve:
    return BodyPartCurve(np.linspace(low, high, 101), 6.0, np.ones(101, bool), quality, False)


def test_ranges_are_the_papers() -> None:
    scan = straight(0.0, 1.0)
    labelled = {"liver": (scan.scores >= 0.3) & (scan.scores <= 0.5)}
    found = ranges_from_labels([(scan, labelled)], "organ")["liver"]
    p005, p995 = np.percentile(scan.scores[labelled["liver"]], (0.5, 99.5))
    extent = p995 - p005
    assert found == Range(p005, p995, p005 - 0.25 * extent, p995 + 0.25 * extent)
    tumour = ranges_from_labels([(scan, labelled)], "gtv")["liver"]
    spread = scan.scores[labelled["liver"]].std()
    np.testing.assert_allclose((tumour.low, tumour.high), (0.3 - spread, 0.5 + spread))


def test_cases_that_cannot_be_trusted_do_not_make_ranges() -> None:
    nowhere = np.zeros(101, bool)
    some = np.arange(101) < 10
    cases = [
        (straight(0, 1, quality=0.1), {"liver": some}),
        (straight(0, 1), {"liver": nowhere, "spleen": some}),
    ]
    assert set(ranges_from_labels(cases, "organ")) == {"spleen"}


def test_a_range_survives_json() -> None:
    there = Range(0.1, 0.2, 0.0, 0.3)
    assert Range.from_dict(there.to_dict()) == there
