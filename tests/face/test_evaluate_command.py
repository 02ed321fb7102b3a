"""`clnet evaluate` on folders of every layout, with values that are known beforehand."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from matplotlib import rc_context
from typer.testing import CliRunner

import clnet
from clnet.cli import app

AFFINE = np.diag([-2.0, -2.0, 4.0, 1.0])
SHAPE = (20, 20, 12)  # x, y, z


def boxes(*corners: tuple[int, tuple[int, int, int]], size: int = 6) -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    for value, (x, y, z) in corners:
        labels[x : x + size, y : y + size, z : z + size] = value
    return labels


def save(path: Path, labels: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(labels, affine), path)
    return path


class Scores:
    """What the command wrote."""

    def __init__(self, folder: Path, told: Any) -> None:
        self.told = told
        self.files = {path.name for path in folder.iterdir()}
        self.summary = json.loads((folder / "summary.json").read_text())
        with (folder / "metrics.csv").open(newline="") as handle:
            self.rows = {(row["case"], row["anatomy"]): row for row in csv.DictReader(handle)}

    def reason(self, case: str, anatomy: str) -> str:
        row = self.rows[case, anatomy]
        assert row["status"] == "not evaluated"
        assert (row["dsc"], row["nsd"], row["hd95_mm"]) == ("", "", "")
        return row["reason"]


def evaluate(tmp_path: Path, *arguments: str | Path) -> Scores:
    asked = ("--reference", tmp_path / "truth", "--prediction", tmp_path / "found")
    out = tmp_path / "scores"
    words = ["evaluate", *asked, "--out", out, *arguments]
    told = CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=False)
    assert told.exit_code == 0, told.output
    return Scores(out, told)


@pytest.fixture
def mapping(tmp_path: Path) -> Path:
    path = tmp_path / "mapping.yaml"
    path.write_text("1: liver\n2: spleen\n3: kidney\n", encoding="utf-8")
    return path


@pytest.fixture
def maps(tmp_path: Path) -> Path:
    """Two cases: the liver shifted by one voxel of six, the spleen as it is, then missed."""
    truth = boxes((1, (2, 2, 2)), (2, (12, 12, 2)))
    save(tmp_path / "truth" / "a.nii.gz", truth)
    save(tmp_path / "truth" / "b.nii.gz", truth)
    save(tmp_path / "found" / "a.nii.gz", boxes((1, (2, 2, 3)), (2, (12, 12, 2))))
    save(tmp_path / "found" / "b.nii.gz", boxes((1, (2, 2, 2))))
    return tmp_path


def test_label_maps_are_scored_with_a_mapping(maps: Path, mapping: Path) -> None:
    scores = evaluate(maps, "--mapping", mapping)
    shifted = scores.rows["a", "liver"]
    assert float(shifted["dsc"]) == pytest.approx(5 / 6, abs=1e-4)
    assert float(shifted["hd95_mm"]) == pytest.approx(4.0)
    assert float(shifted["reference_ml"]) == pytest.approx(216 * 0.016, abs=1e-4)
    assert (shifted["group"], shifted["region"]) == ("abdomen/liver", "Abdomen")
    missed = scores.rows["b", "spleen"]
    assert (missed["finding"], missed["dsc"], missed["hd95_mm"]) == ("missed", "0.0", "")
    assert float(missed["volume_error_percent"]) == -100
    liver = scores.summary["anatomies"]["liver"]["figures"]["dsc"]
    assert (liver["n"], liver["mean"]) == (2, pytest.approx((5 / 6 + 1) / 2))
    assert liver["low"] <= liver["mean"] <= liver["high"]
    assert scores.summary["groups"]["abdomen/spleen"]["findings"] == {"matched": 1, "missed": 1}
    assert set(scores.summary["regions"]) == {"Abdomen"}
    assert scores.files == {"metrics.csv", "summary.json", "boxplots-abdomen.png"}
    assert "0.917" in scores.told.stdout


def test_what_neither_holds_counts_in_no_mean(maps: Path, mapping: Path) -> None:
    scores = evaluate(maps, "--mapping", mapping)
    assert scores.rows["a", "kidney"]["finding"] == "absent"
    assert scores.rows["a", "kidney"]["dsc"] == ""
    assert scores.summary["anatomies"]["kidney"]["figures"]["dsc"]["n"] == 0


def test_the_tolerance_is_an_option(maps: Path, mapping: Path) -> None:
    strict = float(evaluate(maps, "--mapping", mapping).rows["a", "liver"]["nsd"])
    mild = evaluate(maps, "--mapping", mapping, "--tolerance", "4").rows["a", "liver"]["nsd"]
    assert strict < 0.9 < float(mild) == 1.0


def test_pictures_do_not_hang_on_settings_of_the_process(maps: Path, mapping: Path) -> None:
    evaluate(maps, "--mapping", mapping)
    picture = (maps / "scores" / "boxplots-abdomen.png").read_bytes()
    with rc_context({"font.size": 60}):
        evaluate(maps, "--mapping", mapping)
    assert (maps / "scores" / "boxplots-abdomen.png").read_bytes() == picture


@pytest.mark.slow
def test_cases_side_by_side_give_the_same(maps: Path, mapping: Path) -> None:
    alone = evaluate(maps, "--mapping", mapping)
    assert evaluate(maps, "--mapping", mapping, "--jobs", "2").rows == alone.rows


def test_masks_by_name_need_no_mapping(tmp_path: Path) -> None:
    save(tmp_path / "truth" / "a" / "liver.nii.gz", boxes((1, (2, 2, 2))))
    save(tmp_path / "truth" / "a" / "kidney_left.nii.gz", boxes((1, (9, 9, 2))))
    found = tmp_path / "found" / "a" / "segmentations"
    save(found / "liver.nii.gz", boxes((1, (2, 2, 2))))
    save(found / "my_lesion.nii.gz", boxes((1, (2, 2, 2))))
    scores = evaluate(tmp_path)
    assert float(scores.rows["a", "liver"]["dsc"]) == 1.0
    assert scores.reason("a", "kidney_left") == "the prediction does not label it"
    assert "unknown anatomy" in scores.reason("a", "my_lesion")
    assert scores.summary["anatomies"]["kidney_left"]["figures"]["dsc"]["mean"] is None


def test_any_voxel_but_zero_counts_and_nan_is_refused(tmp_path: Path) -> None:
    truth = boxes((1, (2, 2, 2)))
    marked = boxes((1, (9, 9, 2))).astype(np.float32)
    marked[0, 0, 0] = np.nan
    save(tmp_path / "truth" / "a" / "liver.nii.gz", truth)
    save(tmp_path / "truth" / "a" / "spleen.nii.gz", boxes((1, (9, 9, 2))))
    save(tmp_path / "found" / "a" / "liver.nii.gz", -truth.astype(np.int8))
    save(tmp_path / "found" / "a" / "spleen.nii.gz", marked)
    scores = evaluate(tmp_path)
    assert float(scores.rows["a", "liver"]["dsc"]) == 1.0
    assert "spleen.nii.gz: voxels: holds NaN" in scores.reason("a", "spleen")


def test_an_earlier_evaluation_in_the_folder_leaves_no_pictures(tmp_path: Path) -> None:
    for side in ("truth", "found"):
        save(tmp_path / side / "a" / "liver.nii.gz", boxes((1, (2, 2, 2))))
        save(tmp_path / side / "a" / "brain.nii.gz", boxes((1, (9, 9, 2))))
    assert {"boxplots-abdomen.png", "boxplots-head_neck.png"} <= evaluate(tmp_path).files
    (tmp_path / "truth" / "a" / "brain.nii.gz").unlink()
    (tmp_path / "scores" / "boxplots-mine.png").write_bytes(b"of somebody else")
    found = evaluate(tmp_path).files
    assert {name for name in found if name.startswith("boxplots")} == {
        "boxplots-abdomen.png",
        "boxplots-mine.png",
    }


def test_names_of_others_are_explained_by_a_mapping(tmp_path: Path) -> None:
    save(tmp_path / "truth" / "a" / "liver.nii.gz", boxes((1, (2, 2, 2))))
    save(tmp_path / "found" / "a" / "Segment_7.nii.gz", boxes((1, (2, 2, 2))))
    save(tmp_path / "found" / "a" / "scan.nii.gz", boxes())
    (tmp_path / "theirs.yaml").write_text("Segment_7: liver\nscan: ignore\n", encoding="utf-8")
    scores = evaluate(tmp_path, "--prediction-mapping", tmp_path / "theirs.yaml")
    assert set(scores.rows) == {("a", "liver")}
    assert scores.rows["a", "liver"]["status"] == "evaluated"


@pytest.mark.parametrize("names", [("s1",), ("s1", "t2", "C3")])
def test_cases_may_be_named_like_vertebrae(
    tmp_path: Path, mapping: Path, names: tuple[str, ...]
) -> None:
    for name in names:
        save(tmp_path / "truth" / f"{name}.nii.gz", boxes((1, (2, 2, 2))))
        save(tmp_path / "found" / f"{name}.nii.gz", boxes((2, (2, 2, 2))))
    scores = evaluate(tmp_path, "--mapping", mapping)
    assert {case for case, _ in scores.rows} == set(names)
    assert scores.summary["anatomies"].keys() == {"kidney", "liver", "spleen"}
    assert float(scores.rows[names[0], "liver"]["dsc"]) == 0


@pytest.mark.parametrize("side", ["truth", "found"])
def test_one_case_of_masks_is_compared_with_a_label_map(
    tmp_path: Path, mapping: Path, side: str
) -> None:
    other = {"truth": "found", "found": "truth"}[side]
    save(tmp_path / side / "liver.nii.gz", boxes((1, (2, 2, 2))))
    save(tmp_path / side / "spleen.nii.gz", boxes((1, (12, 12, 2))))
    save(tmp_path / other / "case.nii.gz", boxes((1, (2, 2, 2)), (2, (12, 12, 2))))
    scores = evaluate(tmp_path, "--mapping", mapping)
    assert [float(scores.rows["case", name]["dsc"]) for name in ("liver", "spleen")] == [1, 1]


def test_a_mapping_that_names_no_anatomy_is_an_error(maps: Path, tmp_path: Path) -> None:
    (tmp_path / "ignored.yaml").write_text("1: ignore\n2: ignore\n", encoding="utf-8")
    with pytest.raises(clnet.InputError, match="names no anatomy"):
        evaluate(tmp_path, "--mapping", tmp_path / "ignored.yaml")


def test_a_whole_is_compared_with_the_union_of_its_parts(tmp_path: Path, mapping: Path) -> None:
    save(tmp_path / "truth" / "a.nii.gz", boxes((3, (2, 2, 2)), (3, (12, 2, 2))))
    save(tmp_path / "found" / "a" / "kidney_left.nii.gz", boxes((1, (2, 2, 2))))
    save(tmp_path / "found" / "a" / "kidney_right.nii.gz", boxes((1, (12, 2, 2))))
    scores = evaluate(tmp_path, "--mapping", mapping)
    assert float(scores.rows["a", "kidney"]["dsc"]) == 1.0
    assert "undivided, as part of kidney" in scores.reason("a", "kidney_left")
    (tmp_path / "found" / "a" / "kidney_right.nii.gz").unlink()
    again = evaluate(tmp_path, "--mapping", mapping)
    assert "labels only kidney_left of it" in again.reason("a", "kidney")


def test_slices_that_were_not_drawn_on_are_unknown(tmp_path: Path) -> None:
    whole = np.zeros(SHAPE, np.uint8)
    whole[5:10, 5:10] = 1
    drawn = whole.copy()
    drawn[:, :, :4] = 0
    save(tmp_path / "truth" / "a.nii.gz", drawn)
    save(tmp_path / "found" / "a" / "aorta.nii.gz", whole)
    (tmp_path / "map.yaml").write_text("1: {anatomy: aorta, within: auto}\n", encoding="utf-8")
    row = evaluate(tmp_path, "--mapping", tmp_path / "map.yaml").rows["a", "aorta"]
    assert (float(row["dsc"]), float(row["volume_error_ml"])) == (1.0, 0.0)


def test_our_own_results_are_read_as_they_were_written(
    furnished: clnet.Hub, scan: Path, tmp_path: Path
) -> None:
    furnished.segment(scan).save(tmp_path / "found" / "a", formats=["nifti"])
    image = nib.load(scan)
    labels = np.ones(image.shape, np.uint8)
    labels[: image.shape[0] // 2] = 0
    save(tmp_path / "truth" / "a" / "liver.nii.gz", labels, image.affine)
    save(tmp_path / "truth" / "a" / "pancreas.nii.gz", labels, image.affine)
    scores = evaluate(tmp_path)
    assert float(scores.rows["a", "liver"]["dsc"]) == pytest.approx(2 / 3, abs=1e-4)
    assert scores.reason("a", "pancreas") == "the prediction does not label it"
    assert scores.reason("a", "spleen") == "the reference does not label it"
    only = tmp_path / "found" / "a"
    alone = clnet.evaluate(tmp_path / "truth" / "a", only)
    assert {row.case for row in alone.rows} == {"a"}


def test_a_volume_may_be_stored_in_any_orientation_and_format(tmp_path: Path) -> None:
    import SimpleITK as sitk

    labels = boxes((1, (2, 3, 2)))
    save(tmp_path / "truth" / "a" / "liver.nii.gz", labels)
    turned = nib.Nifti1Image(labels, AFFINE).as_reoriented(
        nib.orientations.ornt_transform(
            nib.io_orientation(AFFINE), nib.orientations.axcodes2ornt("SRP")
        )
    )
    other = tmp_path / "turned.nii.gz"
    nib.save(turned, other)
    (tmp_path / "found" / "a").mkdir(parents=True)
    sitk.WriteImage(sitk.ReadImage(str(other)), str(tmp_path / "found" / "a" / "liver.mha"))
    assert float(evaluate(tmp_path).rows["a", "liver"]["dsc"]) == 1.0


def test_cases_that_cannot_be_compared_say_why_and_spoil_no_other(
    maps: Path, mapping: Path
) -> None:
    truth = boxes((1, (2, 2, 2)))
    for case in "cdef":
        save(maps / "truth" / f"{case}.nii.gz", truth)
    save(maps / "found" / "d.nii.gz", truth[:-1])
    save(maps / "found" / "e.nii.gz", boxes((9, (2, 2, 2))))
    (maps / "found" / "f.nii.gz").write_bytes(b"no image")
    save(maps / "found" / "z.nii.gz", truth)
    scores = evaluate(maps, "--mapping", mapping)
    assert scores.reason("c", "") == "no prediction for this case"
    assert "not on the reference's grid" in scores.reason("d", "")
    assert "id 9" in scores.reason("e", "")
    assert "unreadable" in scores.reason("f", "")
    assert scores.summary["predictions_without_reference"] == ["z"]
    assert set(scores.summary["cases_not_evaluated"]) == set("cdef")
    assert scores.summary["anatomies"]["liver"]["figures"]["dsc"]["n"] == 2
    assert "warning: c: not evaluated: no prediction" in scores.told.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "is a label map; say what its values mean"),
        (("--mapping", "missing.yaml"), "missing.yaml"),
        (("--mapping", "MAPPING", "--tolerance", "-1"), "tolerance"),
        (("--mapping", "MAPPING", "--jobs", "0"), "jobs"),
        (("--mapping", "MAPPING", "--reference", "nowhere"), "no such folder"),
    ],
)
def test_what_cannot_be_done_is_one_clear_error(
    maps: Path, mapping: Path, arguments: tuple[str, ...], reason: str
) -> None:
    given = [str(mapping) if word == "MAPPING" else word for word in arguments]
    asked = ["--reference", maps / "truth", "--prediction", maps / "found", "--out", maps / "out"]
    told = CliRunner().invoke(app, ["evaluate", *map(str, asked), *given])
    assert isinstance(told.exception, clnet.InputError)
    assert reason in str(told.exception)
    assert not (maps / "out").exists()


def test_no_comparable_case_is_an_error_not_an_empty_table(tmp_path: Path) -> None:
    save(tmp_path / "truth" / "a" / "liver.nii.gz", boxes((1, (2, 2, 2))))
    save(tmp_path / "found" / "b" / "liver.nii.gz", boxes((1, (2, 2, 2))))
    with pytest.raises(clnet.InputError, match=r"none of 1 cases could be compared.*no prediction"):
        clnet.evaluate(tmp_path / "truth", tmp_path / "found")


def test_an_index_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "truth" / "a" / "liver.nii.gz", boxes((1, (2, 2, 2))))
    found = tmp_path / "found" / "a"
    found.mkdir(parents=True)
    index = {"layers": {"../../secret": {"labels": {"1": {"anatomy": "liver"}}}}}
    (found / "labels.json").write_text(json.dumps(index))
    with pytest.raises(clnet.InputError, match="not one of body"):
        clnet.evaluate(tmp_path / "truth", tmp_path / "found")
