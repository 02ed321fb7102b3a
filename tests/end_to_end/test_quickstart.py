"""The quickstart with the shipped starter, cut down to a minute: what it makes, reuses, promises.

Too few batches for good masks; whether the figures are good is the quickstart's own to say.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml
from rich.console import Console

from clnet.anatomy.phantom import render
from clnet.hub import connect
from clnet.judging import HeldOutScan
from clnet.quickstart.journey import Journey
from clnet.quickstart.recipe import QuickstartRecipe, load_recipe
from clnet.stages import Stages

pytestmark = pytest.mark.slow

KEYS = {
    "seconds",
    "dsc",
    "false_positive_ml",
    "mean_dsc",
    "mean_dsc_new",
    "baseline_dsc",
    "mean_pruned",
    "mean_abs_delta_dsc",
    "mean_abs_delta_dsc_new",
    "delta_dsc_stored",
    "old_logits_identical",
    "old_voxels_changed",
    "release",
    "outputs",
    "refused",
    "notice",
}


def small(folder: Path) -> QuickstartRecipe:
    """The recipe that ships, with less of everything."""
    space = folder / "space.yaml"
    text = {"rates": [0.8, 0.9], "rewind": "none", "recovery_steps": 4, "reports": 2, "grace": 1}
    space.write_text(yaml.safe_dump(text), encoding="utf-8")
    recipe = load_recipe()
    return recipe.model_copy(
        update={
            "sites": {
                name: site.model_copy(update={"count": 3}) for name, site in recipe.sites.items()
            },
            "train": recipe.train | {"steps": 8, "patch_size": (32, 32, 32)},
            "update": recipe.update | {"steps": 4},
            "search": recipe.search.model_copy(update={"space": str(space)}),
            "held_out": recipe.held_out.model_copy(
                update={"count": 1, "orientations": ("PIR",), "field_of_view": "abdomen"}
            ),
            "baseline": recipe.baseline.model_copy(update={"count": 2}),
        }
    )


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> QuickstartRecipe:
    return small(tmp_path_factory.mktemp("space"))


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Somebody's own CT: other spacing, other orientation, and the name of a held-out scan."""
    phantom = render(77, spacing=(5.0, 4.0, 4.0), field_of_view="abdomen")
    written = HeldOutScan(phantom, "RAS").write(tmp_path_factory.mktemp("own"))
    return written.rename(written.with_name("phantom-90000.nii.gz"))


@pytest.fixture(scope="module")
def workspace(
    tmp_path_factory: pytest.TempPathFactory, recipe: QuickstartRecipe, scan: Path
) -> Path:
    """A workspace in which the quickstart ran once."""
    folder = tmp_path_factory.mktemp("quickstart")
    Journey(folder, ct=scan, stages=Stages(Console(file=io.StringIO())), recipe=recipe).run()
    return folder


def summary_of(workspace: Path) -> dict:
    return json.loads((workspace / "quickstart" / "summary.json").read_text(encoding="utf-8"))


def test_the_summary_says_all_that_was_promised(workspace: Path) -> None:
    summary = summary_of(workspace)
    assert summary.keys() >= KEYS
    assert summary["mean_pruned"] > 0.75
    assert "phantoms" in summary["notice"]
    assert {"liver", "kidney", "stomach", "gallbladder"} <= summary["dsc"].keys()


def test_the_summary_tells_what_this_run_measured_and_what_the_starter_brought(
    workspace: Path,
) -> None:
    summary = summary_of(workspace)
    stored = set(summary["delta_dsc_stored"])
    own = {name: delta for name, delta in summary["delta_dsc"].items() if name not in stored}
    assert "liver" in stored
    assert set(own) <= set(summary["new"])
    assert summary["mean_abs_delta_dsc_new"] == pytest.approx(np.mean(np.abs(list(own.values()))))


def test_what_the_starter_knew_is_unchanged(workspace: Path) -> None:
    summary = summary_of(workspace)
    assert summary["old_logits_identical"] is True
    assert summary["old_voxels_changed"] == 0


def test_new_decoders_are_dense_then_pruned_and_one_leans_on_the_liver(workspace: Path) -> None:
    with connect(workspace) as hub:
        release = hub.releases.get(summary_of(workspace)["release"])
        new = {record.group: record for record in release.tiers[1]}
        assert set(new) == {
            "abdomen/stomach",
            "abdomen/gallbladder",
            "abdomen/kidneys",
            "bone/shoulder_girdle",
        }
        assert all(record.ticket is not None for record in new.values())
        assert [s.ref.partition("@")[0] for s in new["abdomen/gallbladder"].supporters] == [
            "abdomen/liver"
        ]
        assert new["abdomen/kidneys"].unions == (("kidney_left", "kidney_right"),)
        aortas = hub.decoders.list("chest/aorta")
        assert aortas[-1].parent_ref == aortas[0].ref


def test_every_scan_comes_back_on_its_own_grid_with_a_picture(workspace: Path, scan: Path) -> None:
    outputs = {name: Path(path) for name, path in summary_of(workspace)["outputs"].items()}
    sources = {path.name: path for path in (workspace / "quickstart" / "scans").iterdir()}
    sources[f"ct-{scan.name}"] = scan
    assert set(outputs) == {"phantom-90000", "ct-phantom-90000"}
    for name, folder in outputs.items():
        image = nib.load(sources[f"{name}.nii.gz"])
        masks = sorted((folder / "masks").glob("*.nii.gz"))
        assert masks
        for path in masks:
            mask = nib.load(path)
            assert mask.shape == image.shape
            np.testing.assert_allclose(mask.affine, image.affine, atol=1e-4)
        assert (folder / "preview.png").read_bytes().startswith(b"\x89PNG")
        assert "anatomies" in json.loads((folder / "statistics.json").read_text(encoding="utf-8"))


def test_a_second_run_reuses_what_the_first_made(workspace: Path, recipe: QuickstartRecipe) -> None:
    with connect(workspace) as hub:
        before = [record.ref for record in hub.decoders.list()]
    said = io.StringIO()
    Journey(workspace, stages=Stages(Console(file=said, width=1000)), recipe=recipe).run()
    with connect(workspace) as hub:
        assert [record.ref for record in hub.decoders.list()] == before
    stages = {line.split()[1]: line for line in said.getvalue().splitlines() if line[:1] == "✓"}
    for stage in ("sites", "train", "prune", "update", "release"):
        assert "(reused)" in stages[stage]
