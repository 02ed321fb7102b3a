"""What may be released together, where it stands, and under which terms."""

from __future__ import annotations

import pytest
from registry_shelf import Shelf, lineage, on_both, use

from clnet.decoders_registry import ReleaseRecord
from clnet.errors import AlreadyExists, Incompatible, InputError, NotFound


def tiers(release: ReleaseRecord) -> list[list[str]]:
    return [[decoder.ref for decoder in tier] for tier in release.tiers]


@on_both
def test_a_child_keeps_its_parents_places_and_adds_a_tier(shelf: Shelf) -> None:
    for group in ("abdomen/liver", "abdomen/spleen", "chest/lungs", "bone/ribs"):
        shelf.decoder(group)
    create = shelf.registry.create_release
    first = create("1", ["abdomen/spleen@1", "abdomen/liver@1"], policy={"gating": True})
    assert tiers(first) == [["abdomen/liver@1", "abdomen/spleen@1"]]
    second = create("2", ["chest/lungs@1"], parent="1")
    shelf.decoder("abdomen/liver", "newer")
    third = create("3", ["bone/ribs@1", "abdomen/liver@2"], parent="2")
    assert tiers(second) == [["abdomen/liver@1", "abdomen/spleen@1"], ["chest/lungs@1"]]
    assert tiers(third) == [
        ["abdomen/liver@2", "abdomen/spleen@1"],
        ["chest/lungs@1"],
        ["bone/ribs@1"],
    ]
    assert (third.parent, third.parent_sha256) == ("2", second.sha256)
    assert third.policy == {"gating": True}
    assert [release.name for release in shelf.registry.releases()] == ["1", "2", "3"]
    diff = shelf.registry.diff("1", "3")
    assert diff.added == ("bone/ribs@1", "chest/lungs@1")
    assert [(c.before, c.after) for c in diff.changed] == [("abdomen/liver@1", "abdomen/liver@2")]
    assert (diff.kept, diff.removed, diff.policy) == (("abdomen/spleen@1",), (), {})
    assert (diff.parent, diff.descends, diff.exposed) == ((None, "2"), True, ())
    assert diff.tiers["abdomen/liver"] == (0, 0)
    assert diff.tiers["bone/ribs"] == (None, 2)
    assert diff.warnings == ()


def test_a_diff_tells_whose_voxels_are_no_longer_kept(shelf: Shelf) -> None:
    for group in ("abdomen/liver", "abdomen/spleen", "chest/lungs"):
        shelf.decoder(group)
    create, diff = shelf.registry.create_release, shelf.registry.diff
    create("old", ["abdomen/liver@1"])
    create("tiers", ["abdomen/spleen@1"], parent="old")
    create("apart", ["abdomen/liver@1", "abdomen/spleen@1"])
    create("newest", ["chest/lungs@1"], parent="tiers", policy={"precedence": "newest"})

    apart = diff("tiers", "apart")
    assert not apart.descends
    assert apart.tiers == {"abdomen/liver": (0, 0), "abdomen/spleen": (1, 0)}
    assert apart.exposed == ("abdomen/liver",)  # the spleen could lose to it before
    assert "tiers is not an ancestor of apart" in apart.warnings[0]
    assert "voxels of abdomen/liver may change hands" in apart.warnings[1]
    assert diff("old", "apart").exposed == ("abdomen/liver",)

    newest = diff("old", "newest")
    assert (newest.descends, newest.exposed) == (True, ("abdomen/liver",))
    assert diff("tiers", "newest").exposed == ("abdomen/liver", "abdomen/spleen")
    assert diff("tiers", "tiers").warnings == ()


def test_an_alias_stands_for_every_groups_version(shelf: Shelf) -> None:
    shelf.decoder("abdomen/liver", "a")
    shelf.decoder("abdomen/liver", "b")
    shelf.decoder("abdomen/spleen")
    shelf.registry.promote("abdomen/liver", 1)
    assert tiers(shelf.registry.create_release("1", "production")) == [["abdomen/liver@1"]]
    assert tiers(shelf.registry.create_release("2", "candidate")) == [
        ["abdomen/liver@2", "abdomen/spleen@1"]
    ]
    with pytest.raises(InputError, match="no decoder is chosen"):
        shelf.registry.create_release("3", "nowhere")


@on_both
def test_supporters_come_along_at_their_pinned_version_and_are_not_served(shelf: Shelf) -> None:
    bone = shelf.decoder("bone/ribs")
    shelf.decoder("abdomen/liver", "a", supporters=[bone.ref])
    shelf.decoder("lns/stations", supporters=["abdomen/liver@1"])
    shelf.decoder("abdomen/liver", "b")
    release = shelf.registry.create_release("1", ["lns/stations@1", "abdomen/liver@2"])
    assert tiers(release) == [["abdomen/liver@2", "lns/stations@1"]]
    assert [decoder.ref for decoder in release.supporters] == ["abdomen/liver@1", "bone/ribs@1"]
    chosen = shelf.registry.create_release("2", ["abdomen/liver@1", "lns/stations@1"])
    assert [decoder.ref for decoder in chosen.supporters] == ["bone/ribs@1"]


@on_both
def test_the_same_again_is_the_same_release_and_other_content_is_refused(shelf: Shelf) -> None:
    shelf.decoder("abdomen/liver")
    shelf.decoder("abdomen/spleen")
    first = shelf.registry.create_release("1", ["abdomen/liver@1", "abdomen/spleen@1"])
    again = shelf.registry.create_release("1", ["abdomen/spleen@1", "abdomen/liver@1"])
    assert again == first == shelf.registry.release("1")
    for other in (
        {"decoders": ["abdomen/liver@1"]},
        {"decoders": ["abdomen/liver@1", "abdomen/spleen@1"], "policy": {"gating": False}},
    ):
        with pytest.raises(AlreadyExists, match="releases never change"):
            shelf.registry.create_release("1", **other)


