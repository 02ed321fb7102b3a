"""A release goes to another hub whole, or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from registry_shelf import Shelf, digest, on_both

from clnet.decoders_registry import TicketRecord
from clnet.errors import AlreadyExists, Incompatible, InputError, IntegrityError, NotFound


@pytest.fixture
def export(shelf: Shelf, tmp_path: Path) -> Path:
    ticket = TicketRecord(rate=0.9, sparsity=0.9, dense_sha=shelf.store.put(b"dense"))
    shelf.decoder("abdomen/liver", "a", datasets=["site-a/ct@1"], ticket=ticket)
    shelf.decoder("abdomen/liver", "b", datasets=["site-b/ct@1"], parent="abdomen/liver@1")
    shelf.decoder("lns/stations", supporters=["abdomen/liver@1"])
    shelf.registry.create_release("0", ["abdomen/liver@1"])
    shelf.registry.create_release("1", ["abdomen/liver@2", "lns/stations@1"], parent="0")
    folder = tmp_path / "export"
    size = shelf.registry.export_release("1", folder)
    assert size == sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    return folder


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    index = folder / "release.json"
    content = json.loads(index.read_text())
    change(content)
    index.write_text(json.dumps(content))


@on_both
def test_a_round_trip_keeps_everything(shelf: Shelf, other_hub: Shelf, export: Path) -> None:
    there = other_hub.registry
    imported = there.import_release(export)
    here = shelf.registry.release("1")
    assert imported.sha256 == here.sha256 == there.release("1").sha256
    assert imported.reused == ()
    assert imported.total_bytes == sum(f.stat().st_size for f in export.glob("*.safetensors"))
    assert [[d.ref for d in t] for t in imported.tiers] == [[d.ref for d in t] for t in here.tiers]
    for decoder in here.decoders:
        assert there.artefact(decoder.sha256) == shelf.registry.artefact(decoder.sha256)
        assert there.decoder(decoder.ref) == decoder.model_copy(update={"aliases": ()})
    assert there.lineage_of("1") == shelf.registry.lineage_of("1") | {
        "from": there.lineage_of("1")["from"]
    }
    assert there.touched_by("site-a/ct@1").releases == ("1",)
    assert there.verify().ok
    assert {dataset.held_at for dataset in there.datasets()} == {"elsewhere"}


def test_dense_checkpoints_stay_behind(other_hub: Shelf, export: Path) -> None:
    other_hub.registry.import_release(export)
    ticket = other_hub.registry.decoder("abdomen/liver@1").ticket
    assert ticket is not None
    assert ticket.dense_sha is None
    assert ticket.details == {"dense_sha_elsewhere": digest("dense")}


@on_both
def test_importing_again_reuses_and_changes_nothing(other_hub: Shelf, export: Path) -> None:
    first = other_hub.registry.import_release(export, alias="production")
    assert {decoder.aliases for decoder in first.decoders} == {("production",)}
    assert other_hub.registry.decoder("abdomen/liver@production").version == 2
    other_hub.decoder("abdomen/liver", "c")
    other_hub.registry.promote("abdomen/liver", 3)
    journal = other_hub.registry.audit()
    again = other_hub.registry.import_release(export, alias="production")
    assert (again.added, again.reused) == ((), first.added)
    assert other_hub.registry.decoder("abdomen/liver@production").version == 3
    assert other_hub.registry.audit() == journal


@on_both
def test_probes_travel_and_complete_what_is_here(
    shelf: Shelf, other_hub: Shelf, export: Path
) -> None:
    other_hub.registry.import_release(export)
    assert other_hub.registry.decoder("abdomen/liver@2").probe_sha256 is None
    shelf.registry.add_probe("abdomen/liver@2", b"answer")
    second = export.with_name("second")
    shelf.registry.export_release("1", second)
    assert (second / f"{digest('answer')}.safetensors").read_bytes() == b"answer"
    assert other_hub.registry.import_release(second).added == ()
    kept = other_hub.registry.decoder("abdomen/liver@2").probe_sha256
    assert other_hub.registry.artefact(kept or "") == b"answer"
    assert other_hub.registry.verify().ok


def test_what_is_here_already_is_reused(shelf: Shelf, other_hub: Shelf, export: Path) -> None:
    other_hub.furnish()
    imported = other_hub.registry.import_release(export)
    assert set(imported.reused) == {"ref/body@1", "encoder/starter@1", "bpr/starter@1"}
    assert shelf.registry.import_release(export).added == ()


def test_new_work_goes_on_from_an_imported_release(other_hub: Shelf, export: Path) -> None:
    other_hub.registry.import_release(export)
    assert other_hub.decoder("abdomen/liver", "c").ref == "abdomen/liver@3"
    child = other_hub.registry.create_release("2", ["abdomen/liver@3"], parent="1")
    assert [[d.ref for d in t] for t in child.tiers] == [["abdomen/liver@3"], ["lns/stations@1"]]


def test_a_ref_that_is_taken_by_other_content_is_refused(other_hub: Shelf, export: Path) -> None:
    other_hub.furnish()
    other_hub.decoder("abdomen/liver", "mine")
    with pytest.raises(Incompatible, match="abdomen/liver@1 exists here with other content"):
        other_hub.registry.import_release(export)
    assert other_hub.registry.releases() == []
    assert [d.ref for d in other_hub.registry.decoders()] == ["abdomen/liver@1"]


def test_damaged_bytes_are_refused_and_a_good_copy_finishes_the_job(
    other_hub: Shelf, export: Path
) -> None:
    last = sorted(export.glob("*.safetensors"))[-1]
    good = last.read_bytes()
    last.write_bytes(b"damaged")
    with pytest.raises(IntegrityError, match=last.name):
        other_hub.registry.import_release(export)
    assert other_hub.registry.releases() == []
    last.unlink()
    with pytest.raises(NotFound, match=last.name):
        other_hub.registry.import_release(export)
    last.write_bytes(good)
    assert other_hub.registry.import_release(export).name == "1"


def test_files_that_lead_elsewhere_are_refused(
    other_hub: Shelf, export: Path, tmp_path: Path
) -> None:
    file = sorted(export.glob("*.safetensors"))[0]
    file.rename(tmp_path / "secret")
    file.symlink_to(tmp_path / "secret")
    with pytest.raises(NotFound, match="no plain file"):
        other_hub.registry.import_release(export)


@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        (lambda c: c["artefacts"][0]["record"].update(sha256="../../etc"), InputError, "sha256"),
        (lambda c: c.update(extra=1), InputError, "extra"),
        (lambda c: c.update(format="clnet-release/9"), InputError, "format"),
        (lambda c: c["release"].update(policy={"gating": 0}), IntegrityError, "was changed"),
        (lambda c: c["release"].update(tiers=[["lns/stations@1"]]), IntegrityError, "was changed"),
        (lambda c: c["release"].update(name="../up"), IntegrityError, "was changed"),
        (lambda c: c["artefacts"].reverse(), NotFound, "not in the registry"),
        (lambda c: c["artefacts"][0]["record"].update(ref="encoder/x@1"), InputError, "is not"),
    ],
)
def test_a_forged_index_is_refused(
    other_hub: Shelf,
    export: Path,
    change: Callable[[dict[str, Any]], None],
    error: type[Exception],
    reason: str,
) -> None:
    rewrite(export, change)
    with pytest.raises(error, match=reason):
        other_hub.registry.import_release(export)
    assert other_hub.registry.datasets() == []


def test_an_export_is_never_overwritten_nor_half_written(shelf: Shelf, export: Path) -> None:
    with pytest.raises(AlreadyExists):
        shelf.registry.export_release("1", export)
    sha256 = shelf.registry.decoder("lns/stations@1").sha256
    Path(shelf.store.path_hint(sha256)).write_bytes(b"rotten")
    with pytest.raises(IntegrityError):
        shelf.registry.export_release("1", export.with_name("second"))
    assert not export.with_name("second").exists()


def test_a_release_with_withdrawn_data_does_not_leave_the_hub(shelf: Shelf, export: Path) -> None:
    shelf.registry.withdraw_dataset("site-b/ct@1", "consent revoked")
    with pytest.raises(Incompatible, match="site-b/ct@1, withdrawn"):
        shelf.registry.export_release("1", export.with_name("second"))
    assert shelf.registry.import_release(export).withdrawn == ("site-b/ct@1",)


def test_a_folder_without_an_index_is_not_found(other_hub: Shelf, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"release\.json"):
        other_hub.registry.import_release(tmp_path)
