"""The benchmark of a large catalog, with few cases."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from rich.console import Console

import clnet

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def scale() -> Iterator[ModuleType]:
    sys.path.insert(0, str(FOLDER))
    import catalog_scale

    yield catalog_scale
    sys.path.remove(str(FOLDER))


def test_cases_are_split_among_datasets_and_sites(scale: ModuleType) -> None:
    found = scale.wanted(23, 5)
    assert [one.cases for one in found] == [5, 5, 5, 4, 4]
    assert [one.first for one in found] == [0, 5, 10, 15, 19]
    assert found[4].name == "site-a/scans-04"
    assert found[4].mapping != found[0].mapping


def test_every_scan_differs_in_its_noise_alone(scale: ModuleType) -> None:
    from catalog_scale_cases import make_case

    (ct, ids), (other, same) = make_case(1), make_case(2)
    assert not np.array_equal(ct, other)
    np.testing.assert_array_equal(ids, same)
    np.testing.assert_array_equal(ct, make_case(1)[0])


@pytest.mark.slow
def test_steps_are_measured_in_catalogs_that_are_used_again(
    scale: ModuleType, tmp_path: Path
) -> None:
    options = scale.parser().parse_args(["--cases", "20", "--datasets", "2", "--rounds", "1"])
    figures, targets, notes = scale.run(options, tmp_path, Console(quiet=True))
    assert {n: made["contributed"] for n, made in figures["making"].items()} == {"2": 2, "20": 20}
    assert scale.make(tmp_path / "20", 20, 2, Console(quiet=True))["contributed"] == 0
    with clnet.connect(tmp_path / "20") as hub:
        assert [len(dataset) for dataset in hub.datasets.list()] == [10, 10]
    [found] = figures["steps"]["20"]["plan"]
    assert found["cases"] == 20
    assert found["labels"] == 4
    [found] = figures["steps"]["20"]["filter"]
    assert (found["datasets"], found["of_site"]) == (2, 1)
    assert [target.name.split(":")[0] for target in targets] == ["list", "filter", "plan"] * 2
    json.dumps([figures, notes])
    with pytest.raises(SystemExit, match="another run"):
        scale.make(tmp_path / "20", 22, 2, Console(quiet=True))
