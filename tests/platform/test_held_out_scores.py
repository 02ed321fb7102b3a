"""Scores: missing is zero, unlabelled is not scored, a composite is scored as a whole."""

from __future__ import annotations

import numpy as np
import pytest

from clnet.platform.evaluation import LabelMaps, Score, mean_dsc, score

SIDES = {"organ": {1: "kidney_left", 2: "kidney_right", 3: "liver"}}


def maps(values: list[int], names: dict[str, dict[int, str]] = SIDES) -> LabelMaps:
    return LabelMaps({"organ": np.array(values, np.uint8)}, names)


def test_dice_and_false_positives_are_counted() -> None:
    found = score(maps([3, 3, 3, 0]), maps([3, 3, 0, 0]), ["liver"], voxel_ml=0.5)
    assert found["liver"].dsc == pytest.approx(0.8)
    assert found["liver"].false_positive_ml == 0.5


def test_a_missed_anatomy_scores_zero() -> None:
    empty = LabelMaps({}, {})
    assert score(empty, maps([3, 0]), ["liver"], 1.0)["liver"] == Score(0.0, 0.0)


def test_what_the_truth_does_not_hold_has_no_dice_but_false_positives() -> None:
    assert score(maps([3, 3]), maps([0, 0]), ["liver"], 2.0)["liver"] == Score(None, 4.0)


def test_what_the_truth_does_not_label_is_not_scored() -> None:
    assert score(maps([3]), maps([1]), ["spleen"], 1.0) == {}


def test_a_composite_is_scored_as_the_union_of_its_parts() -> None:
    whole = maps([1, 1, 0], {"organ": {1: "kidney"}})
    assert score(whole, maps([1, 2, 0]), ["kidney"], 1.0)["kidney"].dsc == 1.0


def test_the_mean_is_over_scans_that_hold_the_anatomy() -> None:
    scans = [{"liver": Score(1.0, 0)}, {"liver": Score(None, 3)}, {"liver": Score(0.5, 0)}]
    assert mean_dsc(scans) == {"liver": 0.75}
