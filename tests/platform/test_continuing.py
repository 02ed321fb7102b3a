"""A training that starts from an older version of its group keeps what that one knows."""

from __future__ import annotations

import pytest
import torch
from pack_work import registered
from tiny_hub import ENCODER, contribute, furnish, tiny_job

from clnet.data_catalog import PatchStream
from clnet.decoders_registry import DecoderRecord
from clnet.errors import Incompatible, InputError
from clnet.model.artefact import DecoderInfo, decode_decoder, decode_encoder
from clnet.model.body_part_curve import Range
from clnet.model.decoder import Channel, DecoderConfig
from clnet.model.supporters import load_supporters
from clnet.model.validation import Judged, validate
from clnet.platform.assignment import Assignment
from clnet.platform.continuing import ranges_with
from clnet.platform.jobs import DecoderJob, Validation
from clnet.platform.resolve import resolve, stores_for
from clnet.platform.workspace import Workspace

GROUP = "abdomen/kidneys"
IGNORED = {"1": "ignore", "2": "ignore"}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return furnish(tmp_path_factory.mktemp("hub"))


@pytest.fixture(scope="module")
def right(hub: Workspace) -> str:
    mapping = {**IGNORED, "3": "kidney_right", "4": "ignore"}
    return contribute(hub, "site-r/right", mapping, range(10, 15))


@pytest.fixture(scope="module")
def knows_left(hub: Workspace) -> DecoderRecord:
    mapping = {**IGNORED, "3": "ignore", "4": "kidney_left"}
    left = contribute(hub, "site-l/left", mapping, range(20, 25))
    return work(hub, tiny_job(GROUP, dataset=left, steps=300, widths=(16, 24)))


def assigned(hub: Workspace, job: DecoderJob) -> Assignment:
    with hub.registry() as registry:
        return resolve("job", job, registry, hub.catalog())


def work(hub: Workspace, job: DecoderJob) -> DecoderRecord:
    with hub.registry() as registry:
        return registered(registry, hub.catalog(), job)[0][0]


def scores(hub: Workspace, record: DecoderRecord) -> dict[str, float]:
    """Dice on patches that label both sides."""
    both = assigned(hub, tiny_job(GROUP, validation=Validation(batches=12)))
    with hub.registry() as registry:
        stream = PatchStream(stores_for(both.job, registry, hub.catalog()), both.validation)
        encoder = decode_encoder(registry.artefact(both.encoder_sha256))[0]
        decoder, _ = decode_decoder(registry.artefact(record.sha256))
        supporters = load_supporters(decoder.config, registry.artefact, torch.device("cpu"))
        judged = {"it": Judged(decoder, supporters)}
        return validate(encoder, judged, stream.patches, both.validation.total)["it"]


def names(assignment: Assignment) -> list[str]:
    return [channel.name for channel in assignment.config.channels]


def test_data_of_an_unlearned_sibling_gives_a_version_that_knows_both(
    hub: Workspace, knows_left: DecoderRecord, right: str
) -> None:
    with pytest.raises(InputError, match=rf"kind=train, start={knows_left.ref}\) for others"):
        assigned(hub, tiny_job(GROUP, kind="update", base=knows_left.ref, dataset=right, widths=()))
    record = work(
        hub, tiny_job(GROUP, start=knows_left.ref, dataset=right, widths=(), steps=300, negatives=1)
    )
    assert record.learned == ("kidney_left", "kidney_right")
    assert [c["name"] for c in record.config["channels"]] == ["kidney_left", "kidney_right"]
    assert record.config["widths"] == [16, 24]  # those of the old weights
    assert record.lineage.parents == (knows_left.ref,)
    before, after = scores(hub, knows_left), scores(hub, record)
    assert before["kidney_left"] > 0.5
    assert after["kidney_left"] > 0.6 * before["kidney_left"]  # 0 if it is not distilled
    assert after["kidney_right"] > 0.5


