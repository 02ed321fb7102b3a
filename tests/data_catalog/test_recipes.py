"""Recipes of public datasets: valid data, and a tiny copy of each through the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from tiny_dicom import save_series, save_structure_set
from tiny_scans import save, scan
from typer.testing import CliRunner

from clnet.anatomy import part_of_body, vocabulary
from clnet.cli import app
from clnet.data_catalog import Catalog, IntakeRules, Recipe, fingerprint, load_recipe, recipes
from clnet.data_catalog.validation import codes
from clnet.errors import InputError, NotFound

EXAMPLE_ID = {
    "amos22": "amos_0004",
    "lits": "7",
    "ct-org": "21",
    "btcv": "0001",
    "ribseg": "RibFrac7",
    "abdomenct-1k": "Case_00001",
    "pancreas-ct": "0001",
    "lnq2023": "lnq2023-val-0004",
}
"""Where a dataset's own ids are needed."""


JUDGED = frozenset(code for code, kind in codes().items() if kind.judged)


def run(workspace: Path, *arguments: str | Path) -> Any:
    told = CliRunner().invoke(
        app,
        [*(str(a) for a in arguments), "--json"],
        env={"CLNET_WORKSPACE": str(workspace)},
        catch_exceptions=False,
    )
    assert told.exit_code == 0, told.output
    return json.loads(told.stdout)


def test_there_are_recipes_of_many_public_datasets() -> None:
    known = recipes()
    assert len(known) >= 26
    assert {"abdomenct-1k", "lnq2023", "pancreas-ct"} <= known.keys()
    assert {recipe.format for recipe in known.values()} >= {
        "decathlon",
        "dicom",
        "totalsegmentator",
    }
    for name, recipe in known.items():
        assert name == recipe.id
        assert recipe.terms.licence
        assert recipe.checked
        assert recipe.source
        for anatomy in recipe.meanings.anatomies:
            assert anatomy in vocabulary()


@pytest.mark.parametrize("name", sorted(recipes()))
def test_no_licence_demands_less_than_it_says(name: str) -> None:
    recipe = recipes()[name]
    parts = recipe.licence.upper().split("-")
    if parts[0] == "CC":
        assert {part for part in parts if part in ("BY", "NC", "SA", "ND")} <= recipe.obligations
    else:
        assert "AGREEMENT" in recipe.obligations


PARTS = {
    "head_neck": {"han-seg", "pddca", "segrap2023"},
    "chest": {"lctsc", "lnq2023", "msd-lung", "ribseg", "segthor"},
    "whole_body": {"ct-org", "totalsegmentator-v1", "totalsegmentator-v2", "verse"},
}
"""Of which part of the body a dataset is; of the abdomen where it is not listed."""


@pytest.mark.parametrize("name", sorted(recipes()))
def test_a_dataset_is_of_the_part_of_the_body_that_it_is_known_for(name: str) -> None:
    meanings = recipes()[name].meanings.meanings.values()
    part = next((part for part, names in PARTS.items() if name in names), "abdomen")
    assert part_of_body({one.name for many in meanings for one in many}) == part


def test_a_recipe_that_is_wrong_says_where(tmp_path: Path) -> None:
    text = load_recipe("lits").model_dump_json(exclude={"id"}, exclude_none=True)
    about = json.loads(text)

    def written(**changes: Any) -> Path:
        path = tmp_path / "mine.yaml"
        path.write_text(json.dumps(about | changes))
        return path

    assert load_recipe(written()).id == "mine"
    for changes, says in (
        ({"mapping": {1: "liber"}}, "mapping"),
        ({"format": "decathlon"}, "one of format and layout"),
        ({"only": "("}, "regular expression"),
        ({"layout": {"image": "a.nii", "labels": "{id}.nii"}}, "layout.image"),
        ({"colour": "red"}, "colour"),
    ):
        with pytest.raises(InputError, match=says):
            load_recipe(written(**changes))
    with pytest.raises(NotFound, match="amos22"):
        load_recipe("amos")


