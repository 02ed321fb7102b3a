"""`clnet releases diff --on`: changed voxels per anatomy of the older release."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_release import add_decoder
from typer.testing import CliRunner

import clnet
from clnet.cli import app

VOXELS = 24 * 20 * 16


def changes(hub: clnet.Hub, scan: Path, before: str, after: str) -> dict[str, dict[str, Any]]:
    found = hub.releases.changed_voxels(before, after, [scan])
    assert {change.scan for change in found} == {str(scan)}
    return {change.anatomy: change.to_dict() for change in found}


def test_what_a_child_adds_changes_no_voxel_unless_it_has_precedence(
    furnished: clnet.Hub, scan: Path
) -> None:
    add_decoder(furnished.registry, "abdomen/stomach", ["stomach"], favour=1)
    create = furnished.releases.create
    create("added", ["abdomen/stomach@1"], parent="2026.11")
    create("overruled", parent="added", policy={"precedence": "newest"}, decoders=[])
    kept = changes(furnished, scan, "2026.11", "added")
    assert set(kept) == {"liver", "spleen"}
    assert all(change["changed"] == 0 for change in kept.values())
    assert kept["liver"]["before"] == kept["liver"]["after"] == VOXELS
    taken = changes(furnished, scan, "added", "overruled")
    assert (taken["liver"]["lost"], taken["liver"]["after"]) == (VOXELS, 0)
    assert (taken["stomach"]["gained"], taken["stomach"]["before"]) == (VOXELS, 0)


def test_parts_keep_the_mask_of_what_they_refine(furnished: clnet.Hub, scan: Path) -> None:
    registry, create = furnished.registry, furnished.releases.create
    add_decoder(registry, "imported/kidneys", ["kidney"], favour=1)
    add_decoder(registry, "abdomen/kidney", ["kidney_left", "kidney_right"], favour=1)
    create("whole", ["imported/kidneys@1"])
    create("sided", ["abdomen/kidney@1"], parent="whole")
    assert changes(furnished, scan, "whole", "sided")["kidney"]["changed"] == 0
    create("without", ["abdomen/spleen@1"])
    assert changes(furnished, scan, "whole", "without")["kidney"]["lost"] == VOXELS


def test_the_command_counts_on_scans_and_phantoms(furnished: clnet.Hub, scan: Path) -> None:
    furnished.releases.create("liver-only", ["abdomen/liver@1"])
    words = ["releases", "diff", "2026.11", "liver-only", "--workspace"]
    words.append(str(furnished.workspace.root))
    plain = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert "voxels" not in plain
    told = CliRunner().invoke(app, [*words, "--json", "--on", str(scan)])
    rows = json.loads(told.stdout)["voxels"]
    assert [(row["anatomy"], row["changed"]) for row in rows] == [("liver", 0), ("spleen", 0)]
    assert "liver" in CliRunner().invoke(app, [*words, "--on", str(scan)]).stdout
    wrong = CliRunner().invoke(app, [*words, "--on", "phantom:x"])
    assert isinstance(wrong.exception, clnet.InputError)


@pytest.mark.slow
def test_a_phantom_stands_for_a_scan(furnished: clnet.Hub) -> None:
    (liver, spleen) = furnished.releases.changed_voxels("2026.11", "2026.11", ["phantom:7"])
    assert liver.before > 0
    assert liver.changed == spleen.changed == 0
