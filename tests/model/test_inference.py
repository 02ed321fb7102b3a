"""Sliding windows: what a decoder gives depends on encoder and decoder alone."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from streaming import (
    ALL,
    AMPLE,
    ENCODER,
    GUT,
    HEART,
    LEANING,
    LIVER,
    PANCREAS,
    PLAN,
    SPLEEN,
    WINDOW,
    least_budget,
    plan_only,
    small_blocks,
    streamed,
    volume,
    whole,
)

from clnet.errors import Cancelled, Incompatible, InputError
from clnet.model.inference import LoadedDecoder, LocalRunner, SlidingWindow, with_supporters

sizes = st.tuples(*[st.integers(1, 12)] * 3)
overlaps = st.sampled_from([0.0, 0.25, 0.5])


@settings(max_examples=12, deadline=None)
@given(
    image=sizes,
    output=sizes,
    overlap=overlaps,
    which=st.integers(0, 5),
    mirror=st.sampled_from([(), (), (2,), (0, 1)]),
    rows=st.tuples(*[st.integers(3, 7)] * 3),
    seed=st.integers(0, 9),
)
def test_streaming_equals_the_whole_volume_at_once(
    image: tuple[int, int, int],
    output: tuple[int, int, int],
    overlap: float,
    which: int,
    mirror: tuple[int, ...],
    rows: tuple[int, int, int],
    seed: int,
) -> None:
    window = SlidingWindow(overlap=overlap, precision="float32", mirror=mirror)
    decoder, scan = ALL[which], volume(image, seed)
    with small_blocks(rows):
        tight = least_budget(scan, [decoder], window=window, shape=output)
        found = streamed(scan, [decoder], window=window, shape=output, budget=tight)
    expected = whole(scan, decoder, window, output)
    torch.testing.assert_close(found[decoder.ref], expected, atol=2e-4, rtol=1e-4)


@settings(max_examples=6, deadline=None)
@given(
    image=sizes,
    output=sizes,
    order=st.permutations(ALL),
    count=st.integers(1, 4),
    spare=st.floats(1, 4),
)
def test_no_bit_depends_on_the_memory_at_hand(
    image: tuple[int, int, int],
    output: tuple[int, int, int],
    order: list[LoadedDecoder],
    count: int,
    spare: float,
) -> None:
    scan, decoders = volume(image), order[:count]
    with small_blocks():
        ample = streamed(scan, decoders, shape=output)
        budget = int(spare * least_budget(scan, decoders, shape=output))
        tight = streamed(scan, decoders, shape=output, budget=budget)
    for ref, logits in ample.items():
        assert torch.equal(tight[ref], logits)


def test_a_tight_budget_takes_more_passes_and_tiles() -> None:
    scan = volume((20, 20, 20))
    with small_blocks():
        ample = plan_only(scan, ALL, AMPLE)
        tight = plan_only(scan, ALL, least_budget(scan, ALL))
    assert (len(ample.passes), len(ample.tiles)) == (1, 1)
    assert len(tight.passes) > 1
    assert len(tight.tiles) > 1
    assert tight.memory < ample.memory / 4


def test_logits_are_bit_identical_whatever_runs_along_and_in_whatever_order() -> None:
    image = volume((11, 8, 9))
    alone = {d.ref: streamed(image, [d])[d.ref] for d in ALL}
    for order in list(permutations(ALL))[::90]:
        together = streamed(image, order)
        for ref, logits in alone.items():
            assert torch.equal(together[ref], logits)


@settings(max_examples=12, deadline=None)
@given(
    subset=st.sets(st.sampled_from(range(5)), min_size=1),
    starts=st.tuples(*[st.integers(0, 11)] * 5),
    depth=st.integers(1, 6),
    seed=st.integers(0, 5),
)
def test_gating_one_decoder_changes_no_bit_of_another(
    subset: set[int], starts: tuple[int, ...], depth: int, seed: int
) -> None:
    image = volume((14, 8, 8), seed)
    where = {
        d.ref: slice(first, min(14, first + depth))
        for d, first in zip(ALL[:5], starts, strict=True)
    }
    ordered = [ALL[i] for i in sorted(subset)]
    with small_blocks():
        together = streamed(image, ordered, where)
        for decoder in ordered:
            part = where[decoder.ref]
            whole = streamed(image, [decoder])[decoder.ref]
            assert torch.equal(together[decoder.ref][:, part], whole[:, part])


class Counting:
    """Notes which decoders run."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def __call__(
        self,
        decoder: LoadedDecoder,
        features: Sequence[torch.Tensor],
        support: Sequence[Sequence[torch.Tensor]],
    ) -> Sequence[torch.Tensor]:
        self.ran.append(decoder.ref)
        return LocalRunner("float32")(decoder, features, support)


