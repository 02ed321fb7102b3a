"""Lineage is closed, both ways."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from registry_shelf import Shelf, lineage, on_both

from clnet.errors import Incompatible, InputError


def everything(tree: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """Every node that a lineage tree writes out."""
    found = {} if tree.get("repeated") else {(tree["kind"], tree["ref"]): tree}
    for parent in tree.get("from", ()):
        found |= everything(parent)
    return found


def test_a_release_leads_back_to_every_dataset_seed_and_code_version(shelf: Shelf) -> None:
    shelf.decoder("abdomen/liver", "old", datasets=["site-a/ct@1"])
    shelf.decoder("abdomen/liver", "new", datasets=["site-b/ct@1"], parent="abdomen/liver@1")
    shelf.decoder("lns/stations", datasets=["site-c/ct@1"], supporters=["abdomen/liver@2"])
    shelf.registry.create_release("1", ["lns/stations@1"])
    tree = shelf.registry.lineage_of("1")
    nodes = everything(tree)
    assert {ref for kind, ref in nodes if kind == "dataset"} == {
        "ref/body@1",
        "site-a/ct@1",
        "site-b/ct@1",
        "site-c/ct@1",
    }
    assert {(p["role"], p["ref"]) for p in tree["from"]} == {
        ("encoder", "encoder/starter@1"),
        ("body_part_model", "bpr/starter@1"),
        ("decoder", "lns/stations@1"),
        ("supporter", "abdomen/liver@2"),
    }
    for (kind, _), node in nodes.items():
        if kind in {"decoder", "encoder", "body_part_model"}:
            assert node["lineage"]["code_version"] == "abc123"
            assert node["lineage"]["seeds"] == [7]
            assert len(node["sha256"]) == 64


@on_both
def test_withdrawing_a_dataset_names_what_to_retrain_and_blocks_what_is_new(shelf: Shelf) -> None:
    registry = shelf.registry
    shelf.decoder("abdomen/liver", "a", datasets=["site-a/ct@1"])
    shelf.decoder("abdomen/liver", "b", datasets=["site-b/ct@1"], parent="abdomen/liver@1")
    shelf.decoder("abdomen/spleen", datasets=["site-b/ct@1"])
    registry.create_release("1", ["abdomen/liver@1", "abdomen/spleen@1"])
    registry.create_release("2", ["abdomen/liver@2"])
    registry.create_release("3", ["abdomen/spleen@1"])
    hit = registry.withdraw_dataset("site-a/ct@1", "consent revoked")
    assert hit == registry.touched_by("site-a/ct@1")
    assert hit.decoders == ("abdomen/liver@1", "abdomen/liver@2")
    assert hit.direct == ("abdomen/liver@1",)
    assert hit.releases == ("1", "2")
    assert registry.release("2").withdrawn == ("site-a/ct@1",)
    assert registry.release("3").withdrawn == ()
    with pytest.raises(Incompatible, match=r"site-a/ct@1 was withdrawn.*consent revoked"):
        shelf.decoder("abdomen/liver", "c", datasets=["site-a/ct@1"])
    # retrained without it, the group's place in a child release is clean again
    shelf.decoder("abdomen/liver", "d", datasets=["site-b/ct@1"])
    assert registry.create_release("4", ["abdomen/liver@3"], parent="1").withdrawn == ()
    assert registry.touched_by("site-a/ct@1").releases == ("1", "2")


@on_both
def test_data_of_the_encoder_touches_everything_built_on_it(shelf: Shelf) -> None:
    shelf.decoder("abdomen/liver")
    shelf.registry.create_release("1", ["abdomen/liver@1"])
    hit = shelf.registry.touched_by("ref/body@1")
    assert hit.encoders == ("encoder/starter@1",)
    assert hit.body_part_models == ("bpr/starter@1",)
    assert (hit.decoders, hit.releases) == (("abdomen/liver@1",), ("1",))


def test_other_origins_are_followed_too(shelf: Shelf) -> None:
    grown = lineage("site-a/ct@1", parents=("encoder/starter@1",))
    shelf.registry.add_encoder("grown", b"grown", {}, {}, grown)
    assert "encoder/grown@1" in shelf.registry.touched_by("ref/body@1").encoders


def test_a_name_of_two_kinds_asks_which(shelf: Shelf) -> None:
    shelf.decoder("abdomen/liver", datasets=["abdomen/liver@1"])
    with pytest.raises(InputError, match="decoder and dataset"):
        shelf.registry.lineage_of("abdomen/liver@1")
    tree = shelf.registry.lineage_of("abdomen/liver@1", kind="dataset")
    assert (tree["kind"], tree["from"]) == ("dataset", [])


@pytest.fixture(scope="module")
def busy_shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    folder: Path = tmp_path_factory.mktemp("busy")
    with Shelf(f"{folder}/registry.db", folder / "artefacts") as opened:
        yield opened.furnish()


@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_down_is_the_inverse_of_up(busy_shelf: Shelf, data: st.DataObject) -> None:
    """For any history: a dataset touched exactly what has it in its own lineage."""
    registry = busy_shelf.registry
    start = len(registry.groups())
    made: list[str] = []
    for number in range(data.draw(st.integers(1, 5))):
        group = f"h{start + number}"
        datasets = data.draw(st.sets(st.sampled_from(["p/x@1", "q/x@1", "r/x@1"])))
        supporters = data.draw(st.sets(st.sampled_from(made))) if made else set()
        first = busy_shelf.decoder(group, datasets=sorted(datasets), supporters=sorted(supporters))
        made.append(first.ref)
        if data.draw(st.booleans()):
            made.append(busy_shelf.decoder(group, "b", datasets=["s/x@1"], parent=first.ref).ref)
    for dataset in {node.ref for node in registry.datasets()}:
        touched = set(registry.touched_by(dataset).decoders)
        for ref in made:
            came_from = {name for _, name in everything(registry.lineage_of(ref))}
            assert (dataset in came_from) == (ref in touched)
