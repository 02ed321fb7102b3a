"""One temperature a decoder, by what held-out labels say and by nothing that they leave open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_networks import boxes, contract, make_decoder, make_encoder, make_patch

from clnet.anatomy import UNKNOWN, LabelContract, LabelEntry, Patch
from clnet.model import calibration
from clnet.model.calibration import FEWEST, HOTTEST, Calibration, Evidence, calibrate, likelihood
from clnet.model.decoder import Channel, Decoder
from clnet.model.supervision import supervise
from clnet.model.training import FeatureCache, Patches
from clnet.model.validation import Judged

LIVER, SPLEEN = Channel("liver", ("liver",)), Channel("spleen", ("spleen",))
KIDNEYS = (
    Channel("kidney_left", ("kidney_left",)),
    Channel("kidney_right", ("kidney_right",)),
)
SHAPE = (16, 16, 16)


def truth(seed: int = 0, classes: int = 3) -> np.ndarray:
    """Labels 0 to `classes` - 1 at random."""
    return np.random.default_rng(seed).integers(0, classes, SHAPE).astype(np.uint8)


def believed(labels: np.ndarray, channels: int, seed: int = 0, sure: float = 1.0) -> torch.Tensor:
    """Logits about as sure as they are right, `sure` times as sure."""
    generator = torch.Generator().manual_seed(seed)
    hot = torch.nn.functional.one_hot(torch.from_numpy(labels).long(), channels).float()
    logits = 2 * hot + torch.randn(hot.shape, generator=generator) * 2**0.5
    return sure * logits.movedim(-1, 0)[None]


def fitted(
    logits: torch.Tensor, labels: np.ndarray, meaning: LabelContract, channels: Sequence[Channel]
) -> Calibration | None:
    evidence = Evidence()
    patch = make_patch(labels, meaning)
    evidence.add(0, logits, supervise([patch], "organ", channels).allowed)
    return evidence.fit()


def temperature(*args: object) -> float:
    found = fitted(*args)  # type: ignore[arg-type]
    assert found is not None
    return found.temperature


BOTH = contract("liver", "spleen")


@pytest.mark.parametrize("factor", [0.5, 2.0, 3.0])
def test_a_decoder_that_is_surer_by_a_factor_gets_a_temperature_that_is_higher_by_it(
    factor: float,
) -> None:
    labels = truth()
    logits = believed(labels, 3)
    plain = temperature(logits, labels, BOTH, (LIVER, SPLEEN))
    assert temperature(factor * logits, labels, BOTH, (LIVER, SPLEEN)) == pytest.approx(
        factor * plain, rel=1e-3
    )


def test_the_likelihood_is_better_after_it_and_stated() -> None:
    labels = truth()
    logits = believed(labels, 3, sure=3.0)
    found = fitted(logits, labels, BOTH, (LIVER, SPLEEN))
    assert found is not None
    assert found.nll_after < found.nll_before
    seen = logits[0].argmax(dim=0) > 0
    assert found.voxels == int(seen.sum())
    of_truth = torch.nn.functional.cross_entropy(
        logits[0].movedim(0, -1)[seen], torch.from_numpy(labels).long()[seen]
    )
    assert found.nll_before == pytest.approx(float(of_truth), rel=1e-5)


def test_no_temperature_nearby_is_more_likely() -> None:
    labels = truth()
    patch = make_patch(labels, BOTH)
    logits = believed(labels, 3, sure=2.0)
    allowed = supervise([patch], "organ", (LIVER, SPLEEN)).allowed
    found = fitted(logits, labels, BOTH, (LIVER, SPLEEN))
    assert found is not None
    seen = logits.argmax(dim=1) != 0
    rows = [values.movedim(1, -1)[seen] for values in (logits.double(), allowed)]
    for factor in (0.98, 1.02):
        assert likelihood(rows[0], rows[1], factor * found.temperature) > found.nll_after


def test_what_the_decoder_does_with_unknown_voxels_changes_nothing() -> None:
    labels = truth()
    labels[:4] = UNKNOWN
    meaning, channels = contract("liver"), (LIVER, SPLEEN)  # of the spleen nothing is known
    labels[labels == 2] = 0
    logits = believed(truth(), 3)
    expected = fitted(logits, labels, meaning, channels)
    wild = logits.clone()
    wild[:, :, :4] = 30 * torch.randn(wild[:, :, :4].shape)
    assert fitted(wild, labels, meaning, channels) == expected
    known = labels.copy()
    known[:4] = 1
    assert fitted(wild, known, meaning, channels) != expected


def of_all(
    logits: torch.Tensor, labels: np.ndarray, meaning: LabelContract, channels: Sequence[Channel]
) -> float:
    """The likelihood of all voxels at temperature 1."""
    allowed = supervise([make_patch(labels, meaning)], "organ", channels).allowed
    rows = [values.movedim(1, -1).flatten(0, -2) for values in (logits.double(), allowed)]
    return likelihood(rows[0], rows[1])


def test_an_unlabelled_voxel_may_be_a_sibling_that_the_data_does_not_label() -> None:
    labels = np.where(truth() == 1, 1, 0)
    logits = believed(truth(), 3)
    exchanged = logits[:, [2, 1, 0]]  # background and spleen
    known = [
        of_all(each, labels, contract("liver"), (LIVER, SPLEEN)) for each in (logits, exchanged)
    ]
    assert known[0] == pytest.approx(known[1], rel=1e-9)


def test_a_union_label_counts_the_sum_of_its_channels() -> None:
    sides = truth()
    labels = np.where(sides > 0, 1, 0)
    union = LabelContract((LabelEntry(1, "organ", "kidney", ("kidney_left", "kidney_right")),))
    whole = Channel("kidney", ("kidney_left", "kidney_right"))
    logits = believed(sides, 3)
    summed = torch.stack((logits[:, 0], logits[:, 1:].logsumexp(dim=1)), dim=1)
    assert of_all(logits, labels, union, KIDNEYS) == pytest.approx(
        of_all(summed, labels, union, [whole]), rel=1e-6
    )
    exchanged = logits[:, [0, 2, 1]]  # which side it is, the label does not say
    assert temperature(exchanged, labels, union, KIDNEYS) == pytest.approx(
        temperature(logits, labels, union, KIDNEYS), rel=1e-3
    )


def test_what_lies_outside_a_labels_extent_counts_for_nothing() -> None:
    labels = truth(classes=2)
    within = LabelContract((LabelEntry(1, "organ", "liver", ("liver",), (20.0, 50.0)),))
    logits = believed(labels, 2)
    expected = fitted(logits, labels, within, (LIVER,))
    assert expected is not None
    labels[12:] = 1 - labels[12:]
    assert fitted(logits, labels, within, (LIVER,)) == expected


def test_too_few_voxels_fit_nothing() -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels.flat[:FEWEST] = 1
    logits = torch.zeros(1, 2, *SHAPE)
    claims = logits[0, 1].flatten()  # a view
    claims[:] = -1.0
    claims[: FEWEST - 1] = 1.0
    assert fitted(logits, labels, contract("liver"), (LIVER,)) is None
    claims[:FEWEST] = 1.0
    assert fitted(logits, labels, contract("liver"), (LIVER,)) is not None


@pytest.mark.parametrize("shift", [2.0, 3.0, 5.0])
def test_exact_posteriors_keep_their_temperature_however_hard_the_anatomy(shift: float) -> None:
    """A twentieth of the voxels, found by one measurement: Dice 0.44, 0.77 and 0.98."""
    rng = np.random.default_rng(0)
    labels = (rng.random((64, 64, 64)) < 0.05).astype(np.uint8)
    seen = rng.normal(size=labels.shape) + shift * labels
    odds = shift * seen - shift**2 / 2 + np.log(0.05 / 0.95)
    logits = torch.from_numpy(np.stack((np.zeros_like(odds), odds)))[None]
    found = temperature(logits, labels, contract("liver"), (LIVER,))
    assert found == pytest.approx(1.0, abs=0.1)


def test_what_is_always_right_ends_at_the_coldest() -> None:
    labels = truth(classes=2)
    logits = torch.from_numpy(labels * 2.0 - 1).float()
    always = torch.stack((-logits, logits))[None]
    assert temperature(always, labels, contract("liver"), (LIVER,)) == pytest.approx(
        1 / HOTTEST, abs=1e-3
    )


def test_the_sample_is_bounded_and_spread_over_all_batches() -> None:
    def sampled(size: int) -> Evidence:
        evidence = Evidence(size)
        for t in range(8):
            labels = truth(seed=t)
            allowed = supervise([make_patch(labels, BOTH)], "organ", (LIVER, SPLEEN)).allowed
            evidence.add(t, believed(labels, 3, seed=t), allowed)
        return evidence

    small, whole = sampled(2000), sampled(1 << 20)
    assert len(small) == 2000
    assert len(whole) > 8 * 2000
    few, all_of_them = small.fit(), whole.fit()
    assert few is not None
    assert all_of_them is not None
    assert few.temperature == pytest.approx(all_of_them.temperature, rel=0.1)
    assert few == sampled(2000).fit()


def patches(t: int) -> list[Patch]:
    """Bigger boxes than :func:`tiny_networks.boxes` have, two a batch."""
    return [
        replace(patch, image=np.tile(patch.image, (2, 2, 2)), z_mm=np.arange(16) * 5.0,
                labels={"organ": np.tile(patch.labels["organ"], (2, 2, 2))})
        for patch in boxes(t)
    ]  # fmt: skip


def multiplied(decoder: Decoder, factor: float) -> Decoder:
    """The decoder with its logits multiplied."""
    with torch.no_grad():
        for parameter in decoder.heads[0].parameters():
            parameter *= factor
    return decoder


def calibrated(
    decoders: dict[str, Decoder], stream: Patches = patches, cache: FeatureCache | None = None
) -> dict[str, Calibration]:
    judged = {name: Judged(decoder) for name, decoder in decoders.items()}
    return calibrate(make_encoder(), judged, stream, 2, precision="float32", cache=cache)


def test_decoders_are_calibrated_together_as_alone() -> None:
    decoders = {
        "two": make_decoder("liver", "spleen"),
        "bold": multiplied(make_decoder("liver", "spleen"), 2.0),
        "one": make_decoder("liver", seed=5),
    }
    together = calibrated(decoders)
    assert together == {k: v for n, d in decoders.items() for k, v in calibrated({n: d}).items()}
    assert set(together) == set(decoders)


def test_cached_features_are_not_encoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = FeatureCache(2, 1 << 30)
    encoder, decoder = make_encoder(), make_decoder("liver", "spleen")
    for t in range(2):
        batch = patches(t)
        images = torch.from_numpy(np.stack([p.image for p in batch])[:, None])
        cache.put(t, batch, encoder(images))

    def unread(t: int) -> list[Patch]:
        raise AssertionError

    assert calibrated({"a": decoder}, unread, cache) == calibrated({"a": decoder})
    monkeypatch.setattr(calibration, "FEWEST", 1 << 20)
    assert calibrated({"a": decoder}, unread, cache) == {}
