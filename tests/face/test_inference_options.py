"""Mirroring, overlap, precision and device, from Python and from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_release import add_decoder
from typer.testing import CliRunner

import clnet
from clnet.cli import app


@pytest.fixture
def unsure(furnished: clnet.Hub) -> clnet.Hub:
    """A hub whose release ``unsure`` labels some voxels and not others."""
    add_decoder(furnished.registry, "site/liver", ["liver"], seed=3)
    furnished.registry.create_release("unsure", ["site/liver@1"])
    return furnished


def test_options_change_how_a_scan_is_seen_and_results_say_so(
    unsure: clnet.Hub, scan: Path
) -> None:
    plain = unsure.segment(scan, "unsure", precision="float32", device="cpu")
    said = plain.statistics()["inference"]
    assert (said["mirror"], said["overlap"], said["dtype"]) == ("", 0.25, "float32")
    asked: list[dict[str, Any]] = [{"mirror": "xz"}, {"overlap": 0.6}, {"precision": "bfloat16"}]
    for options in asked:
        other = unsure.segment(scan, "unsure", **{"precision": "float32", **options})
        said = other.statistics()["inference"]
        told = {"mirror": said["mirror"], "overlap": said["overlap"], "precision": said["dtype"]}
        (name, value), *_ = options.items()
        assert told[name] == ("zx" if name == "mirror" else value)
        if name == "mirror":  # the other two change logits only, in a scan of one window
            assert (other.labels["organ"] != plain.labels["organ"]).any()
    again = unsure.segment(scan, "unsure", precision="float32")
    np.testing.assert_array_equal(again.labels["organ"], plain.labels["organ"])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"mirror": "zz"}, "letters among z"),
        ({"mirror": "ab"}, "letters among z"),
        ({"overlap": 1.0}, "overlap 1.0: 0 to below 1"),
        ({"precision": "float8"}, "one of auto, float32, bfloat16"),
        ({"device": "cuda:99"}, "not on this machine"),
        ({"device": "toaster"}, "not on this machine"),
    ],
)
def test_an_option_that_cannot_be_is_refused(
    furnished: clnet.Hub, scan: Path, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(clnet.InputError, match=told):
        furnished.segment(scan, **options)


def test_the_command_hands_options_on(unsure: clnet.Hub, scan: Path, tmp_path: Path) -> None:
    words = ["segment", str(scan), "--output", str(tmp_path / "out"), "--release", "unsure"]
    words += ["--mirror", "y", "--overlap", "0.5", "--precision", "float32", "--device", "cpu"]
    told = CliRunner().invoke(app, [*words, "--workspace", str(unsure.workspace.root)])
    assert told.exit_code == 0, told.exception
    said = json.loads((tmp_path / "out" / "statistics.json").read_text())["inference"]
    assert (said["mirror"], said["overlap"], said["dtype"]) == ("y", 0.5, "float32")
    assert said["device"].startswith("cpu")
