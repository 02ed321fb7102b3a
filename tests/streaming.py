"""Volumes streamed through tiny decoders, and the same computed naively on the whole volume."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_networks import TINY, make_encoder

from clnet.model.artefact import DecoderInfo, encode_decoder
from clnet.model.blocks import Blocks, Cut
from clnet.model.decoder import Channel, DecoderConfig, Supporter, build_decoder
from clnet.model.geometry import linear_matrix
from clnet.model.grid import Grid
from clnet.model.inference import (
    LoadedDecoder,
    LocalRunner,
    SlidingWindow,
    finest_head,
    with_supporters,
)
from clnet.model.plan import Plan
from clnet.model.readout import Block, Readout
from clnet.model.schedule import Demand, Schedule, schedule
from clnet.model.stream import Stream
from clnet.model.watch import Watch

PLAN = Plan(spacing=(6.0, 6.0, 6.0), patch_size=(8, 8, 8))
ENCODER = make_encoder()
WINDOW = SlidingWindow(overlap=0.5, precision="float32")
AMPLE = 1 << 40


def loaded(
    ref: str, *names: str, seed: int = 0, supporters: Sequence[LoadedDecoder] = ()
) -> LoadedDecoder:
    """A tiny decoder of width 4."""
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
# more classes than features: its head waits until windows are averaged
MANY = ("kidney_left", "kidney_right", "duodenum", "colon", "urinary_bladder", "prostate")
GUT = loaded("abdomen/gut@1", *MANY, seed=5)
LEANING = loaded("abdomen/vessels@1", "portal_vein", seed=6, supporters=(GUT,))
ALL = (LIVER, SPLEEN, PANCREAS, HEART, GUT, LEANING)


def volume(shape: tuple[int, int, int], seed: int = 0) -> torch.Tensor:
    """Normalised noise."""
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


@contextmanager
def small_blocks(rows: tuple[int, int, int] = (2, 3, 4)) -> Iterator[None]:
    """Blocks of a few voxels, so that tiny volumes have many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clnet.model.blocks.MOST_ROWS", rows)
        patch.setattr("clnet.model.readout.LOGIT_VALUES", 64)
        yield


def streamed(
    image: torch.Tensor,
    decoders: Sequence[LoadedDecoder],
    slices: Mapping[str, slice] | None = None,
    window: SlidingWindow = WINDOW,
    *,
    shape: tuple[int, int, int] | None = None,
    budget: int = AMPLE,
    run: object = None,
    told: Callable[[float, str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> dict[str, torch.Tensor]:
    """Logits by ref on a grid of `shape`, the volume's own by default.

    Decoders run in the order given, except that supporters come first. Slices that were not
    asked for are NaN.
    """
    ordered: list[LoadedDecoder] = []
    for decoder in decoders:
        ordered += [d for d in with_supporters([decoder], ALL) if d not in ordered]
    where = {d.ref: (slices or {}).get(d.ref, slice(0, len(image))) for d in decoders}
    output = shape or tuple(image.shape)
    back = [linear_matrix(size, to) for size, to in zip(image.shape, output, strict=True)]
    stream = Stream(
        image.numpy(),
        PLAN.air,
        Grid.of(tuple(image.shape), PLAN.patch_size, window),
        Blocks.of(tuple(back)),
        ENCODER,
        {d.sha256: d for d in ordered},
        {ref: (part.start, part.stop) for ref, part in where.items()},
        window,
        run or LocalRunner(window.precision),  # type: ignore[arg-type]
    )
    demands = [Demand(d.ref, 0, d.channels, stream.slices[d.ref], 1.0) for d in decoders]
    plan = schedule(stream.grid, stream.blocks, demands, 3.0, 0, budget)
    found = {
        d.ref: torch.full((len(d.info.config.channels) + 1, *output), torch.nan) for d in decoders
    }

    def keep(index: int, cuts: tuple[Cut, Cut, Cut], blocks: Mapping[str, Block]) -> None:
        z, y, x = (slice(*cut.rows) for cut in cuts)
        for ref, block in blocks.items():
            decoder = next(d for d in decoders if d.ref == ref)
            head = finest_head(decoder) if decoder.info.config.deferred else None
            logits = Readout((), head=head).logits(block)
            logits[:, ~block.z.covered()] = torch.nan
            found[ref][:, z, y, x] = logits

    stream.flow(plan, keep, Watch(told, cancelled))
    return found


def least_budget(image: torch.Tensor, decoders: Sequence[LoadedDecoder], **extra: object) -> int:
    """The smallest budget that still does."""
    low, high = 1, 1 << 26
    while low < high:
        middle = (low + high) // 2
        try:
            plan_only(image, decoders, middle, **extra)  # type: ignore[arg-type]
            high = middle
        except ValueError:
            low = middle + 1
    return high


def plan_only(
    image: torch.Tensor,
    decoders: Sequence[LoadedDecoder],
    budget: int,
    window: SlidingWindow = WINDOW,
    shape: tuple[int, int, int] | None = None,
) -> Schedule:
    """The schedule of :func:`streamed`."""
    output = shape or tuple(image.shape)
    back = [linear_matrix(size, to) for size, to in zip(image.shape, output, strict=True)]
    demands = [Demand(d.ref, 0, d.channels, (0, len(image)), 1.0) for d in decoders]
    grid = Grid.of(tuple(image.shape), PLAN.patch_size, window)
    return schedule(grid, Blocks.of(tuple(back)), demands, 3.0, 0, budget)


@torch.inference_mode()
def whole(
    image: torch.Tensor,
    decoder: LoadedDecoder,
    window: SlidingWindow = WINDOW,
    shape: tuple[int, int, int] | None = None,
) -> torch.Tensor:
    """Logits ``(K + 1, Z, Y, X)`` as the textbook has it: all classes of all voxels at once."""
    padded = [max(size, 8) for size in image.shape]
    before = [(p - s) // 2 for s, p in zip(image.shape, padded, strict=True)]
    inside = tuple(slice(b, b + s) for b, s in zip(before, image.shape, strict=True))
    full = torch.full(padded, PLAN.air)
    full[inside] = image
    offsets = torch.arange(8) - 3.5
    bell = torch.exp(-0.5 * (offsets / (0.125 * 8)) ** 2).double()
    weight = bell[:, None, None] * bell[:, None] * bell
    total = torch.zeros((len(decoder.info.config.channels) + 1, *padded), dtype=torch.float64)
    mass = torch.zeros(padded, dtype=torch.float64)
    starts = [window.starts(size, 8) for size in padded]
    for corner in torch.cartesian_prod(*map(torch.tensor, starts)).view(-1, 3).tolist():
        box = tuple(slice(c, c + 8) for c in corner)
        for flips in window.flips:
            axes = [axis + 2 for axis in flips]
            logits = _logits(full[box][None, None].flip(axes), decoder)[0]
            total[(slice(None), *box)] += logits.flip([a - 1 for a in axes]).double() * weight
            mass[box] += weight
    mean = (total / mass)[(slice(None), *inside)].float()
    if shape is None:
        return mean
    return F.interpolate(mean[None], size=shape, mode="trilinear", align_corners=False)[0]


def _logits(patch: torch.Tensor, decoder: LoadedDecoder) -> torch.Tensor:
    features = ENCODER(patch)

    def run(decoder: LoadedDecoder) -> list[torch.Tensor]:
        by_sha = {d.sha256: d for d in ALL}
        support = [run(by_sha[s.sha256]) for s in decoder.info.config.supporters]
        assert decoder.decoder is not None
        logits: list[torch.Tensor] = decoder.decoder(features, support)
        return logits

    return run(decoder)[0]
