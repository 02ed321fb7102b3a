"""Which cases say how high in the body their slices lie."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from tiny_scans import TERMS

from clnet.anatomy.phantom import Phantom, render
from clnet.data_catalog import Catalog
from clnet.phantom_cases import to_nibabel, write_case
from clnet.platform.body_landmarks import VERTEBRAE, known_heights
from clnet.platform.body_parts import BODY_PART_PLAN

NAMES = ("skull", "hip_left", "hip_right")
WHOLE = {name: name for name in NAMES}


@pytest.fixture(scope="module")
def body() -> Phantom:
    return render(5, spacing=(9.0, 9.0, 9.0), field_of_view="whole")


def heights(
    body: Phantom, root: Path, labels: dict[str, list[str]], mapping: dict[str, object]
) -> np.ndarray | None:
    catalog = Catalog(root / "catalog")
    case = write_case(body, root / "sources", "body", labels)
    dataset = catalog.contribute("ref/bodies", [case], mapping, TERMS)
    store = catalog.plan_store(dataset, BODY_PART_PLAN.to_dict())
    return known_heights(store.open("body"))


@pytest.mark.parametrize(
    ("labels", "mapping"),
    [
        ({name: [name] for name in NAMES}, WHOLE),
        (
            {"skull": ["skull"], "hips": ["hip_left", "hip_right"]},
            {"skull": "skull", "hips": "hip"},
        ),
    ],
    ids=["each side", "both sides as one"],
)
def test_hips_and_skull_say_where_the_slices_lie(
    body: Phantom, tmp_path: Path, labels: dict[str, list[str]], mapping: dict[str, object]
) -> None:
    found = heights(body, tmp_path, labels, mapping)
    assert found is not None
    np.testing.assert_allclose(found[[0, -1]], body.height[[0, -1]], atol=0.03)


@pytest.mark.parametrize("missing", ["hip_left", "hip_right"])
def test_a_hip_alone_says_nothing(body: Phantom, tmp_path: Path, missing: str) -> None:
    names = [name for name in NAMES if name != missing]
    labels = {name: [name] for name in names}
    assert heights(body, tmp_path, labels, {name: name for name in names}) is None


def test_a_hip_that_the_annotator_did_not_find_says_nothing(body: Phantom, tmp_path: Path) -> None:
    labels = {"skull": ["skull"], "hip_left": ["hip_left"], "hip_right": []}
    assert heights(body, tmp_path, labels, WHOLE) is None


@pytest.mark.parametrize("name", ["skull", "hip_left"])
def test_a_bone_that_is_labelled_in_an_extent_says_nothing(
    body: Phantom, tmp_path: Path, name: str
) -> None:
    mapping = WHOLE | {name: {"anatomy": name, "within": "auto"}}
    assert heights(body, tmp_path, {name: [name] for name in NAMES}, mapping) is None


def of_vertebrae(
    body: Phantom, root: Path, at: dict[str, float], names: tuple[str, ...] = ()
) -> np.ndarray | None:
    """Known heights of a phantom whose bones at some heights are called vertebrae."""
    catalog = Catalog(root / "catalog")
    case = write_case(body, root / "sources", "body", {name: [name] for name in names})
    for name, height in at.items():
        centre = np.interp(height, body.height, np.arange(len(body.height)))
        slices = slice(max(0, round(centre) - 1), round(centre) + 2)
        mask = np.zeros(body.ct.shape, np.uint8)
        mask[slices] = body.ct[slices] > 200
        path = root / f"{name}.nii.gz"
        nib.save(nib.Nifti1Image(to_nibabel(mask), body.affine), path)
        case.labels[name] = path
    mapping = {name: name for name in (*names, *at)}
    dataset = catalog.contribute("ref/bodies", [case], mapping, TERMS)
    store = catalog.plan_store(dataset, BODY_PART_PLAN.to_dict())
    return known_heights(store.open("body"))


@pytest.fixture(scope="module")
def trunk() -> Phantom:
    return render(6, spacing=(9.0, 9.0, 9.0), field_of_view="trunk")


@pytest.mark.parametrize(("low", "high"), [("L5", "T5"), ("L1", "T11"), ("C6", "C1")])
def test_two_vertebrae_say_where_the_slices_between_them_lie(
    body: Phantom, tmp_path: Path, low: str, high: str
) -> None:
    at = {name: VERTEBRAE[name] for name in (f"vertebrae_{low}", f"vertebrae_{high}")}
    found = of_vertebrae(body, tmp_path, at)
    assert found is not None
    known = np.isfinite(found)
    truth = np.interp(
        np.linspace(0, 1, len(found)), np.linspace(0, 1, len(body.height)), body.height
    )
    np.testing.assert_allclose(found[known], truth[known], atol=0.02)
    inside = (truth > min(at.values()) + 0.02) & (truth < max(at.values()) - 0.02)
    assert known[inside].all()
    assert not known[(truth < min(at.values()) - 0.02) | (truth > max(at.values()) + 0.02)].any()


def test_an_end_of_the_body_and_a_vertebra_say_it_too(body: Phantom, tmp_path: Path) -> None:
    at = {"vertebrae_T5": VERTEBRAE["vertebrae_T5"]}
    found = of_vertebrae(body, tmp_path, at, ("hip_left", "hip_right"))
    assert found is not None
    assert np.nanmin(found) == 0
    assert np.nanmax(found) == pytest.approx(VERTEBRAE["vertebrae_T5"], abs=0.02)


@pytest.mark.parametrize(
    "at",
    [
        {"vertebrae_L1": 0.4},
        {"vertebrae_L5": 0.6, "vertebrae_T5": 0.3},
        {"vertebrae_L5": 0.3, "vertebrae_T12": 0.5},
    ],
    ids=["one vertebra", "the higher one lies lower", "one whose height is not known"],
)
def test_vertebrae_that_say_nothing(body: Phantom, tmp_path: Path, at: dict[str, float]) -> None:
    assert of_vertebrae(body, tmp_path, at) is None


def test_a_vertebra_that_is_cut_says_nothing(trunk: Phantom, tmp_path: Path) -> None:
    at = {"vertebrae_L5": float(trunk.height[0]), "vertebrae_T5": VERTEBRAE["vertebrae_T5"]}
    assert of_vertebrae(trunk, tmp_path, at) is None
