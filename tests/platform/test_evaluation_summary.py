"""From rows to figures with intervals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clnet.platform.evaluation.comparison import Row
from clnet.platform.evaluation.summary import figure_of, place_of, summarise


def row(case: str, anatomy: str, dsc: float | None, reason: str = "") -> Row:
    return Row(case, anatomy, reason, dsc=dsc, reference_ml=2.0, predicted_ml=1.5)


def test_what_was_not_evaluated_is_in_no_mean() -> None:
    rows = [row("a", "liver", 0.8), row("b", "liver", None, "the reference does not label it")]
    found = summarise(rows, lambda r: r.anatomy)["liver"]
    assert (found.cases, found.figures["dsc"].n, found.figures["dsc"].mean) == (1, 1, 0.8)
    assert found.not_evaluated == {"the reference does not label it": 1}
    assert found.findings == {"matched": 1}
    assert found.figures["volume_error_percent"].mean == -25.0


def test_a_case_counts_once_however_many_anatomies_it_shows() -> None:
    rows = [row("a", "kidney_left", 0.4), row("a", "kidney_right", 0.6), row("b", "liver", 1.0)]
    found = summarise(rows, lambda _: "all")["all"]
    assert found.figures["dsc"].n == 2
    assert found.figures["dsc"].mean == pytest.approx(0.75)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=12))
def test_an_interval_lies_around_the_mean_within_the_values(values: list[float]) -> None:
    found = figure_of(values)
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9
    assert found.n == len(values)
    assert found == figure_of(values), "the same values give the same interval"


def test_an_interval_is_as_wide_as_theory_says_for_many_normal_values() -> None:
    values = np.random.default_rng(5).normal(0.7, 0.1, 60)
    found = figure_of(values.tolist())
    width = 2 * 1.96 * values.std(ddof=1) / 60**0.5
    assert found.high - found.low == pytest.approx(width, rel=0.1)


def test_one_value_has_no_interval_and_equal_ones_have_one_of_no_width() -> None:
    assert figure_of([0.5]).low is None
    assert figure_of([]).mean is None
    assert (figure_of([0.5, 0.5]).low, figure_of([0.5, 0.5]).high) == (0.5, 0.5)


def test_an_anatomy_has_its_place() -> None:
    assert place_of("liver").group == "abdomen/liver"
    assert place_of("kidney").region == "Abdomen"
    assert place_of("kidney_left+liver").group == "other"
    assert place_of("no such thing").region == "other"
