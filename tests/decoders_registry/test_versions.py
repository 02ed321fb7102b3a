"""Versions are numbered, immutable and pinned; aliases move."""

from __future__ import annotations

import json

import numpy as np
import pytest
from registry_shelf import Shelf, digest, lineage, on_both

from clnet.decoders_registry import TicketRecord
from clnet.errors import AlreadyExists, Incompatible, InputError, NotFound


@on_both
def test_versions_of_a_group_count_up(shelf: Shelf) -> None:
    refs = [shelf.decoder("abdomen/liver", str(i)).ref for i in range(3)]
    assert refs == ["abdomen/liver@1", "abdomen/liver@2", "abdomen/liver@3"]
    assert shelf.registry.decoder("abdomen/liver").ref == refs[-1]
    assert [d.ref for d in shelf.registry.decoders("abdomen/liver")] == refs


def test_the_same_bytes_again_are_the_same_version(shelf: Shelf) -> None:
    first = shelf.decoder("abdomen/liver", "a")
    shelf.decoder("abdomen/liver", "b")
    assert (
        shelf.decoder("abdomen/liver", "a").model_copy(update={"aliases": first.aliases}) == first
    )
    assert shelf.registry.decoder("abdomen/liver@candidate").version == 2


@on_both
def test_a_record_is_whole_and_json_able(shelf: Shelf) -> None:
    dense = shelf.store.put(b"dense")
    supporter = shelf.decoder("abdomen/liver")
    record = shelf.decoder(
        "abdomen/adrenals",
        config={"layer": "organ", "anatomies": ["adrenal_left", "adrenal_right"]},
        metrics={"dsc": {"adrenal_left": np.float32(0.5), "adrenal_right": float("nan")}},
        learned=["adrenal_left"],
        unions=[("adrenal_left", "adrenal_right")],
        ranges={"adrenal_left": (0.4, 0.5)},
        supporters=["abdomen/liver@candidate"],
        ticket=TicketRecord(rate=0.9, sparsity=0.89, rewind=3, dense_sha=dense),
        lineage=lineage("site-a/ct@1", numerics={"torch": "2.13", "threads": 1}),
        status="candidate",
        status_reason="adrenal_right got worse",
    )
    assert record == shelf.registry.decoder(record.ref)
    stored = json.loads(json.dumps(record.model_dump(mode="json")))
    assert stored["encoder_sha256"] == digest("encoder")
    assert stored["supporters"] == [{"ref": supporter.ref, "sha256": supporter.sha256}]
    assert stored["metrics"] == {"dsc": {"adrenal_left": 0.5, "adrenal_right": None}}
    assert stored["unions"] == [["adrenal_left", "adrenal_right"]]
    assert stored["ticket"]["rewind"] == "3"
    assert record.created.utcoffset() is not None
    assert shelf.registry.artefact(record.sha256) == b"abdomen/adrenals:"


@on_both
def test_promotion_moves_the_alias_and_is_journalled(shelf: Shelf) -> None:
    shelf.decoder("abdomen/liver", "a")
    shelf.decoder("abdomen/liver", "b")
    assert shelf.registry.promote("abdomen/liver", 1).aliases == ("production",)
    assert set(shelf.registry.promote("abdomen/liver", 2).aliases) == {"candidate", "production"}
    assert shelf.registry.decoder("abdomen/liver@production").version == 2
    assert shelf.registry.decoder("abdomen/liver@1").aliases == ()
    (group,) = shelf.registry.groups()
    assert (group.versions, group.aliases) == (2, {"candidate": 2, "production": 2})
    newest = shelf.registry.audit("abdomen/liver@2")[0]
    assert newest.detail == {"alias": "production", "before": "abdomen/liver@1"}


def test_a_candidate_goes_into_production_only_once_accepted(shelf: Shelf) -> None:
    shelf.decoder("abdomen/liver", status="candidate", status_reason="dsc fell by 0.1")
    with pytest.raises(Incompatible, match=r"dsc fell by 0\.1"):
        shelf.registry.promote("abdomen/liver", 1)
    shelf.registry.accept("abdomen/liver@1", "looked at by hand")
    assert shelf.registry.promote("abdomen/liver", 1).status_reason == "looked at by hand"


