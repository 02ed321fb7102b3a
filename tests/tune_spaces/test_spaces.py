"""Search spaces as data, and the choice among trials."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from clnet.errors import InputError, JobFailed, NotFound
from clnet.model.lottery import PruningSchedule, milder_rates
from clnet.tune_spaces.objective import merit
from clnet.tune_spaces.search import Trial, choose
from clnet.tune_spaces.space import SearchSpace, list_spaces, load_space


def trial(rate: float, dsc: float, *, finished: bool = True) -> Trial:
    return Trial(rate, dsc, rate, "0" * 64, {"liver": dsc}, {}, finished)


@pytest.mark.parametrize("name", list_spaces())
def test_every_space_that_ships_is_valid(name: str) -> None:
    space = load_space(name)
    assert space.grace <= space.reports


def test_the_default_space_has_the_papers_rates() -> None:
    rates = load_space("default").rates
    assert (len(rates), rates[0], rates[-1]) == (15, 0.80, 0.998)


def test_a_space_of_ones_own_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("rates: [0.5]\nrecovery_steps: 3\n")
    assert load_space(file).rates == (0.5,)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("rates: []\nrecovery_steps: 3", "rates"),
        ("rates: [0.9, 0.8]\nrecovery_steps: 3", "ascend"),
        ("rates: [0.0, 0.8, 0.8]\nrecovery_steps: 3", "ascend"),
        ("rates: [1.5]\nrecovery_steps: 3", "below 1"),
        ("rates: [.nan, 0.5]\nrecovery_steps: 3", "below 1"),
        ("rates: [0.0, -0.5]\nrecovery_steps: 3", "every rate is 0 or less"),
        ("rates: [0.5]", "recovery_steps or recovery_epochs"),
        ("rates: [0.5]\nrecovery_steps: 3\nrecovery_epochs: 2", "recovery_steps or recovery"),
        ("rates: [0.5]\nrecovery_steps: 3\nno_such_field: 1", "no_such_field"),
        ("rates: [0.5]\nrecovery_steps: 3\nrewind: late", "rewind: .*write init, epoch:k, early"),
        ("rates: [0.5", "YAML"),
    ],
)
def test_a_file_that_is_no_space_is_refused_by_field(tmp_path: Path, text: str, field: str) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=field):
        load_space(file)


def test_rates_that_cut_nothing_are_skipped() -> None:
    assert SearchSpace(rates=(0.0, -0.2, 0.5, 0.9), recovery_steps=3).rates == (0.5, 0.9)
    narrow = milder_rates(4)
    space = SearchSpace(rates=narrow, recovery_steps=3)
    assert space.rates == PruningSchedule(rates=narrow).cuts


def test_a_space_that_is_not_there_is_not_found() -> None:
    with pytest.raises(NotFound, match="default"):
        load_space("no-such-space")


def test_the_highest_rate_within_the_tolerance_is_chosen() -> None:
    tried = [
        trial(0.8, 0.90),
        trial(0.9, 0.89),
        trial(0.95, 0.80),
        trial(0.99, 0.91, finished=False),
    ]
    best, within = choose(tried, 0.90, 0.02, "abdomen/liver@1")
    assert (best.rate, within) == (0.9, True)


def test_of_scopes_that_hold_a_rate_whole_channels_are_chosen() -> None:
    tried = [
        trial(0.9, 0.90),
        replace(trial(0.9, 0.89), scope="channel"),
        replace(trial(0.8, 0.95), scope="layer"),
    ]
    best, within = choose(tried, 0.90, 0.02, "abdomen/liver@1")
    assert (best.rate, best.scope, within) == (0.9, "channel", True)


def test_without_one_within_the_tolerance_the_best_is_a_candidate() -> None:
    best, within = choose([trial(0.8, 0.5), trial(0.9, 0.6)], 0.90, 0.02, "abdomen/liver@1")
    assert (best.rate, within) == (0.9, False)
    with pytest.raises(JobFailed):
        choose([trial(0.8, 0.9, finished=False)], 0.9, 0.02, "abdomen/liver@1")


@pytest.mark.parametrize("dense", [0.0, 0.02])
def test_nothing_holds_beside_a_dense_version_that_scores_no_more_than_the_tolerance(
    dense: float,
) -> None:
    tried = [trial(0.8, 0.01), trial(0.9, 0.0)]
    best, within = choose(tried, dense, 0.02, "abdomen/liver@1")
    assert (best.rate, within) == (0.8, False)


def test_merit_ranks_rates_that_hold_above_all_that_do_not() -> None:
    holds = [merit(rate, 0.89, 0.90, 0.02) for rate in (0.8, 0.9)]
    fails = [merit(0.99, dsc, 0.90, 0.02) for dsc in (0.2, 0.5)]
    assert fails == sorted(fails)
    assert holds == sorted(holds)
    assert max(fails) < 0 < min(holds)
