"""States and sizes of anatomies."""

from __future__ import annotations

import numpy as np
import pytest

from clnet.model.body_part_curve import BodyPartCurve, Range
from clnet.model.components import keep_largest
from clnet.model.policy import MergePolicy
from clnet.model.scratch import Scratch
from clnet.model.sides import misplaced, swapped_sides
from clnet.model.statistics import (
    Measure,
    State,
    combined_state,
    measure,
    shared_state,
    state_of,
)


def curve(
    low: float, high: float, quality: float = 1.0, air: int = 0, below: int = 0
) -> BodyPartCurve:
    """A scan from score `low` to `high`, `air` slices past its upper end, and some `below`."""
    patient = np.zeros(below + 21 + air, bool)
    patient[below : below + 21] = True
    step = (high - low) / 20
    scores = low + step * (np.arange(len(patient)) - below)
    return BodyPartCurve(scores, 6.0, patient, quality, False)


LIVER = Range(0.3, 0.45, 0.26, 0.49)


@pytest.mark.parametrize(
    ("voxels", "scan", "state"),
    [
        (7, curve(0.0, 1.0), State.PRESENT),
        (7, curve(0.6, 0.9), State.PRESENT),
        (0, curve(0.0, 1.0), State.ABSENT),
        (0, curve(0.3, 0.45), State.ABSENT),
        (0, curve(0.4, 0.9), State.PARTLY_IN_VIEW),
        (0, curve(0.0, 0.35), State.PARTLY_IN_VIEW),
        (0, curve(0.35, 0.4), State.PARTLY_IN_VIEW),
        (0, curve(0.47, 0.9), State.OUT_OF_FIELD),  # within the widened range, but out of view
        (0, curve(0.0, 0.2), State.OUT_OF_FIELD),
        (0, curve(0.0, 1.0, quality=0.1), State.PARTLY_IN_VIEW),
        (0, None, State.PARTLY_IN_VIEW),
    ],
)
def test_the_state_says_what_is_known(
    voxels: int, scan: BodyPartCurve | None, state: State
) -> None:
    assert state_of(voxels, LIVER, scan) is state


def test_without_a_range_nothing_can_be_called_absent() -> None:
    assert state_of(0, None, curve(0.0, 1.0)) is State.PARTLY_IN_VIEW


def test_beyond_the_top_of_the_head_nothing_is_cut_off() -> None:
    brain = Range(0.88, 1.0, 0.85, 1.03)
    assert state_of(0, brain, curve(0.5, 0.97)) is State.PARTLY_IN_VIEW
    assert state_of(0, brain, curve(0.5, 0.97, air=3)) is State.ABSENT


LOW, MIDDLE, HIGH = Range(0.1, 0.2, 0.0, 0.3), LIVER, Range(0.8, 0.9, 0.7, 1.0)


@pytest.mark.parametrize(
    ("ranges", "state"),
    [
        ((HIGH, MIDDLE), State.ABSENT),  # all that one of them expects is in view
        ((Range(0.2, 0.8, 0.1, 0.9), MIDDLE), State.ABSENT),
        ((HIGH, LOW), State.OUT_OF_FIELD),
        ((HIGH, Range(0.5, 0.7, 0.4, 0.8)), State.PARTLY_IN_VIEW),
        ((None, MIDDLE), State.ABSENT),
        ((None, HIGH), State.OUT_OF_FIELD),
        ((None, None), State.PARTLY_IN_VIEW),
    ],
)
def test_of_several_decoders_the_ranges_of_all_say_what_is_known(
    ranges: tuple[Range | None, ...], state: State
) -> None:
    for order in (ranges, ranges[::-1]):
        assert shared_state(0, order, curve(0.25, 0.6)) is state
        assert shared_state(7, order, curve(0.25, 0.6)) is State.PRESENT


def test_air_that_pads_a_scan_does_not_widen_what_it_shows() -> None:
    brain = Range(0.88, 1.0, 0.85, 1.03)
    assert state_of(0, LIVER, curve(0.6, 1.0, below=3)) is State.OUT_OF_FIELD
    assert state_of(0, LIVER, curve(0.4, 0.6, below=3)) is State.PARTLY_IN_VIEW
    assert state_of(0, brain, curve(0.2, 0.5, air=3)) is State.OUT_OF_FIELD
    assert state_of(0, brain, curve(0.2, 0.9, air=3)) is State.PARTLY_IN_VIEW


def test_a_composite_is_absent_only_if_every_part_is() -> None:
    present, absent = State.PRESENT, State.ABSENT
    assert combined_state({"a": present, "b": absent}) is present
    assert combined_state({"a": absent, "b": absent}) is absent
    assert combined_state({"a": absent, "b": State.NOT_LOOKED_FOR}) is State.PARTLY_IN_VIEW
    assert combined_state({"a": State.OUT_OF_FIELD}) is State.OUT_OF_FIELD
    assert combined_state({"a": State.OUT_OF_FIELD, "b": absent}) is State.PARTLY_IN_VIEW


def test_what_was_not_looked_for_may_be_in_view_though_the_rest_is_out_of_field() -> None:
    states = {"a": State.OUT_OF_FIELD, "b": State.NOT_LOOKED_FOR}
    assert combined_state(states) is State.NOT_LOOKED_FOR


