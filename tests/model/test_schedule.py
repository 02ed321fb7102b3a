"""The schedule: a pure function of sizes, whose every plan fits and misses nothing."""

from __future__ import annotations

import itertools
import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clnet.errors import InputError
from clnet.model.blocks import Blocks
from clnet.model.geometry import linear_matrix
from clnet.model.grid import Grid
from clnet.model.inference import SlidingWindow
from clnet.model.schedule import Demand, Schedule, Walk, schedule

ENCODER = 4.0


def setting(
    plan: tuple[int, int, int],
    scan: tuple[int, int, int],
    patch: tuple[int, int, int] = (16, 24, 24),
    overlap: float = 0.5,
) -> tuple[Grid, Blocks]:
    back = tuple(linear_matrix(p, s) for p, s in zip(plan, scan, strict=True))
    return Grid.of(plan, patch, SlidingWindow(overlap=overlap)), Blocks.of(back)


@st.composite
def settings_and_demands(draw: st.DrawFn) -> tuple[Grid, Blocks, list[Demand]]:
    plan = draw(st.tuples(st.integers(1, 90), st.integers(1, 150), st.integers(1, 150)))
    scan = draw(st.tuples(st.integers(1, 200), st.integers(1, 400), st.integers(1, 400)))
    grid, blocks = setting(plan, scan, overlap=draw(st.sampled_from([0.0, 0.25, 0.5])))
    demands = []
    for index in range(draw(st.integers(1, 12))):
        first = draw(st.integers(0, plan[0] - 1))
        demands.append(
            Demand(
                f"decoder-{index}",
                draw(st.integers(0, 2)),
                draw(st.sampled_from([2, 4, 8, 32])),
                (first, draw(st.integers(first + 1, plan[0]))),
                draw(st.floats(0.1, 5)),
                draw(st.sampled_from(["", "", "", "bond"])),
            )
        )
    return grid, blocks, demands


def simulated(grid: Grid, blocks: Blocks, demands: list[Demand], plan: Schedule) -> int:
    """Bytes of sums that the walk really holds at most, asked voxel by voxel."""
    walk = Walk(grid, blocks)
    by_key = {d.key: d for d in demands}
    most = 0
    for keys in plan.passes:
        for tile in plan.tiles:
            area = (tile.rows[1] - tile.rows[0]) * (tile.columns[1] - tile.columns[0])
            for row in range(len(grid.z.starts)):
                live = [by_key[k] for k in keys if row in walk.alive(by_key[k].z)]
                depths = [min(walk.depth, d.z[1] - d.z[0]) for d in live]
                held = sum(n * d.channels for n, d in zip(depths, live, strict=True))
                most = max(most, 4 * held * area)
    return most


@settings(max_examples=40, deadline=None)
@given(case=settings_and_demands(), share=st.floats(0.02, 1.5), fixed=st.integers(0, 1 << 20))
def test_every_schedule_fits_and_misses_nothing(
    case: tuple[Grid, Blocks, list[Demand]], share: float, fixed: int
) -> None:
    grid, blocks, demands = case
    ample = schedule(grid, blocks, demands, ENCODER, fixed, 1 << 60)
    budget = fixed + int(share * (ample.memory - fixed))
    try:
        plan = schedule(grid, blocks, demands, ENCODER, fixed, budget)
    except InputError as error:
        assert "allow more" in str(error)  # noqa: PT017
        return
    assert plan.memory == fixed + simulated(grid, blocks, demands, plan)
    assert plan.memory <= budget
    assert sorted(k for keys in plan.passes for k in keys) == sorted(d.key for d in demands)
    covered = torch.zeros(len(blocks.y), len(blocks.x))
    for tile in plan.tiles:
        covered[slice(*tile.y), slice(*tile.x)] += 1
        for cuts, span, needed in (
            (blocks.y, tile.y, tile.rows),
            (blocks.x, tile.x, tile.columns),
        ):
            assert all(
                needed[0] <= cut.source[0] and cut.source[1] <= needed[1]
                for cut in cuts[slice(*span)]
            )
    assert (covered == 1).all()
    by_key = {d.key: d for d in demands}
    tiers = [[by_key[k].tier for k in keys] for keys in plan.passes]
    assert all(max(a) <= min(b) for a, b in itertools.pairwise(tiers))
    bound = {
        (by_key[k].tier, index)
        for index, keys in enumerate(plan.passes)
        for k in keys
        if by_key[k].bond
    }
    assert len(bound) == len({tier for tier, _ in bound})
    assert plan.encodings >= plan.fewest


