"""`clnet releases verify`: nothing is damaged, nothing is forgotten, and it says how it knows."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_release import add_decoder
from typer.testing import CliRunner

import clnet
from clnet.cli import app
from clnet.model.artefact import decode_decoder, decode_encoder
from clnet.model.numerics import numerics_class, threads
from clnet.model.probe import Probe, ProbedNetworks, decode_probe, encode_probe, make_probe


def verify(hub: clnet.Hub, *arguments: str) -> tuple[int, str]:
    """Exit code and what was told."""
    words = ["releases", "verify", *arguments, "--workspace", str(hub.workspace.root)]
    told = CliRunner().invoke(app, words)
    assert told.exception is None or isinstance(told.exception, SystemExit), told.exception
    return told.exit_code, told.stdout


def report(hub: clnet.Hub, *arguments: str) -> dict[str, Any]:
    code, text = verify(hub, *arguments, "--json")
    found: dict[str, Any] = json.loads(text)
    assert code == (0 if found["ok"] else 1)
    return found


def verdicts(hub: clnet.Hub, *arguments: str) -> dict[str, tuple[str, str]]:
    found = report(hub, *arguments)
    return {check["ref"]: (check["verdict"], check["checked_by"]) for check in found["decoders"]}


def probe_of(hub: clnet.Hub, ref: str) -> Probe:
    """The probe that a release would make for a decoder."""
    record = hub.decoders.get(ref)
    encoder, plan = decode_encoder(hub.registry.artefact(record.encoder_sha256))
    decoder = decode_decoder(hub.registry.artefact(record.sha256))
    networks = ProbedNetworks(encoder, plan, record.encoder_sha256, {record.sha256: decoder})
    return make_probe(networks, record.sha256)


def elsewhere(probe: Probe, shift: float) -> Probe:
    """The probe as another machine might have made it, its logits a little off."""
    return replace(
        probe,
        numerics=probe.numerics | {"device": "cpu of another kind"},
        logits_sha256="0" * 64,
        logits=probe.logits + shift * probe.logits.std(),
    )


@pytest.fixture
def probed(furnished: clnet.Hub) -> clnet.Hub:
    """A hub with a release ``first`` whose decoders have probes."""
    furnished.releases.create("first")
    return furnished


def test_a_fresh_release_answers_to_the_bit(probed: clnet.Hub) -> None:
    bits = ("identical", "output hash")
    assert verdicts(probed, "first") == {"abdomen/liver@1": bits, "abdomen/spleen@1": bits}
    code, text = verify(probed, "first")
    assert code == 0
    assert "release first verified" in text
    assert "artefacts: 6 of 6 whole" in text  # encoder, body-part model, two decoders, two probes


def test_the_shipped_starter_answers_to_the_bit_where_it_can(tmp_path: Path) -> None:
    with clnet.connect(tmp_path) as hub:
        hub.releases.import_("starter")
        found = hub.releases.verify("starter")
    assert found.ok
    assert len(found.decoders) == 18
    with threads(1):  # as the probes were made
        here = {name: numerics_class(torch.device("cpu"), name) for name in ("float32", "bfloat16")}
    for check in found.decoders:
        if check.numerics in here.values():
            assert (check.verdict, check.checked_by) == ("identical", "output hash"), check.detail


def test_probes_are_made_once_and_small(probed: clnet.Hub) -> None:
    before = [probed.decoders.get(ref).probe_sha256 for ref in ("abdomen/liver", "abdomen/spleen")]
    again = probed.releases.create("second")
    assert [decoder.probe_sha256 for decoder in again.decoders] == before
    assert all(len(probed.registry.artefact(sha256)) < 100_000 for sha256 in before)
    assert probed.registry.verify().orphans == ()


def test_a_flipped_byte_is_found_and_named(probed: clnet.Hub) -> None:
    spleen = probed.decoders.get("abdomen/spleen")
    file = Path(probed.registry.artefacts.path_hint(spleen.sha256))
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    code, text = verify(probed, "first")
    assert code == 1
    assert f"damaged: {spleen.ref}" in text
    assert "release first NOT verified" in text
    assert verdicts(probed, "first") == {
        "abdomen/liver@1": ("identical", "output hash"),
        "abdomen/spleen@1": ("not computed", "artefact hash"),
    }


@pytest.mark.parametrize("part", ["encoder_sha256", "body_part_model_sha256"])
def test_a_missing_foundation_is_found(probed: clnet.Hub, part: str) -> None:
    sha256 = getattr(probed.releases.get("first"), part)
    Path(probed.registry.artefacts.path_hint(sha256)).unlink()
    found = report(probed, "first")
    assert not found["ok"]
    assert [fault["sha256"] for fault in found["faults"]] == [sha256]


def test_a_record_that_was_changed_is_found(probed: clnet.Hub) -> None:
    probed.close()
    with sqlite3.connect(probed.workspace.root / "registry.db") as raw:
        raw.execute("UPDATE releases SET policy = '{\"gating\": false}' WHERE name = 'first'")
    raw.close()
    found = report(probed, "first")
    assert not found["ok"]
    assert "the database was changed" in found["faults"][0]["reason"]
    assert "artefacts: 0 of 0 whole" in verify(probed, "first")[1]


def test_an_older_record_that_lost_a_decoder_does_not_hide_that_it_is_gone(
    probed: clnet.Hub,
) -> None:
    probed.releases.create("smaller", ["abdomen/liver@1"])
    spleen = probed.decoders.get("abdomen/spleen").sha256
    probed.close()
    with sqlite3.connect(probed.workspace.root / "registry.db") as raw:
        raw.execute(
            "DELETE FROM release_decoders WHERE release_id = "
            "(SELECT id FROM releases WHERE name = 'first') AND decoder_id = "
            "(SELECT id FROM decoder_versions WHERE sha256 = ?)",
            (spleen,),
        )
    raw.close()
    assert verify(probed, "smaller")[0] == 0
    found = report(probed, "smaller", "--against", "first")
    assert not found["ok"]
    assert [fault["refs"] for fault in found["faults"]] == [["first"]]
    code, text = verify(probed, "smaller", "--against", "first")
    assert code == 1
    assert "damaged: first: release first: its content hashes" in text
    assert "artefacts: 4 of 4 whole" in text


def test_an_update_of_another_decoder_leaves_shared_versions_as_they_were(
    probed: clnet.Hub,
) -> None:
    spleen = probed.decoders.get("abdomen/spleen@1")
    add_decoder(probed.registry, "abdomen/liver", ["liver"], seed=9)
    add_decoder(probed.registry, "abdomen/pancreas", ["pancreas"], seed=4)
    probed.releases.create("second", parent="first")
    assert probed.decoders.get("abdomen/spleen@1") == spleen
    found = report(probed, "second", "--against", "first")
    assert found["ok"]
    assert found["shared"] == ["abdomen/spleen@1"]
    assert found["against"]["changed"] == [
        {"group": "abdomen/liver", "before": "abdomen/liver@1", "after": "abdomen/liver@2"}
    ]
    assert found["against"]["added"] == ["abdomen/pancreas@1"]
    assert verdicts(probed, "second")["abdomen/spleen@1"] == ("identical", "output hash")
    assert verdicts(probed, "first")["abdomen/liver@1"] == ("identical", "output hash")
    code, text = verify(probed, "second", "--against", "first")
    assert code == 0
    assert "abdomen/liver@2" in text


def test_another_numerics_class_is_compared_within_a_tolerance(furnished: clnet.Hub) -> None:
    probe = elsewhere(probe_of(furnished, "abdomen/liver@1"), 1e-4)
    furnished.registry.add_probe("abdomen/liver@1", encode_probe(probe))
    furnished.releases.create("first")
    assert verdicts(furnished, "first") == {
        "abdomen/liver@1": ("within tolerance", "stored logits"),
        "abdomen/spleen@1": ("identical", "output hash"),
    }
    assert "'cpu of another kind' then" in verify(furnished, "first")[1].replace("\n", "")


@pytest.mark.parametrize("same_class", [True, False])
def test_other_logits_than_then_are_found(furnished: clnet.Hub, same_class: bool) -> None:
    probe = elsewhere(probe_of(furnished, "abdomen/liver@1"), 0.5)
    if same_class:
        probe = replace(probe, numerics=probe_of(furnished, "abdomen/liver@1").numerics)
    furnished.registry.add_probe("abdomen/liver@1", encode_probe(probe))
    furnished.releases.create("first")
    by = "output hash" if same_class else "stored logits"
    assert verdicts(furnished, "first")["abdomen/liver@1"] == ("changed", by)
    assert verify(furnished, "first")[0] == 1


def test_a_probe_of_another_decoder_certifies_nothing(furnished: clnet.Hub) -> None:
    probe = probe_of(furnished, "abdomen/spleen@1")
    furnished.registry.add_probe("abdomen/liver@1", encode_probe(probe))
    furnished.releases.create("first")
    assert verdicts(furnished, "first")["abdomen/liver@1"][0] == "not computed"
    assert verify(furnished, "first")[0] == 1


def test_a_release_without_probes_is_not_verified_and_says_so(furnished: clnet.Hub) -> None:
    assert set(verdicts(furnished, "2026.11").values()) == {("no probe", "artefact hash")}
    code, text = verify(furnished, "2026.11")
    assert code == 1
    assert "2 of 2 decoders carry no probe: their hashes were checked" in text
    assert "release 2026.11 NOT verified" in text
    furnished.releases.create("probed")  # of the same decoders, which have probes from now on
    assert verify(furnished, "2026.11")[0] == 0


def test_a_group_that_is_gone_is_named_and_fails(probed: clnet.Hub) -> None:
    probed.releases.create("smaller", ["abdomen/liver@1"])
    assert verify(probed, "smaller")[0] == 0
    code, text = verify(probed, "smaller", "--against", "first")
    assert code == 1
    assert "removed: abdomen/spleen@1 is in first" in text
    assert "release smaller NOT verified" in text
    assert report(probed, "smaller", "--against", "first")["against"]["removed"] == [
        "abdomen/spleen@1"
    ]


def test_a_release_beside_the_older_one_is_verified_with_a_warning(probed: clnet.Hub) -> None:
    add_decoder(probed.registry, "abdomen/pancreas", ["pancreas"], seed=4)
    probed.releases.create("beside")
    code, text = verify(probed, "beside", "--against", "first")
    assert code == 0
    assert "warning: first is not an ancestor of beside" in text
    assert "warning: voxels of abdomen/liver, abdomen/spleen may change hands" in text
    assert "release beside verified" in text
    assert text.splitlines()[-1].startswith("but what first segments is not protected in beside")
    against = report(probed, "beside", "--against", "first")["against"]
    assert (against["descends"], len(against["warnings"])) == (False, 2)
    probed.releases.create("child", parent="first")
    assert "warning" not in verify(probed, "child", "--against", "first")[1]


def test_probes_travel_with_a_release(probed: clnet.Hub, tmp_path: Path) -> None:
    probed.releases.export("first", tmp_path / "bundle")
    with clnet.connect(tmp_path / "other") as other:
        other.releases.import_(tmp_path / "bundle")
        assert set(verdicts(other, "first").values()) == {("identical", "output hash")}
        assert other.registry.verify().orphans == ()


def test_what_decoders_lean_on_is_asked_too(furnished: clnet.Hub) -> None:
    add_decoder(
        furnished.registry, "abdomen/pancreas", ["pancreas"], supporters=["abdomen/liver@1"]
    )
    furnished.releases.create("leaning", ["abdomen/pancreas@1"])
    bits = ("identical", "output hash")
    assert verdicts(furnished, "leaning") == {"abdomen/pancreas@1": bits, "abdomen/liver@1": bits}


def test_the_python_face_gives_a_typed_report(probed: clnet.Hub) -> None:
    told: list[float] = []
    found = probed.releases.verify("first", progress=lambda done, _: told.append(done))
    assert found.ok
    assert found.without_probe == ()
    assert told == [0.5, 1.0]
    with pytest.raises(clnet.NotFound):
        probed.releases.verify("nothing")


def test_a_probe_names_its_phantom_and_nothing_of_a_patient(probed: clnet.Hub) -> None:
    sha256 = probed.decoders.get("abdomen/liver").probe_sha256
    probe = decode_probe(probed.registry.artefact(sha256))
    hu = probe.patch.render()
    assert hu.shape == probe.patch.size
    assert -1024 <= hu.min() < 0 < hu.max()