def test_an_update_with_an_unlearned_sibling_says_how_to_teach_it(
    hub: Workspace, right: str
) -> None:
    mapping = {**IGNORED, "3": "kidney_left", "4": "kidney"}
    merged = contribute(hub, "site-m/merged", mapping, range(30, 35))
    base = work(hub, tiny_job(GROUP, dataset=merged))
    assert (base.learned, base.unions) == (("kidney_left",), (("kidney_left", "kidney_right"),))
    with pytest.raises(Incompatible, match=rf"kind=train, start={base.ref}\), which learns it"):
        assigned(hub, tiny_job(GROUP, kind="update", base=base.ref, dataset=right, widths=()))
    found = assigned(hub, tiny_job(GROUP, start=base.ref, dataset=right))
    assert names(found) == ["kidney_left", "kidney_right"]
    assert found.learned == ("kidney_left", "kidney_right")
    assert found.distilled == (1,)


def test_a_union_is_told_apart_by_the_older_version(
    hub: Workspace, knows_left: DecoderRecord
) -> None:
    mapping = {**IGNORED, "3": "kidney", "4": "kidney"}
    union = contribute(hub, "site-u/union", mapping, range(40, 45))
    found = assigned(hub, tiny_job(GROUP, start=knows_left.ref, dataset=union))
    assert names(found) == ["kidney_left", "kidney_right"]
    assert found.learned == ("kidney_left",)
    assert found.distilled == (1,)


def test_channels_that_are_asked_for_are_the_decoders(
    hub: Workspace, knows_left: DecoderRecord, right: str
) -> None:
    job = tiny_job(GROUP, start=knows_left.ref, dataset=right, anatomies=("kidney_right",))
    found = assigned(hub, job)
    assert (names(found), found.learned, found.distilled) == (
        ["kidney_right"], ("kidney_right",), ()
    )  # fmt: skip
    both = assigned(
        hub, tiny_job(GROUP, start=knows_left.ref, dataset=right, anatomies=("kidney",))
    )
    assert (names(both), both.distilled) == (["kidney"], ())


def test_ranges_of_what_was_known_hold_the_older_ones_too() -> None:
    left, right = (
        Channel("kidney_left", ("kidney_left",)),
        Channel("kidney_right", ("kidney_right",)),
    )
    liver = Channel("liver", ("liver",))
    config = DecoderConfig(GROUP, "organ", (left, liver), (4, 4), heads=1)
    here, there = Range(0.3, 0.4, 0.2, 0.5), Range(0.35, 0.45, 0.25, 0.55)
    known = ("kidney_left", "liver")
    older = DecoderInfo(config, "e" * 64, ENCODER, learned=known, ranges={"kidney_left": here})
    measured = {"kidney_left": there, "kidney_right": there, "liver": there}
    assert ranges_with(older, (left, right, liver), measured) == {
        "kidney_left": Range(0.3, 0.45, 0.2, 0.55),
        "kidney_right": there,  # the liver was not gated, so it stays so
    }
    assert ranges_with(older, (left, right), {}) == {"kidney_left": here}
    assert ranges_with(older, (right,), {}) == {}


def test_a_start_of_another_group_lends_its_weights_alone(hub: Workspace, right: str) -> None:
    liver = work(hub, tiny_job("abdomen/liver", steps=2))
    found = assigned(hub, tiny_job(GROUP, start=liver.ref, dataset=right))
    assert (names(found), found.distilled) == (["kidney_right"], ())


def test_an_older_version_brings_what_it_leans_on(hub: Workspace, right: str) -> None:
    liver = work(hub, tiny_job("abdomen/liver", steps=2))
    mapping = {**IGNORED, "3": "ignore", "4": "kidney_left"}
    left = contribute(hub, "site-s/left", mapping, range(50, 55))
    leans = work(hub, tiny_job(GROUP, dataset=left, steps=4, supporters=(liver.ref,)))
    record = work(hub, tiny_job(GROUP, start=leans.ref, dataset=right, steps=2))
    assert record.supporters == ()
    assert record.learned == ("kidney_left", "kidney_right")