def test_a_supporter_runs_where_it_is_leaned_on_and_is_not_reported_there() -> None:
    image, run = volume((24, 8, 8)), Counting()
    where = {LIVER.ref: slice(0, 4), PANCREAS.ref: slice(20, 24)}
    found = streamed(image, [LIVER, PANCREAS], where, run=run)
    assert found[LIVER.ref][:, :4].isfinite().all()
    windows = len(WINDOW.starts(24, 8))
    assert run.ran.count(PANCREAS.ref) == run.ran.count(SPLEEN.ref) < windows
    assert run.ran.count(LIVER.ref) == 2 * run.ran.count(PANCREAS.ref)


def test_windows_computed_elsewhere_and_in_parallel_give_the_same_bits() -> None:
    image = volume((17, 9, 8))
    near = {HEART.ref, GUT.ref}

    with ThreadPoolExecutor(3) as pool:

        def elsewhere(
            decoder: LoadedDecoder,
            features: Sequence[torch.Tensor],
            support: Sequence[Sequence[torch.Tensor]],
        ) -> Future[Sequence[torch.Tensor]] | Sequence[torch.Tensor]:
            if decoder.ref in near:
                return LocalRunner("float32")(decoder, features, support)
            return pool.submit(LocalRunner("float32"), decoder, features, support)

        window = SlidingWindow(overlap=0.5, in_flight=3, precision="float32")
        where = {LEANING.ref: slice(9, 17), PANCREAS.ref: slice(0, 3)}
        parallel = streamed(image, ALL, where, window=window, run=elsewhere)
    for ref, logits in streamed(image, ALL, where).items():
        np.testing.assert_array_equal(parallel[ref], logits)


@settings(max_examples=10, deadline=None)
@given(shape=st.tuples(*[st.integers(1, 14)] * 3), overlap=overlaps)
def test_every_voxel_is_an_average_of_windows(shape: tuple[int, int, int], overlap: float) -> None:
    def constant(
        decoder: LoadedDecoder,
        features: Sequence[torch.Tensor],
        support: Sequence[Sequence[torch.Tensor]],
    ) -> list[torch.Tensor]:
        return [torch.full((1, 2, 8, 8, 8), 3.0)]

    window = SlidingWindow(overlap=overlap, precision="float32")
    logits = streamed(torch.zeros(shape), [LIVER], window=window, run=constant)[LIVER.ref]
    assert logits.shape == (2, *shape)
    torch.testing.assert_close(logits, torch.full_like(logits, 3.0))


def test_a_volume_of_one_window_is_what_the_networks_give() -> None:
    image = volume((8, 8, 8))
    for decoder in (LIVER, GUT):
        assert decoder.decoder is not None
        with torch.inference_mode():
            expected = decoder.decoder(ENCODER(image[None, None]))[0][0]
        torch.testing.assert_close(streamed(image, [decoder])[decoder.ref], expected)


def test_a_small_volume_is_padded_with_air() -> None:
    image = volume((3, 8, 5))
    padded = torch.full((8, 8, 8), PLAN.air)
    padded[2:5, :, 1:6] = image
    expected = streamed(padded, [LIVER])[LIVER.ref][:, 2:5, :, 1:6]
    assert torch.equal(streamed(image, [LIVER])[LIVER.ref], expected)


def test_windows_overlap_as_asked_and_reach_both_ends() -> None:
    starts = SlidingWindow(overlap=0.5).starts(30, 8)
    assert starts[0] == 0
    assert starts[-1] == 22
    assert max(np.diff(starts)) <= 4


def test_progress_is_told_to_the_end() -> None:
    told: list[float] = []
    streamed(volume((16, 8, 8)), [LIVER], told=lambda done, text: told.append(done))
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_progress_goes_on_while_blocks_are_merged() -> None:
    told: list[tuple[float, str]] = []
    with small_blocks((2, 3, 4)):
        streamed(volume((16, 8, 8)), [LIVER], told=lambda *now: told.append(now))
    done = [fraction for fraction, _ in told]
    assert done == sorted(set(done))
    rows = [text for _, text in told if text.startswith("merging")]
    assert len(rows) == 8 * 3
    assert rows[-1] == "merging slices up to 16 of 16"


def test_work_that_is_cancelled_ends_at_the_next_window() -> None:
    run = Counting()
    with pytest.raises(Cancelled, match="nothing of it was kept"):
        streamed(volume((16, 16, 16)), [LIVER], run=run, cancelled=lambda: len(run.ran) > 2)
    assert len(run.ran) == 3


def test_a_missing_supporter_is_named() -> None:
    with pytest.raises(Incompatible, match=LIVER.sha256[:12]):
        with_supporters([PANCREAS], [PANCREAS, SPLEEN])


def test_a_decoder_without_weights_needs_a_runner() -> None:
    empty = replace(LIVER, ref="a/b@1", decoder=None)
    with pytest.raises(Incompatible, match="a/b@1"):
        LocalRunner()(empty, [torch.zeros(1)], [])


@pytest.mark.parametrize(
    "bad", [{"overlap": 1.0}, {"overlap": -0.1}, {"in_flight": 0}, {"mirror": (3,)}]
)
def test_nonsense_windows_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(InputError, match="sliding window"):
        SlidingWindow(**bad)  # type: ignore[arg-type]
