"""The benchmark of pruning, cut down to seconds: both modes end, and what they write.

A few batches teach nothing; whether the figures are good is the benchmark's own to say.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the recipe that ships, with less of everything."""
    home = tmp_path_factory.mktemp("pruning")
    recipe = yaml.safe_load((BENCHMARKS / "pruning.yaml").read_text(encoding="utf-8"))
    recipe["site"]["count"], recipe["held_out"]["count"] = 3, 1
    recipe["groups"] = {"abdomen/liver": ["liver"]}
    recipe["decoder"]["widths"] = [16, 16, 16, 16]
    recipe["stream"]["patch_size"] = [32, 32, 32]
    recipe |= {"validation": 1, "judging": 1}
    recipe["train"]["steps"], recipe["recover"]["steps"] = 3, 2
    recipe["structured"] |= {"rates": [0.6, 0.8], "tolerance": 1.0}
    recipe["rewind"] = {"rates": [0.8], "early": 0.4, "seeds": [1]}
    (home / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return home


def run(folder: Path, mode: str) -> dict[str, Any]:
    out = folder / f"{mode}.json"
    command = [sys.executable, str(BENCHMARKS / "pruning.py"), "--mode", mode]
    command += ["--workspace", str(folder / "hub"), "--recipe", str(folder / "recipe.yaml")]
    command += ["--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found


def test_tickets_are_compared_before_and_after_compaction(folder: Path) -> None:
    result = run(folder, "tickets")
    versions = result["figures"]["groups"]["abdomen/liver"]
    assert versions["unstructured"]["weights_cut"] == pytest.approx(0.95, abs=1e-3)
    small = versions["structured, compacted"]
    assert small["parameters"] < versions["structured"]["parameters"]
    assert small["dsc"] == pytest.approx(versions["structured"]["dsc"], abs=0.02)
    like = versions["as many weights as structured"]
    assert like["weights_cut"] >= versions["structured"]["weights_cut"] - 1e-9
    assert result["targets"][0]["name"].startswith("structured, compacted")
    assert len(result["targets"]) == 4


def test_rewinding_is_compared_at_equal_budget(folder: Path) -> None:
    rows = run(folder, "rewind")["figures"]["groups"]["abdomen/liver"]
    assert set(rows) == {"init at 80%", "early at 80%", "none at 80%"}
    assert all(len(row["delta"]) == 1 for row in rows.values())
