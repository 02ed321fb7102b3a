"""What a decoder finds in seeded phantoms, an update of it must still find."""

from __future__ import annotations

import torch
from tiny_networks import TINY, make_decoder, make_encoder

from clnet.model.artefact import DecoderInfo
from clnet.model.plan import Plan
from clnet.model.validation import Judged
from clnet.platform.phantom_check import lost_in, phantom_scores

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


def test_an_anatomy_that_phantoms_lack_is_not_judged() -> None:
    versions = {"new": favouring("hyoid_bone", 1)}
    info = DecoderInfo(versions["new"].decoder.config, "e" * 64, TINY)
    assert phantom_scores(make_encoder(), PLAN, info, versions) == {"new": {}}


def test_only_what_was_found_can_get_lost() -> None:
    before = {"liver": 0.9, "spleen": 0.8, "aorta": 0.3}
    assert lost_in(before, {"liver": 0.85, "spleen": 0.75, "aorta": 0.0}) == []
    (reason,) = lost_in(before, {"liver": 0.95, "aorta": 0.3})
    assert "spleen was found in phantoms to 0.800 and is to 0.000 only" in reason
