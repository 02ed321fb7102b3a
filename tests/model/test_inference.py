"""Sliding windows: what a decoder gives depends on encoder and decoder alone."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha256
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_networks import TINY, make_encoder

from clnet.errors import Incompatible, InputError
from clnet.model.artefact import DecoderInfo, encode_decoder
from clnet.model.decoder import Channel, DecoderConfig, Supporter, build_decoder
from clnet.model.inference import (
    LoadedDecoder,
    LocalRunner,
    SlidingWindow,
    decode_volume,
    with_supporters,
)
from clnet.model.plan import Plan

PLAN = Plan(spacing=(6.0, 6.0, 6.0), patch_size=(8, 8, 8))
ENCODER = make_encoder()
WINDOW = SlidingWindow(overlap=0.5, precision="float32")
NAMES = ("liver", "spleen", "stomach", "pancreas", "heart", "aorta")


def loaded(
    ref: str, *names: str, seed: int = 0, supporters: Sequence[LoadedDecoder] = ()
) -> LoadedDecoder:
    config = DecoderConfig(
        ref.split("@")[0],
        "organ",
        tuple(Channel(name, (name,)) for name in names),
        widths=(4, 4),
        heads=2,
        supporters=tuple(Supporter(s.sha256, len(s.info.config.channels) + 1) for s in supporters),
    )
    info = DecoderInfo(config, "0" * 64, TINY, learned=names)
    decoder = build_decoder(config, TINY, seed).eval()
    return LoadedDecoder(ref, decoder, info, 0, sha256(encode_decoder(decoder, info)).hexdigest())


LIVER = loaded("abdomen/liver@1", "liver", seed=1)
SPLEEN = loaded("abdomen/spleen@1", "spleen", "stomach", seed=2)
PANCREAS = loaded("abdomen/pancreas@1", "pancreas", seed=3, supporters=(LIVER, SPLEEN))
HEART = loaded("chest/heart@1", "heart", "aorta", seed=4)
ALL = (LIVER, SPLEEN, PANCREAS, HEART)


def volume(shape: tuple[int, int, int], seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def decode(
    image: torch.Tensor,
    decoders: Sequence[LoadedDecoder],
    slices: dict[str, slice] | None = None,
    window: SlidingWindow = WINDOW,
    **extra: object,
) -> dict[str, torch.Tensor]:
    """Logits by ref, for decoders in the order given except that supporters come first."""
    ordered: list[LoadedDecoder] = []
    for decoder in decoders:
        ordered += [d for d in with_supporters([decoder], ALL) if d not in ordered]
    where = slices or {d.ref: slice(0, len(image)) for d in decoders}
    by_sha = {d.sha256: where[d.ref] for d in decoders}
    slabs = decode_volume(image, ENCODER, PLAN, ordered, by_sha, window, **extra)  # type: ignore[arg-type]
    return {d.ref: slabs[d.sha256].logits for d in decoders}


def test_logits_are_bit_identical_whatever_runs_along_and_in_whatever_order() -> None:
    image = volume((11, 8, 9))
    alone = {d.ref: decode(image, [d])[d.ref] for d in ALL}
    for order in list(permutations(ALL))[::4]:
        together = decode(image, order)
        for ref, logits in alone.items():
            assert torch.equal(together[ref], logits)


@settings(max_examples=12, deadline=None)
@given(
    subset=st.sets(st.sampled_from(range(4)), min_size=1),
    starts=st.tuples(*[st.integers(0, 11)] * 4),
    depth=st.integers(1, 6),
    seed=st.integers(0, 5),
)
def test_gating_one_decoder_changes_no_bit_of_another(
    subset: set[int], starts: tuple[int, ...], depth: int, seed: int
) -> None:
    image = volume((14, 8, 8), seed)
    where = {
        d.ref: slice(first, min(14, first + depth)) for d, first in zip(ALL, starts, strict=True)
    }
    ordered = [ALL[i] for i in sorted(subset)]
    together = decode(image, ordered, where)
    for decoder in ordered:
        whole = decode(image, [decoder])[decoder.ref]
        assert torch.equal(together[decoder.ref], whole[:, where[decoder.ref]])


def test_a_supporter_runs_where_it_is_leaned_on_and_is_not_reported_there() -> None:
    image = volume((24, 8, 8))
    ran: list[str] = []

    class Counting(LocalRunner):
        def __call__(self, decoder, features, support):  # type: ignore[no-untyped-def]
            ran.append(decoder.ref)
            return super().__call__(decoder, features, support)

    where = {LIVER.ref: slice(0, 4), PANCREAS.ref: slice(20, 24)}
    found = decode(image, [LIVER, PANCREAS], where, run=Counting("float32"))
    assert found[LIVER.ref].shape == (2, 4, 8, 8)
    windows = len(WINDOW.starts(24, 8))
    assert ran.count(PANCREAS.ref) == ran.count(SPLEEN.ref) < windows
    assert ran.count(LIVER.ref) == 2 * ran.count(PANCREAS.ref)


def test_windows_computed_elsewhere_and_in_parallel_give_the_same_bits() -> None:
    image = volume((17, 9, 8))

    with ThreadPoolExecutor(3) as pool:

        def elsewhere(
            decoder: LoadedDecoder,
            features: Sequence[torch.Tensor],
            support: Sequence[Sequence[torch.Tensor]],
        ) -> Future[Sequence[torch.Tensor]]:
            return pool.submit(LocalRunner("float32"), decoder, features, support)

        window = SlidingWindow(overlap=0.5, in_flight=3, precision="float32")
        parallel = decode(image, ALL, window=window, run=elsewhere)
    for ref, logits in decode(image, ALL).items():
        assert torch.equal(parallel[ref], logits)


@settings(max_examples=10, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 14)] * 3),
    overlap=st.sampled_from([0.0, 0.25, 0.5, 0.75]),
)
def test_every_voxel_is_an_average_of_windows(shape: tuple[int, int, int], overlap: float) -> None:
    def constant(
        decoder: LoadedDecoder,
        features: Sequence[torch.Tensor],
        support: Sequence[Sequence[torch.Tensor]],
    ) -> list[torch.Tensor]:
        return [torch.full((1, 2, 8, 8, 8), 3.0)]

    window = SlidingWindow(overlap=overlap, precision="float32")
    logits = decode(torch.zeros(shape), [LIVER], window=window, run=constant)[LIVER.ref]
    assert logits.shape == (2, *shape)
    torch.testing.assert_close(logits, torch.full_like(logits, 3.0))


def test_a_volume_of_one_window_is_what_the_networks_give() -> None:
    image = volume((8, 8, 8))
    assert LIVER.decoder is not None
    with torch.inference_mode():
        expected = LIVER.decoder(ENCODER(image[None, None]))[0][0]
    torch.testing.assert_close(decode(image, [LIVER])[LIVER.ref], expected)


def test_a_small_volume_is_padded_with_air() -> None:
    image = volume((3, 8, 5))
    padded = torch.full((8, 8, 8), PLAN.air)
    padded[2:5, :, 1:6] = image
    expected = decode(padded, [LIVER])[LIVER.ref][:, 2:5, :, 1:6]
    assert torch.equal(decode(image, [LIVER])[LIVER.ref], expected)


def test_windows_overlap_as_asked_and_reach_both_ends() -> None:
    starts = SlidingWindow(overlap=0.5).starts(30, 8)
    assert starts[0] == 0
    assert starts[-1] == 22
    assert max(np.diff(starts)) <= 4


def test_progress_is_told_to_the_end() -> None:
    told: list[float] = []
    decode(volume((16, 8, 8)), [LIVER], progress=lambda done, text: told.append(done))
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_a_missing_supporter_is_named() -> None:
    with pytest.raises(Incompatible, match=LIVER.sha256[:12]):
        with_supporters([PANCREAS], [PANCREAS, SPLEEN])


def test_a_decoder_without_weights_needs_a_runner() -> None:
    empty = LoadedDecoder("a/b@1", None, LIVER.info, 0, LIVER.sha256)
    with pytest.raises(Incompatible, match="a/b@1"):
        LocalRunner()(empty, [torch.zeros(1)], [])


@pytest.mark.parametrize("bad", [{"overlap": 1.0}, {"overlap": -0.1}, {"in_flight": 0}])
def test_nonsense_windows_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(InputError, match="sliding window"):
        SlidingWindow(**bad)  # type: ignore[arg-type]
