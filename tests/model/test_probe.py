"""Probes: the same bytes for the same decoder, small, and never trusted when read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tiny_networks import TINY, make_decoder, make_encoder

from clnet.anatomy.phantom import render
from clnet.errors import ClnetError, Incompatible, IntegrityError
from clnet.model.artefact import DecoderInfo, pack_artefact
from clnet.model.body_part_curve import Range
from clnet.model.plan import Plan
from clnet.model.probe import (
    STORED_BYTES,
    Probe,
    ProbedNetworks,
    _coarse,
    _digest,
    _packed,
    _stride,
    _unpacked,
    compare,
    decode_probe,
    encode_probe,
    make_probe,
)
from clnet.model.probe_input import PhantomPatch, choose_patch

PLAN = Plan(spacing=(6.0, 6.0, 6.0), patch_size=(16, 16, 16))


def networks(*names: str, seed: int = 1) -> ProbedNetworks:
    decoder = make_decoder(*names, seed=seed).eval()
    info = DecoderInfo(decoder.config, "e" * 64, TINY)
    return ProbedNetworks(make_encoder(), PLAN, "e" * 64, {"d" * 64: (decoder, info)})


def test_asking_again_gives_the_same_bits_and_bytes() -> None:
    probe = make_probe(networks("liver"), "d" * 64)
    data = encode_probe(probe)
    assert encode_probe(make_probe(networks("liver"), "d" * 64)) == data
    assert encode_probe(decode_probe(data)) == data
    answer = compare(decode_probe(data), networks("liver"))
    assert (answer.outcome, answer.same_class, answer.difference) == ("identical", True, 0.0)


def test_another_version_answers_otherwise() -> None:
    probe = make_probe(networks("liver"), "d" * 64)
    answer = compare(probe, networks("liver", seed=2))
    assert (answer.outcome, answer.same_class) == ("changed", True)
    assert answer.difference > 0.1
    abroad = replace(probe, numerics=probe.numerics | {"torch": "0"})
    assert compare(abroad, networks("liver", seed=2)).outcome == "changed"


def test_the_other_precision_lies_within_its_tolerance() -> None:
    found = networks("liver", "spleen")
    probe = make_probe(found, "d" * 64)
    other = {"float32": "bfloat16", "bfloat16": "float32"}[probe.numerics["dtype"]]
    answer = compare(replace(probe, numerics=probe.numerics | {"dtype": other}), found)
    assert 0 < answer.difference < 0.1


def test_whatever_differs_between_numerics_classes_is_told() -> None:
    found = networks("liver")
    probe = make_probe(found, "d" * 64)
    here = probe.numerics
    without = {key: value for key, value in here.items() if key != "device"}
    for then, told in (
        (without, f"device None then, {here['device']!r} here"),
        (here | {"later": "yes"}, "later 'yes' then, None here"),
    ):
        answer = compare(replace(probe, numerics=then, logits_sha256="0" * 64), found)
        assert (answer.outcome, answer.same_class) == ("within tolerance", False)
        assert told in answer.detail


def test_a_phantom_that_rounds_otherwise_is_another_class_and_a_new_one_is_told() -> None:
    found = networks("liver")
    probe = make_probe(found, "d" * 64)
    rounded = replace(probe, input_sha256="0" * 64, logits_sha256="0" * 64, hu=probe.hu + 1)
    answer = compare(rounded, found)
    assert (answer.outcome, answer.same_class) == ("within tolerance", False)
    redrawn = compare(replace(rounded, hu=probe.hu + 50), found)
    assert redrawn.outcome == "changed"
    assert "rendered otherwise" in redrawn.detail


def rounded_otherwise(probe: Probe, found: ProbedNetworks) -> Probe:
    """The probe as a machine made it that rounds some voxels of the phantom up or down."""
    hu = probe.patch.render()
    hu += np.random.default_rng(0).choice([-1, 0, 0, 0, 1], hu.shape).astype(np.int16)
    logits = found.logits("d" * 64, hu, probe.numerics["dtype"])
    return replace(
        probe,
        input_sha256=_digest(hu),
        logits_sha256=_digest(logits.numpy()),
        hu=torch.from_numpy(_coarse(hu, probe.stride)),
        logits=torch.from_numpy(_coarse(logits.numpy(), probe.stride)),
        low=torch.from_numpy(_packed(hu)),
    )


def test_a_phantom_that_rounds_otherwise_is_asked_as_it_was() -> None:
    found = networks("liver")
    made = rounded_otherwise(make_probe(found, "d" * 64), found)
    answer = compare(decode_probe(encode_probe(made)), found)
    assert (answer.outcome, answer.same_class, answer.difference) == ("identical", True, 0.0)
    other = compare(made, networks("liver", seed=2))
    assert (other.outcome, other.same_class) == ("changed", True)


def test_low_bits_that_do_not_fit_the_input_are_not_believed() -> None:
    found = networks("liver")
    made = rounded_otherwise(make_probe(found, "d" * 64), found)
    for low in (None, made.low[1:], torch.zeros_like(made.low)):
        answer = compare(replace(made, low=low), found)
        assert (answer.outcome, answer.same_class) == ("within tolerance", False)
        assert "rounds otherwise" in answer.detail


@given(hnp.arrays(np.int16, st.tuples(*[st.integers(1, 5)] * 3)))
def test_low_bits_are_unpacked_as_they_were(hu: np.ndarray) -> None:
    np.testing.assert_array_equal(_unpacked(_packed(hu), hu.size), hu.ravel() % 4)


def test_the_patch_shows_what_the_decoder_segments() -> None:
    for name in ("liver", "brain", "urinary_bladder"):
        info = networks(name).decoders["d" * 64][1]
        patch = choose_patch(info, TINY, PLAN, seed=3)
        phantom = patch.phantom()
        assert patch.mask(phantom, name).mean() > 0.1
        np.testing.assert_array_equal(patch.cut(phantom), patch.render())


def test_an_anatomy_that_phantoms_lack_is_looked_for_at_its_height() -> None:
    info = networks("hyoid_bone").decoders["d" * 64][1]
    low = replace(info, ranges={"hyoid_bone": Range(0.1, 0.2, 0.05, 0.25)})
    high = replace(info, ranges={"hyoid_bone": Range(0.8, 0.9, 0.75, 0.95)})
    for asked, height in ((low, 0.15), (high, 0.85), (info, 0.5)):
        patch = choose_patch(asked, TINY, PLAN, seed=3)
        middle = patch.phantom().height[patch.corner[0] + patch.size[0] // 2]
        assert middle == pytest.approx(height, abs=0.02)


def test_a_patch_that_reaches_beyond_the_phantom_shows_air_there() -> None:
    patch = PhantomPatch(1, (12.0, 12.0, 12.0), (0.4, 0.6), (-4, -4, -4), (8, 8, 8))
    hu = patch.render()
    assert (hu[:4] == -1000).all()
    np.testing.assert_array_equal(
        hu[4:, 4:, 4:],
        render(1, spacing=(12.0, 12.0, 12.0), field_of_view=(0.4, 0.6)).ct[:4, :4, :4],
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 120), st.tuples(*[st.integers(1, 64)] * 3))
def test_what_is_kept_is_small_and_never_empty(classes: int, sides: tuple[int, int, int]) -> None:
    stride = _stride((classes, *sides))
    kept = _coarse(np.zeros((1, *sides), np.int8), stride)[0]
    assert kept.size > 0
    assert 4 * classes * kept.size <= STORED_BYTES


@pytest.mark.parametrize(
    "change",
    [
        {"seed": -1},
        {"size": (10_000, 10_000, 10_000)},
        {"spacing": (0.01, 0.01, 0.01)},
        {"heights": (0.0, 1e9)},
    ],
)
def test_an_absurd_patch_is_not_rendered(change: dict[str, object]) -> None:
    values = PhantomPatch(1, (6.0, 6.0, 6.0), (0.4, 0.6), (0, 0, 0), (8, 8, 8)).to_dict()
    with pytest.raises(IntegrityError, match="no patch of a phantom"):
        PhantomPatch.from_dict(values | change)


def test_what_is_no_probe_is_refused() -> None:
    probe = make_probe(networks("liver"), "d" * 64)
    whole = encode_probe(probe)
    for data in (b"", whole[:-1], bytes(2 << 20), pack_artefact("probe", {}, {})):
        with pytest.raises(IntegrityError):
            decode_probe(data)
    with pytest.raises(Incompatible):
        decode_probe(pack_artefact("decoder", {}, {}))
    for other in (
        replace(probe, hu=probe.hu[1:]),
        replace(probe, logits=probe.logits.double()),
        replace(probe, stride=(0, 1, 1)),
    ):
        with pytest.raises(ClnetError):
            decode_probe(encode_probe(other))


def test_a_probe_of_another_encoder_or_decoder_is_not_compared() -> None:
    found = networks("liver")
    probe = make_probe(found, "d" * 64)
    with pytest.raises(Incompatible, match="another encoder"):
        compare(replace(probe, encoder_sha256="f" * 64), found)
    with pytest.raises(Incompatible, match="is not here"):
        compare(replace(probe, decoder_sha256="f" * 64), found)
    with pytest.raises(IntegrityError, match="the decoder gives"):
        compare(probe, networks("liver", "spleen"))


def test_threads_come_back_as_they_were() -> None:
    before = torch.get_num_threads()
    probe = make_probe(networks("liver"), "d" * 64)
    compare(replace(probe, numerics=probe.numerics | {"threads": "2"}), networks("liver"))
    compare(replace(probe, numerics=probe.numerics | {"threads": "100000"}), networks("liver"))
    assert torch.get_num_threads() == before