@settings(max_examples=30, deadline=None)
@given(case=settings_and_demands(), fixed=st.integers(0, 200 << 20), short=st.integers(1, 1 << 20))
def test_what_a_refusal_names_is_accepted(
    case: tuple[Grid, Blocks, list[Demand]], fixed: int, short: int
) -> None:
    budget = max(1, fixed - short)
    with pytest.raises(InputError, match=r"memory budget of \d+ MiB") as refused:
        schedule(*case, ENCODER, fixed, budget)
    has, takes = (int(n) for n in re.findall(r"(\d+) MiB", str(refused.value)))
    assert has < takes
    assert schedule(*case, ENCODER, fixed, takes << 20).memory <= takes << 20


@settings(max_examples=20, deadline=None)
@given(case=settings_and_demands())
def test_with_room_for_all_everything_is_seen_once(
    case: tuple[Grid, Blocks, list[Demand]],
) -> None:
    plan = schedule(*case, ENCODER, 0, 1 << 60)
    assert len(plan.passes) == 1
    # several tiles only where that spares windows between them that nothing is read from
    one_tile = case[0].z.starts, case[0].y.starts, case[0].x.starts
    windows = math.prod(len(starts) for starts in one_tile)
    assert plan.encodings <= windows if len(plan.tiles) > 1 else plan.encodings == plan.fewest


def test_memory_grows_neither_with_slices_nor_with_decoders() -> None:
    def taken(slices: int, decoders: int) -> int:
        grid, blocks = setting((slices, 100, 100), (slices, 250, 250))
        demands = [Demand(f"{i}", 0, 8, (0, slices), 1.0) for i in range(decoders)]
        return schedule(grid, blocks, demands, ENCODER, 0, 24 << 20).memory

    assert taken(2000, 3) == pytest.approx(taken(100, 3), rel=0.1)
    assert taken(200, 100) <= 24 << 20


def test_decoders_of_different_body_parts_share_a_pass_and_its_memory() -> None:
    grid, blocks = setting((200, 48, 48), (200, 48, 48))
    low = [Demand(f"low-{i}", 0, 8, (0, 40), 1.0) for i in range(3)]
    high = [Demand(f"high-{i}", 0, 8, (150, 200), 1.0) for i in range(3)]
    alone = schedule(grid, blocks, low, ENCODER, 0, 1 << 60)
    plan = schedule(grid, blocks, [*low, *high], ENCODER, 0, alone.memory)
    assert len(plan.passes) == 1


def test_less_memory_is_bought_with_more_encodings_and_is_told() -> None:
    grid, blocks = setting((60, 60, 60), (60, 60, 60))
    demands = [Demand(f"{i}", 0, 8, (0, 60), 1.0) for i in range(10)]
    plan = schedule(grid, blocks, demands, ENCODER, 0, 12 << 20)
    assert len(plan.passes) > 1
    assert plan.encodings == len(plan.passes) * plan.fewest
    assert f"10 decoders in {len(plan.passes)} passes and 1 tile" in plan.describe()
    assert "of 12 MiB" in plan.describe()


def test_a_budget_that_cannot_be_is_refused_with_what_it_takes() -> None:
    grid, blocks = setting((60, 60, 60), (60, 60, 60))
    demand = Demand("a", 0, 8, (0, 60), 1.0)
    with pytest.raises(InputError, match=r"budget of 1 MiB: this scan takes (\d+) MiB") as caught:
        schedule(grid, blocks, [demand], ENCODER, 1 << 20, 1 << 20)
    need = int(str(caught.value).split("takes ")[1].split(" ")[0])
    assert schedule(grid, blocks, [demand], ENCODER, 1 << 20, (need + 1) << 20).passes == (("a",),)
