"""The benchmark on phantoms, cut down to seconds: what it writes, and that it goes on.

Four batches teach nothing; whether the figures are good is the benchmark's own to say.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from clnet.hub import connect

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def small(path: Path) -> Path:
    """The recipe that ships, with less of everything."""
    recipe = yaml.safe_load((BENCHMARKS / "phantom.yaml").read_text(encoding="utf-8"))
    site = recipe["sites"]["east/head-neck"]
    spine = {"bone/cervical_spine": site["decoders"]["bone/cervical_spine"]}
    recipe["sites"] = {"east/head-neck": site | {"count": 3, "decoders": spine}}
    comparison = recipe["comparison"]
    comparison["site"]["count"] = 3
    comparison["packs"] = {"one": {"bone/hips": ["hip_left", "hip_right"]}}
    for part in (recipe["train"], recipe["prune"], comparison["train"]):
        part |= {"steps": 4, "patch_size": [32, 32, 32]}
    recipe["held_out"] |= {"count": 1, "field_of_view": "head-neck", "orientations": ["PIR"]}
    recipe["baseline"]["count"] = 2
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


def run(folder: Path, out: str) -> dict[str, Any]:
    command = [sys.executable, str(BENCHMARKS / "phantom.py"), "--workspace", str(folder / "hub")]
    command += ["--recipe", str(folder / "recipe.yaml"), "--out", str(folder / out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / out).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the benchmark ran once."""
    folder = tmp_path_factory.mktemp("benchmark")
    small(folder / "recipe.yaml")
    run(folder, "first.json")
    return folder


def test_the_result_holds_machine_command_figures_and_targets(folder: Path) -> None:
    result = json.loads((folder / "first.json").read_text(encoding="utf-8"))
    assert result["command"].startswith("python benchmarks/phantom.py")
    assert result["machine"].keys() >= {"cpu", "cores", "memory_gib", "gpu", "torch", "python"}
    assert "phantoms" in result["notes"][0]
    targets = {target["name"]: target for target in result["targets"]}
    assert 0.8 < targets["mean_pruned"]["value"] < 1  # what learned nothing is not pruned
    assert targets["anatomies"]["ok"] is False
    assert all(target.keys() == {"name", "value", "target", "ok"} for target in targets.values())
    figures = result["figures"]
    assert figures["new"] == ["vertebrae_cervical"]
    assert figures["per_anatomy"]["vertebrae_cervical"].keys() >= {"dsc", "dense", "baseline"}
    assert figures["decoders"] == 19


def test_both_encoders_get_the_same_jobs(folder: Path) -> None:
    with connect(folder / "hub") as hub:
        made = hub.decoders.list("bone/hips")
    random, learned = (
        next(r for r in made if r.encoder_ref == ref and r.ticket is None)
        for ref in ("encoder/random@1", "encoder/starter@1")
    )
    differing = {
        key
        for key, value in random.lineage.config["job"].items()
        if learned.lineage.config["job"][key] != value
    }
    assert differing == {"encoder"}
    assert random.lineage.config["stream"] == learned.lineage.config["stream"]


def test_a_second_run_makes_nothing_anew(folder: Path) -> None:
    with connect(folder / "hub") as hub:
        before = [record.ref for record in hub.decoders.list()]
    again = run(folder, "second.json")
    first = json.loads((folder / "first.json").read_text(encoding="utf-8"))
    with connect(folder / "hub") as hub:
        assert [record.ref for record in hub.decoders.list()] == before
        assert all(job.status == "succeeded" for job in hub.registry.jobs())
    assert again["figures"]["per_anatomy"] == first["figures"]["per_anatomy"]
