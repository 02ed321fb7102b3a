"""What a decoder finds in seeded phantoms, an update of it must still find."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_networks import TINY, make_decoder, make_encoder

from clnet.model.artefact import DecoderInfo
from clnet.model.geometry import canonical_view, orientation_from
from clnet.model.nnunet.plan import AS_STORED, NnunetPlan
from clnet.model.nnunet.preprocessing import prepare
from clnet.model.plan import Plan
from clnet.model.probe import SEED
from clnet.model.probe_input import choose_patch
from clnet.model.scratch import Scratch
from clnet.model.validation import Judged
from clnet.platform.phantom_check import lost_in, phantom_patch, phantom_scores

PLAN = Plan(spacing=(12.0, 12.0, 12.0), patch_size=(8, 8, 8))


def favouring(name: str, channel: int) -> Judged:
    decoder = make_decoder(name).eval()
    with torch.no_grad():
        decoder.heads[0].bias[channel] += 1000.0
    return Judged(decoder)


def test_two_versions_are_scored_on_the_same_phantoms() -> None:
    versions = {"everywhere": favouring("liver", 1), "nowhere": favouring("liver", 0)}
    info = DecoderInfo(versions["nowhere"].decoder.config, "e" * 64, TINY)
    found = phantom_scores(make_encoder(), PLAN, info, versions)
    assert found["everywhere"]["liver"] > 0.2
    assert found["nowhere"] == {"liver": 0.0}
    assert phantom_scores(make_encoder(), PLAN, info, versions) == found


@pytest.mark.parametrize(
    ("orientation", "transpose"),
    [
        (AS_STORED, (0, 1, 2)),
        ("LPS", (0, 1, 2)),
        ("RAS", (0, 1, 2)),
        ("RAS", (2, 0, 1)),
        ("RAI", (1, 0, 2)),
        ("PIR", (1, 2, 0)),
    ],
)
def test_an_imported_network_sees_phantoms_as_it_sees_scans(orientation, transpose) -> None:
    plan = NnunetPlan(
        spacing=(12.0, 10.0, 8.0),
        patch_size=(8, 12, 16),
        clip=(-1000.0, 1000.0),
        mean=0.0,
        std=100.0,
        orientation=orientation,
        transpose=transpose,
    )
    info = DecoderInfo(make_decoder("liver").config, "e" * 64, TINY)
    stored = orientation_from("LPS")
    shown = phantom_patch(TINY, plan, info, SEED)
    assert shown is not None
    chosen = choose_patch(info, TINY, plan, SEED, plan.frame(stored).axes)
    phantom = chosen.phantom()
    seen = prepare(chosen.cut(phantom), chosen.spacing, stored, plan, Scratch())
    assert shown.image.shape == plan.patch_size
    np.testing.assert_allclose(shown.image, seen.image, atol=1e-5)
    (liver,) = (entry.value for entry in shown.contract.entries if entry.name == "liver")
    mask = canonical_view(shown.labels["organ"] == liver, seen.frame)
    assert mask.any()
    assert np.array_equal(mask, chosen.mask(phantom, "liver"))
    assert shown.z_axis == seen.axes[0]
    slices = shown.z_mm[::-1] if seen.flips[0] else shown.z_mm
    assert slices.tolist() == [n * chosen.spacing[0] for n in range(chosen.size[0])]


def test_an_anatomy_that_phantoms_lack_is_not_judged() -> None:
    versions = {"new": favouring("hyoid_bone", 1)}
    info = DecoderInfo(versions["new"].decoder.config, "e" * 64, TINY)
    assert phantom_scores(make_encoder(), PLAN, info, versions) == {"new": {}}


def test_only_what_was_found_can_get_lost() -> None:
    before = {"liver": 0.9, "spleen": 0.8, "aorta": 0.3}
    assert lost_in(before, {"liver": 0.85, "spleen": 0.75, "aorta": 0.0}) == []
    (reason,) = lost_in(before, {"liver": 0.95, "aorta": 0.3})
    assert "spleen was found in phantoms to 0.800 and is to 0.000 only" in reason
