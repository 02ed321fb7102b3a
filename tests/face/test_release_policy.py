"""A release's merge policy: looked at before it is stored for ever, and obeyed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_release import add_decoder
from typer.testing import CliRunner

import clnet
from clnet.cli import app

KIDNEYS = ["kidney_left", "kidney_right"]


def liver_in(hub: clnet.Hub, scan: Path, release: str) -> dict[str, Any]:
    found: dict[str, Any] = hub.segment(scan, release).statistics()["anatomies"]["liver"]
    return found


@pytest.mark.parametrize(
    ("policy", "error", "told"),
    [
        ({"tiers": "newest"}, clnet.InputError, "no setting tiers"),
        ({"gating": "no"}, clnet.InputError, "gating: true or false"),
        ({"largest_component": "liver"}, clnet.InputError, "largest_component: a list"),
        ({"largest_component": ["livr"]}, clnet.UnknownAnatomy, "largest_component.*liver"),
        ({"precedence": "oldest"}, clnet.InputError, "precedence: one of parent, newest, equal"),
        ({"notice": 3}, clnet.InputError, "notice: text"),
        (["gating"], clnet.InputError, "settings by name"),
    ],
)
def test_a_policy_that_is_none_burns_no_name(
    furnished: clnet.Hub, policy: Any, error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        furnished.releases.create("2026.12", policy=policy)
    assert [release.name for release in furnished.releases.list()] == ["2026.11"]
    assert furnished.releases.create("2026.12").policy == {}


def test_anatomies_of_a_policy_are_stored_as_their_leaves(furnished: clnet.Hub) -> None:
    create = furnished.releases.create
    named = {"largest_component": ["Kidney", "left kidney", "Liver"], "notice": "try it"}
    first = create("first", policy=named)
    assert first.policy == {"largest_component": [*KIDNEYS, "liver"], "notice": "try it"}
    assert create("first", policy=named) == first
    assert create("child", parent="first").policy == first.policy


def test_a_release_with_a_policy_that_is_none_is_not_imported(
    furnished: clnet.Hub, tmp_path: Path
) -> None:
    furnished.registry.create_release("bad", "production", policy={"tiers": "newest"})
    furnished.releases.export("bad", tmp_path / "bundle")
    with clnet.connect(tmp_path / "other") as other:
        with pytest.raises(clnet.InputError, match="no setting tiers"):
            other.releases.import_(tmp_path / "bundle")
        assert other.releases.list() == []
        assert other.encoders.list() == []


def test_two_decoders_of_one_anatomy_need_a_policy_that_decides_between_them(
    furnished: clnet.Hub, scan: Path
) -> None:
    create = furnished.releases.create
    sure, unsure, denies = "abdomen/liver@1", "site/liver@1", "site/other-liver@1"
    add_decoder(furnished.registry, "site/liver", ["liver"], seed=3)
    add_decoder(furnished.registry, "site/other-liver", ["liver"], favour=0)
    aware = {"anomaly_aware": True}
    told = r"liver is predicted by .*anomaly_aware: true"
    for policy in (None, {"anomaly_aware": False}):
        with pytest.raises(clnet.Incompatible, match=told):
            create("both", [sure, unsure], policy=policy)

    create("found", [sure, unsure], policy=aware)
    found = liver_in(furnished, scan, "found")
    assert (found["state"], found["voxels"]) == ("present", 24 * 20 * 16)
    assert found["decoder"] == sure
    assert found["decoders"] == [sure, unsure]
    assert found["voxels_by_decoder"] == {sure: found["voxels"]}

    create("alone", [unsure])
    alone = liver_in(furnished, scan, "alone")
    assert alone["voxels"] > 0
    assert alone["voxels_by_decoder"] == {unsure: alone["voxels"]}
    create("denied", [unsure, denies], policy=aware)
    denied = liver_in(furnished, scan, "denied")
    assert denied["voxels"] == 0
    assert denied["denied_voxels"] == {unsure: alone["voxels"]}


@pytest.mark.parametrize(
    ("precedence", "winner"), [("parent", "liver"), ("newest", "stomach"), ("equal", "liver")]
)
def test_a_child_may_be_told_whose_voxels_stay(
    furnished: clnet.Hub, scan: Path, precedence: str, winner: str
) -> None:
    add_decoder(furnished.registry, "abdomen/stomach", ["stomach"], favour=1)
    furnished.releases.create(
        "child", ["abdomen/stomach@1"], parent="2026.11", policy={"precedence": precedence}
    )
    result = furnished.segment(scan, "child")
    assert result.names["organ"] == {1: "liver", 2: "spleen", 3: "stomach"}
    assert result.mask(winner).all()


def create_by_hand(hub: clnet.Hub, *arguments: str) -> tuple[int, str]:
    """Exit code and what was told."""
    words = ["releases", "create", *arguments, "--workspace", str(hub.workspace.root), "--json"]
    told = CliRunner().invoke(app, words)
    return told.exit_code, f"{told.output}{told.exception or ''}"


def test_the_command_reads_a_policy_and_pins(furnished: clnet.Hub, tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("gating: false\nlargest_component: [Left Kidney]\n", encoding="utf-8")
    pins = ["--encoder", "starter", "--body-part-model", "starter@1"]
    assert create_by_hand(furnished, "first", "--policy", str(file), *pins)[0] == 0
    first = furnished.releases.get("first")
    assert first.policy == {"gating": False, "largest_component": ["kidney_left"]}
    file.write_text('{"gating": true}', encoding="utf-8")
    assert create_by_hand(furnished, "second", "--policy", str(file), "--parent", "first")[0] == 0
    assert furnished.releases.get("second").policy == {"gating": True}
    code, told = create_by_hand(furnished, "third", "--encoder", "nothing")
    assert code != 0
    assert "nothing" in told


@pytest.mark.parametrize(
    ("text", "field"),
    [("gating: maybe", "gating"), ("a: [", "while parsing"), ("", "settings by name")],
)
def test_the_command_names_what_is_wrong_in_a_policy(
    furnished: clnet.Hub, tmp_path: Path, text: str, field: str
) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(text, encoding="utf-8")
    code, told = create_by_hand(furnished, "first", "--policy", str(file))
    assert code != 0
    assert str(file) in told
    assert field in told


def test_a_rival_joins_a_release_that_has_its_anatomy_already(
    furnished: clnet.Hub, scan: Path
) -> None:
    add_decoder(furnished.registry, "imported/organs", ["liver", "pancreas"], favour=0)
    add_decoder(furnished.registry, "site/liver", ["liver"], seed=3)
    create, organs, rival = furnished.releases.create, "imported/organs@1", "site/liver@1"
    create("base", [organs])
    with pytest.raises(clnet.Incompatible, match="anomaly_aware"):
        create("grown", [rival], parent="base")
    aware = {"anomaly_aware": True}
    later = create("later", [rival], parent="base", policy=aware)
    assert [[decoder.ref for decoder in tier] for tier in later.tiers] == [[organs], [rival]]
    added = liver_in(furnished, scan, "later")  # a later tier claims what is background
    assert added["voxels_by_decoder"] == {rival: added["voxels"]}
    assert added["decoder"] == rival
    create("together", [rival], parent="base", policy=aware | {"precedence": "equal"})
    denied = liver_in(furnished, scan, "together")  # in one tier the more certain decides
    assert denied["voxels"] == 0
    assert denied["denied_voxels"] == {rival: added["voxels"]}
