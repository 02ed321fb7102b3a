"""Where along the body a decoder's anatomies live, as its training cases say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
from pack_work import delivered
from tiny_hub import ENCODER, tiny_job

from clnet.anatomy.phantom import render
from clnet.decoders_registry import Lineage
from clnet.hub import Hub, connect
from clnet.model.artefact import DecoderInfo, encode_encoder
from clnet.model.body_part import decode_body_part_model
from clnet.model.body_part_curve import Range
from clnet.model.decoder import Channel, DecoderConfig
from clnet.model.encoder import build_encoder
from clnet.model.outputs import outputs_of
from clnet.model.plan import Plan
from clnet.phantom_cases import write_case
from clnet.platform.ranges import body_part_curves, measure_ranges
from clnet.starter import RELEASE as STARTER

PLANS = {
    "usual": Plan(spacing=(6.0, 6.0, 6.0), patch_size=(16, 16, 16)),
    "contrast": Plan((6.0, 6.0, 6.0), (16, 16, 16), clip=(-175.0, 250.0), mean=40.0, std=110.0),
}
LABELS = {"liver": ["liver"], "spleen": ["spleen"], "kidney": ["kidney_left", "kidney_right"]}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """Two whole bodies, an encoder for each plan, and the starter's body-part model."""
    root = tmp_path_factory.mktemp("ranges")
    bodies = {s: render(s, spacing=(6.0, 6.0, 6.0), field_of_view="whole") for s in (901, 902)}
    cases = [write_case(b, root / "sources", f"b{s}", LABELS) for s, b in bodies.items()]
    with connect(root) as opened:
        opened.releases.import_(STARTER)
        opened.datasets.contribute("ref/bodies", cases, {name: name for name in LABELS}, "CC0-1.0")
        for name, plan in PLANS.items():
            artefact = encode_encoder(build_encoder(ENCODER, seed=0), plan)
            lineage = Lineage(command="test", code_version="0")
            opened.registry.add_encoder(name, artefact, plan.to_dict(), ENCODER.to_dict(), lineage)
        yield opened


def ranges_of(hub: Hub, decoder: str, encoder: str) -> Mapping[str, Range]:
    """Ranges that a finished job hands over."""
    job = tiny_job(
        decoder, dataset="ref/bodies@1", encoder=encoder, body_part_model="starter", steps=4
    )
    [(_, delivery)] = delivered(hub.registry, hub.catalog, job)
    return {name: Range.from_dict(values) for name, values in delivery.ranges.items()}


def test_ranges_do_not_depend_on_the_intensities_of_a_plan(hub: Hub) -> None:
    usual, contrast = (ranges_of(hub, "abdomen/liver", encoder)["liver"] for encoder in PLANS)
    assert 0.2 < usual.p005 < usual.p995 < 0.6
    assert contrast.p005 == pytest.approx(usual.p005, abs=0.01)
    assert contrast.p995 == pytest.approx(usual.p995, abs=0.01)


def test_sides_that_are_taught_only_together_have_a_range(hub: Hub) -> None:
    sides = ("kidney_left", "kidney_right")
    config = DecoderConfig(
        "abdomen/kidneys", "organ", tuple(Channel(s, (s,)) for s in sides), (4, 4), heads=2
    )
    store = hub.catalog.plan_store(hub.catalog.get("ref/bodies@1"), PLANS["usual"].to_dict())
    cases = [(store, case_id) for case_id in store.case_ids]
    artefact = hub.registry.artefact(hub.body_parts.get("starter").sha256)
    curves = body_part_curves(cases, decode_body_part_model(artefact))
    ranges = measure_ranges(config, (sides,), cases, curves)
    info = DecoderInfo(config, "0" * 64, ENCODER, None, (), (sides,), ranges)
    (kidney,) = outputs_of(info)
    assert kidney.anatomy == "kidney"
    assert kidney.range is not None
    assert 0.2 < kidney.range.p005 < kidney.range.p995 < 0.6