def test_voxels_and_hu_are_summed_over_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clnet.model.statistics.BLOCK_VOXELS", 1)
    rng = np.random.default_rng(0)
    ct = rng.integers(-1000, 1000, (5, 4, 3)).astype(np.int16)
    labels = rng.integers(0, 3, ct.shape).astype(np.uint8)
    sizes = measure({"organ": labels}, {"organ": {1: "liver", 2: "spleen"}}, ct)
    for value, name in ((1, "liver"), (2, "spleen")):
        where = labels == value
        x = float(where.nonzero()[2].sum())
        slices = int(where.any(axis=(1, 2)).sum())
        assert sizes[name] == Measure(int(where.sum()), float(ct[where].sum()), x, slices)


def test_clean_up_keeps_the_largest_part_of_the_anatomies_it_names() -> None:
    labels = np.zeros((6, 6, 6), np.uint8)
    labels[0, 0, :3] = 1
    labels[4, 4, 4] = 1
    labels[1, 5, 0], labels[5, 0, 5] = 2, 2
    names = {"organ": {1: "liver", 2: "spleen"}}
    keep_largest({"organ": labels}, names, ("liver",), Scratch())
    assert (labels == 1).sum() == 3
    assert (labels == 2).sum() == 2


@pytest.mark.parametrize(
    ("label", "chosen", "kept"),
    [
        ("liver", ["liver"], 1),
        ("kidney", ["kidney"], 2),  # one per side
        ("kidney", ["kidney_left"], 6),  # the other side is not to be cleaned up
        ("lung_left", ["lung"], 1),
        ("airway", ["airway"], 3),
        ("vertebrae_cervical", ["vertebrae"], 6),  # bones need not touch: 7 are possible
        ("humerus", ["humerus"], 2),
        ("liver+spleen", ["liver", "spleen"], 2),
        ("liver+spleen", ["liver"], 6),
    ],
)
def test_a_label_that_unites_anatomies_keeps_as_many_parts_as_it_may_have(
    label: str, chosen: list[str], kept: int
) -> None:
    sizes = [3, 1, 5, 2, 6, 4]
    labels = np.zeros((3, 12, 8), np.uint8)
    for row, size in enumerate(sizes):
        labels[1, 2 * row, :size] = 1
    leaves = MergePolicy.from_dict({"largest_component": chosen}).largest_component
    keep_largest({"organ": labels}, {"organ": {1: label}}, leaves, Scratch())
    left = [int((labels[1, 2 * row] == 1).sum()) for row in range(len(sizes))]
    assert sorted(filter(None, left)) == sorted(sizes)[-kept:]


def test_a_left_that_lies_to_the_right_is_told() -> None:
    def at(x: float, voxels: int = 1000, slices: int = 9) -> Measure:
        return Measure(voxels, 0.0, x * voxels, slices)

    right_way = {"kidney_left": at(80), "kidney_right": at(20), "liver": at(30)}
    assert swapped_sides(right_way, spacing=2.0, voxel_ml=0.01) == ()
    mirrored = {"kidney_left": at(20), "kidney_right": at(80), "lung_upper_lobe_left": at(10)}
    assert swapped_sides(mirrored, spacing=2.0, voxel_ml=0.01) == ("kidney_left",)
    specks = {"kidney_left": at(20, 3), "kidney_right": at(80)}
    assert swapped_sides(specks, spacing=2.0, voxel_ml=0.01) == ()
    few = {"kidney_left": at(20, slices=2), "kidney_right": at(80)}
    assert swapped_sides(few, spacing=2.0, voxel_ml=0.01) == ()
    midline = {"kidney_left": at(50), "kidney_right": at(51)}
    assert swapped_sides(midline, spacing=2.0, voxel_ml=0.01) == ()


def test_ribs_that_are_swapped_are_told_though_numbers_follow_their_sides() -> None:
    def ribs(left: float, right: float) -> dict[str, Measure]:
        at = {"left": left, "right": right}
        return {
            f"rib_{side}_{n}": Measure(1000, 0.0, x * 1000, 9)
            for side, x in at.items()
            for n in range(1, 13)
        }

    assert swapped_sides(ribs(left=80, right=20), spacing=2.0, voxel_ml=0.01) == ()
    told = swapped_sides(ribs(left=20, right=80), spacing=2.0, voxel_ml=0.01)
    assert set(told) == {f"rib_left_{n}" for n in range(1, 13)}


def test_an_organ_on_the_wrong_side_of_the_midline_is_told() -> None:
    def told(heart: float, spine: float | None, slices: int = 9, voxels: int = 1000) -> bool:
        sizes = {
            "body": Measure(10_000, 0.0, 50.0 * 10_000, 90),
            "heart": Measure(voxels, 0.0, heart * voxels, slices),
            "liver": Measure(1000, 0.0, 30.0 * 1000, 9),
        }
        if spine is not None:
            sizes |= {"vertebrae_T5": Measure(300, 0.0, spine * 300, 9)}
        found = misplaced(sizes, spacing=2.0, voxel_ml=0.1)
        assert found in ((), ("heart",))
        return bool(found)

    assert told(heart=40, spine=50)
    assert told(heart=40, spine=None)
    assert not told(heart=60, spine=50)
    assert not told(heart=49, spine=50)  # near the middle
    assert not told(heart=40, spine=35)  # the patient lies to one side of the field of view
    assert not told(heart=40, spine=50, slices=2)
    assert not told(heart=40, spine=50, voxels=100)


def test_without_a_midline_no_side_is_wrong() -> None:
    heart = {"heart": Measure(1000, 0.0, 1000.0, 9)}
    assert misplaced(heart, spacing=2.0, voxel_ml=0.1) == ()