def test_a_release_has_one_encoder_and_one_body_part_model(shelf: Shelf) -> None:
    registry = shelf.registry
    registry.add_encoder("starter", b"encoder 2", {}, {}, lineage())
    registry.add_body_part_model("starter", b"body 2", lineage())
    shelf.decoder("abdomen/liver", encoder="starter@1", body_part_model="starter@1")
    shelf.decoder("abdomen/spleen", encoder="starter@2", body_part_model="starter@1")
    shelf.decoder("bone/ribs", encoder="starter@1", body_part_model="starter@2")
    for other, reason in (("abdomen/spleen@1", "one encoder"), ("bone/ribs@1", "body-part model")):
        with pytest.raises(Incompatible, match=reason):
            registry.create_release("1", ["abdomen/liver@1", other])
    with pytest.raises(Incompatible, match="one encoder"):
        registry.create_release("1", ["abdomen/liver@1"], encoder="encoder/starter@2")
    registry.create_release("1", ["abdomen/liver@1"])
    with pytest.raises(Incompatible, match="one encoder"):
        registry.create_release("2", ["abdomen/spleen@1"], parent="1")


def test_no_anatomy_is_predicted_twice(shelf: Shelf) -> None:
    create = shelf.registry.create_release
    shelf.decoder("abdomen/liver", "a")
    shelf.decoder("abdomen/liver", "b")
    shelf.decoder("imported/everything", learned=["liver", "spleen"])
    kidneys = ("kidney_left", "kidney_right")
    shelf.decoder("abdomen/kidneys", learned=[], unions=[kidneys])
    shelf.decoder("imported/kidneys", learned=["kidney_left", "kidney_right"])
    shelf.decoder("site/kidneys", learned=[], unions=[kidneys[::-1]])
    with pytest.raises(Incompatible, match="versions of one group"):
        create("1", ["abdomen/liver@1", "abdomen/liver@2"])
    with pytest.raises(Incompatible, match="liver is predicted by"):
        create("1", ["abdomen/liver@1", "imported/everything@1"])
    with pytest.raises(Incompatible, match=r"kidney_left \+ kidney_right is predicted by"):
        create("1", ["abdomen/kidneys@1", "site/kidneys@1"])
    aware = {"anomaly_aware": True}  # the merge decides voxel by voxel
    assert (
        len(create("both", ["abdomen/liver@1", "imported/everything@1"], policy=aware).tiers) == 1
    )
    # a composite yields to its parts, so these two get on
    assert len(create("1", ["abdomen/kidneys@1", "imported/kidneys@1"]).decoders) == 2


def test_terms_are_the_union_over_everything_the_release_came_from(shelf: Shelf) -> None:
    shelf.decoder("bone/ribs", datasets=[use("site-c/ct@1", "AGREEMENT", licence="LicenseRef-c")])
    shelf.decoder(
        "abdomen/liver", datasets=[use("site-a/ct@1", "BY", "NC")], supporters=["bone/ribs@1"]
    )
    release = shelf.registry.create_release("1", ["abdomen/liver@1"])
    assert release.terms.obligations == ("AGREEMENT", "BY", "NC")
    assert release.terms.sources["AGREEMENT"] == ("site-c/ct@1",)
    assert release.terms.licences["site-c/ct@1"] == "LicenseRef-c"
    assert set(release.terms.licences) == {"site-a/ct@1", "site-c/ct@1", "ref/body@1"}


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (use("a/x@1", "BY", "ND"), use("b/x@1"), r"a/x@1: the terms forbid derivatives"),
        (
            use("a/x@1", "BY", "SA", licence="CC-BY-SA-4.0"),
            use("b/x@1", "SA", licence="GPL-3.0-only"),
            "separate releases",
        ),
        (
            use("a/x@1", "BY", "SA", licence="CC-BY-SA-4.0"),
            use("b/x@1", "NC", licence="CC-BY-NC-4.0"),
            "b/x@1 adds NC",
        ),
    ],
)
def test_terms_that_cannot_be_met_together_refuse_the_release(
    shelf: Shelf, first: object, second: object, reason: str
) -> None:
    shelf.decoder("abdomen/liver", datasets=[first])  # type: ignore[list-item]
    shelf.decoder("abdomen/spleen", datasets=[second])  # type: ignore[list-item]
    with pytest.raises(Incompatible, match=reason):
        shelf.registry.create_release("1", ["abdomen/liver@1", "abdomen/spleen@1"])
    assert shelf.registry.releases() == []


def test_share_alike_goes_with_itself(shelf: Shelf) -> None:
    alike = [use(f"{site}/x@1", "BY", "SA", licence="CC-BY-SA-4.0") for site in "ab"]
    shelf.decoder("abdomen/liver", datasets=[*alike, use("c/x@1", "BY")])
    release = shelf.registry.create_release("1", ["abdomen/liver@1"])
    assert release.terms.obligations == ("BY", "SA")


def test_unknown_things_are_not_found(shelf: Shelf) -> None:
    with pytest.raises(NotFound, match="release '7'"):
        shelf.registry.release("7")
    with pytest.raises(NotFound):
        shelf.registry.create_release("1", ["abdomen/liver@1"])
    with pytest.raises(NotFound):
        shelf.registry.lineage_of("abdomen/liver@1")