def test_what_does_not_fit_is_refused_and_leaves_nothing(shelf: Shelf) -> None:
    registry = shelf.registry
    registry.add_encoder("other", b"encoder 2", {}, {}, lineage("ref/body@1"))
    stranger = shelf.decoder("bone/ribs", encoder="other")
    liver = shelf.decoder("abdomen/liver", config={"anatomies": ["liver"]})
    with pytest.raises(Incompatible, match="supporter bone/ribs@1 belongs to encoder/other@1"):
        shelf.decoder("abdomen/spleen", supporters=[stranger.ref])
    with pytest.raises(Incompatible, match="parent abdomen/liver@1 is of another group"):
        shelf.decoder("abdomen/spleen", parent=liver.ref)
    with pytest.raises(Incompatible, match=r"lineage\.parents"):
        shelf.decoder("bone/ribs", "x", parent=stranger.ref)
    with pytest.raises(NotFound, match="abdomen/liver@9"):
        shelf.decoder("abdomen/spleen", supporters=["abdomen/liver@9"])
    assert registry.verify().orphans == ()
    with pytest.raises(Incompatible, match="segments liver; this decoder has spleen"):
        shelf.decoder("abdomen/liver", "y", config={"anatomies": ["spleen"]})
    assert [decoder.ref for decoder in registry.decoders()] == [liver.ref, stranger.ref]


@pytest.mark.parametrize("group", ["", "a@1", "encoder/x", "../x", "a//b", "a/b c", "x" * 300])
def test_a_group_needs_a_name(shelf: Shelf, group: str) -> None:
    with pytest.raises(InputError):
        shelf.decoder(group)


def test_a_wrong_field_is_named(shelf: Shelf) -> None:
    with pytest.raises(InputError, match=r"decoder of abdomen/liver: config: .*JSON"):
        shelf.decoder("abdomen/liver", config={"x": object()})
    with pytest.raises(InputError, match="decoder of abdomen/liver: status"):
        shelf.decoder("abdomen/liver", status="splendid")


def test_encoders_and_body_part_models_have_versions_too(shelf: Shelf) -> None:
    registry = shelf.registry
    second = registry.add_encoder("starter", b"encoder b", {}, {}, lineage())
    assert second.ref == "encoder/starter@2"
    assert registry.encoder("starter@1").plan == {"spacing": [6, 6, 6]}
    assert registry.encoder("encoder/starter") == second
    assert registry.add_body_part_model("bpr/starter", b"body", lineage()).ref == "bpr/starter@1"
    assert [e.ref for e in registry.encoders()] == ["encoder/starter@1", "encoder/starter@2"]
    with pytest.raises(InputError, match="the registry gives the version"):
        registry.add_encoder("starter@3", b"x", {}, {}, lineage())
    with pytest.raises(NotFound):
        registry.body_part_model("bpr/starter@2")


def test_a_dataset_version_never_changes(shelf: Shelf) -> None:
    registry = shelf.registry
    registry.record_dataset("site-b/ct@1", digest("b"), {}, held_at="site-b")
    again = registry.record_dataset(
        "site-b/ct@1", digest("b"), {"licence": "CC0-1.0"}, fingerprint={"cases": 3}
    )
    assert (again.held_at, again.terms, again.fingerprint) == (
        "site-b",
        {"licence": "CC0-1.0"},
        {"cases": 3},
    )
    with pytest.raises(AlreadyExists, match="give it a new version"):
        registry.record_dataset("site-b/ct@1", digest("other"), {})
    with pytest.raises(InputError, match="name a version"):
        registry.record_dataset("site-b/ct", digest("b"), {})
    with pytest.raises(InputError, match="sha256"):
        registry.record_dataset("site-b/ct@2", "beef", {})
    with pytest.raises(InputError, match="obligations: FREE is not one of"):
        registry.record_dataset("site-b/ct@2", digest("c"), {"obligations": ["free"]})


@on_both
def test_a_probe_is_kept_once_and_for_good(shelf: Shelf) -> None:
    before = shelf.decoder("abdomen/liver")
    assert before.probe_sha256 is None
    record = shelf.registry.add_probe(before.ref, b"answer")
    assert record == before.model_copy(update={"probe_sha256": digest("answer")})
    assert shelf.registry.add_probe(before.ref, b"other answer") == record
    assert [line.action for line in shelf.registry.audit(before.ref)].count("decoder.probe") == 1
