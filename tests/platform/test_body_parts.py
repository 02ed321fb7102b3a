"""Which cases say how high in the body their slices lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_scans import TERMS

from clnet.anatomy.phantom import Phantom, render
from clnet.data_catalog import Catalog
from clnet.phantom_cases import write_case
from clnet.platform.body_parts import BODY_PART_PLAN, known_heights

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