def write(path: Path, zyx: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if ".nii" in path.name:
        save(path, zyx)
        return
    image = sitk.GetImageFromArray(zyx)
    image.SetSpacing((1.5, 2.0, 3.0))
    if path.name.endswith(".seg.nrrd"):
        image.SetMetaData("Segment0_Name", path.stem)
        image.SetMetaData("Segment0_LabelValue", "1")
        image.SetMetaData("Segment0_Layer", "0")
    sitk.WriteImage(image, str(path))


SHAPE = (5, 36, 40)
"""Voxels of a tiny scan, ``(z, y, x)``: room for a box of 2 x 2 x 2 for every label."""


def corners(count: int) -> list[tuple[int, int]]:
    """Where boxes lie that do not touch, ``(y, x)``."""
    free = [(y, x) for y in range(1, SHAPE[1] - 2, 3) for x in range(1, SHAPE[2] - 2, 3)]
    assert count <= len(free)
    return free[:count]


def tiny_copy(recipe: Recipe, folder: Path) -> str:
    """A case laid out as the dataset, with a box for each of its labels; returns its id."""
    case_id = EXAMPLE_ID.get(recipe.id, "c1")
    keys = list(recipe.meanings.meanings)
    if recipe.meanings.rest_ignored:
        keys.append("what no recipe names")
    boxes = dict(zip(keys, corners(len(keys)), strict=True))
    if recipe.format == "dicom":
        files = save_series(folder / case_id / "ct", scan(1, SHAPE))
        outlines = {
            key: [
                [
                    (x - 0.5, y - 0.5, z),
                    (x + 1.5, y - 0.5, z),
                    (x + 1.5, y + 1.5, z),
                    (x - 0.5, y + 1.5, z),
                ]
                for z in (1, 2)
            ]
            for key, (y, x) in boxes.items()
        }
        save_structure_set(folder / case_id / "rs.dcm", files[0], outlines)
        return case_id
    masks: dict[str, NDArray[np.uint8]] = {}
    for key, (y, x) in boxes.items():
        masks[key] = np.zeros(SHAPE, np.uint8)
        masks[key][1:3, y : y + 2, x : x + 2] = 1
    image, labels = {
        "decathlon": ("imagesTr/{id}.nii.gz", "labelsTr/{id}.nii.gz"),
        "totalsegmentator": ("{id}/ct.nii.gz", "{id}/segmentations/{name}.nii.gz"),
        None: (recipe.layout.image, recipe.layout.labels) if recipe.layout else ("", ""),
    }[recipe.format]
    if recipe.format == "decathlon":
        labelled = {"0": "background"} | {key: f"label {key}" for key in keys}
        about = {"modality": {"0": "CT"}, "labels": labelled}
        (folder / "dataset.json").parent.mkdir(parents=True, exist_ok=True)
        (folder / "dataset.json").write_text(json.dumps(about))

    def place(pattern: str, name: str = "") -> Path:
        filled = pattern.replace("**/", "part/").replace("/*/", "/sub/").replace("*", "Tr")
        return folder / filled.replace("{id}", case_id).replace("{name}", name)

    write(place(image), scan(1, SHAPE))
    if "{name}" in labels:
        for key, mask in masks.items():
            write(place(labels, key), mask)
    else:
        ids = sum(mask.astype(np.uint8) * int(key) for key, mask in masks.items())
        write(place(labels), np.asarray(ids, np.uint8))
    return case_id


@pytest.mark.parametrize("name", sorted(recipes()))
def test_a_tiny_copy_is_contributed_with_its_terms(name: str, tmp_path: Path) -> None:
    recipe = recipes()[name]
    case_id = tiny_copy(recipe, tmp_path / "copy")
    rules = IntakeRules(accept=JUDGED)  # boxes lie anywhere
    dataset = Catalog(tmp_path / "datasets").contribute_folder(
        f"public/{name}", tmp_path / "copy", recipe=recipe, rules=rules
    )
    assert dataset.case_ids == (case_id,)
    assert dataset.manifest.terms == recipe.terms
    held = fingerprint(dataset)["anatomies"]
    meant = {one.name: one.exact for many in recipe.meanings.meanings.values() for one in many}
    assert {anatomy: values["exact"] for anatomy, values in held.items()} == meant
    for anatomy in meant:
        labels = sum(
            anatomy in {m.name for m in many} for many in recipe.meanings.meanings.values()
        )
        assert held[anatomy]["voxels"] == 8 * labels, anatomy


@pytest.mark.parametrize("name", ["amos22", "han-seg", "lctsc", "msd-liver", "totalsegmentator-v2"])
def test_one_of_each_format_through_the_command_line(name: str, tmp_path: Path) -> None:
    recipe = recipes()[name]
    case_id = tiny_copy(recipe, tmp_path / "copy")
    workspace = tmp_path / "workspace"
    row = run(
        workspace,
        *("datasets", "contribute", f"public/{name}", "--source", tmp_path / "copy"),
        *("--recipe", name),
        *(word for code in sorted(JUDGED) for word in ("--accept", code)),
    )
    assert row["cases"] == 1
    shown = run(workspace, "datasets", "show", row["ref"])
    assert shown["case_ids"] == [case_id]
    assert shown["terms"]["licence"] == recipe.licence
    assert set(shown["terms"]["obligations"]) == recipe.obligations
    held = run(workspace, "datasets", "fingerprint", row["ref"])["anatomies"]
    assert any(counts["voxels"] for counts in held.values())


def test_a_copy_with_fewer_cases_and_what_is_left_out_are_told(tmp_path: Path) -> None:
    recipe = recipes()["amos22"]
    assert recipe.layout is not None
    tiny_copy(recipe, tmp_path / "copy")
    copy, workspace = tmp_path / "copy", tmp_path / "workspace"
    for case in ("amos_0501", "amos_0502"):  # MR
        save(copy / "imagesTr" / f"{case}.nii.gz", scan(1))
        save(copy / "labelsTr" / f"{case}.nii.gz", np.zeros_like(scan(1), np.uint8))
    save(copy / "imagesTs" / "amos_0008.nii.gz", scan(2))
    command = ["datasets", "contribute", "public/amos", "--source", copy, "--recipe", "amos22"]
    row = run(workspace, *command, "--strict", "--report", tmp_path / "report")
    assert (row["cases"], row["quarantined"]) == (1, [])
    told = {f["code"]: f for f in row["findings"] if f["code"] == "source.count"}
    assert told["source.count"]["severity"] == "warning"
    assert "1 labelled scans found; recipe amos22 counts 300" in told["source.count"]["explanation"]
    notes = [f["explanation"] for f in row["findings"] if f["code"] == "source.left-out"]
    assert notes == [
        "images without labels left out (1): amos_0008",
        "cases of other scans than amos22 left out (2): amos_0501, amos_0502",
    ]
    page = (tmp_path / "report" / "report.html").read_text()
    assert all(note in page for note in notes)
    shown = CliRunner().invoke(
        app,
        [str(part) for part in [*command, "--dry-run"]],
        env={"CLNET_WORKSPACE": str(workspace), "COLUMNS": "300"},
    )
    assert "source.count" in shown.stdout
    assert shown.stdout.count("source.left-out") == 2


def test_a_whole_copy_is_counted_without_a_word(tmp_path: Path) -> None:
    about = load_recipe("lits").model_dump(mode="json", exclude={"id"}, exclude_none=True)
    (tmp_path / "mine.yaml").write_text(json.dumps(about | {"cases": 1}))
    recipe = load_recipe(tmp_path / "mine.yaml")
    tiny_copy(recipes()["lits"], tmp_path / "copy")
    assert recipe.open(tmp_path / "copy").findings == ()


def test_broken_cases_count_and_those_of_others_are_not_told(tmp_path: Path) -> None:
    about = load_recipe("amos22").model_dump(mode="json", exclude={"id"}, exclude_none=True)
    (tmp_path / "mine.yaml").write_text(json.dumps(about | {"cases": 2}))
    recipe = load_recipe(tmp_path / "mine.yaml")
    tiny_copy(recipes()["amos22"], tmp_path / "copy")
    for case in ("amos_0007", "amos_0507"):  # labels alone, of a CT and of an MR scan
        save(tmp_path / "copy" / "labelsTr" / f"{case}.nii.gz", scan(1))
    opened = recipe.open(tmp_path / "copy")
    assert opened.broken == {"amos_0007"}
    assert {found.code for found in opened.findings} == {"case.no-image"}
    (tmp_path / "copy" / "imagesTr" / "amos_0004.nii.gz").unlink()
    with pytest.raises(InputError, match="no usable case"):
        recipe.open(tmp_path / "copy")


def test_what_the_caller_says_overrules_the_recipe(tmp_path: Path) -> None:
    tiny_copy(recipes()["lits"], tmp_path / "copy")
    (tmp_path / "mapping.yaml").write_text("{1: liver, 2: liver_tumor}")
    row = run(
        tmp_path / "workspace",
        *("datasets", "contribute", "public/lits", "--source", tmp_path / "copy"),
        *("--recipe", "lits", "--mapping", tmp_path / "mapping.yaml"),
        *("--licence", "LicenseRef-agreed", "--obligation", "agreement"),
    )
    shown = run(tmp_path / "workspace", "datasets", "show", row["ref"])
    assert shown["terms"]["licence"] == "LicenseRef-agreed"
    assert shown["terms"]["obligations"] == ["AGREEMENT"]
    assert "LiTS" in shown["terms"]["attribution"]


def test_recipes_and_formats_are_listed_and_shown(tmp_path: Path) -> None:
    rows = run(tmp_path, "datasets", "recipes")
    assert {row["recipe"] for row in rows} == set(recipes())
    shown = run(tmp_path, "datasets", "recipes", "kits23")
    assert shown["licence"] == "CC-BY-NC-SA-4.0"
    assert shown["citation"]["arxiv"] == "2307.01984"
    assert {row["format"] for row in run(tmp_path, "datasets", "formats")} >= {"nnunet", "dicom"}
