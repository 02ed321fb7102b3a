"""The benchmark of training data: a tiny scan, readers in processes of their own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from rich.console import Console

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
EDGE, SLICES, PATCH = 64, 60, 24


@pytest.fixture(scope="module")
def data() -> Iterator[ModuleType]:
    sys.path.insert(0, str(FOLDER))
    import data

    yield data
    sys.path.remove(str(FOLDER))


def options(data: ModuleType) -> object:
    found = data.parser().parse_args([])
    vars(found).update(data.QUICK)
    found.edge, found.slices, found.patch = EDGE, SLICES, PATCH
    found.data, found.rounds, found.seconds = Path("nowhere"), 1, 0.05
    return found


@pytest.mark.slow
def test_readers_give_the_same_patches(data: ModuleType, tmp_path: Path) -> None:
    from data_readers import KEPT_BY, SYSTEMS
    from data_volume import make_volume, save_nifti

    ct, labels, said = make_volume(Path("nowhere"), EDGE, SLICES)
    assert "drawn" in said
    assert set(np.unique(labels)) == set(range(6))
    save_nifti(tmp_path / "image.nii.gz", ct)
    save_nifti(tmp_path / "labels.nii.gz", labels)
    box = (slice(20, 44), slice(10, 34), slice(5, 29))
    expected = (np.clip(ct[box], -995, 1265).astype(np.float32) + 187.85) / 490.7
    for key in ("clnet", "memmap", "nifti", "raw-clnet", "raw-memmap", "raw-nifti"):
        folder = tmp_path / KEPT_BY.get(key, key)
        if key not in KEPT_BY:
            SYSTEMS[key].write(folder, tmp_path, PATCH)
        image, found = SYSTEMS[key].open(folder, tmp_path, PATCH)(box)
        np.testing.assert_allclose(image, expected if SYSTEMS[key].ready else ct[box], rtol=1e-5)
        names = found if isinstance(found, dict) else {"": found}
        for grid in names.values():
            # the catalog numbers labels its own way
            np.testing.assert_array_equal(np.asarray(grid) > 0, labels[box] > 0)


@pytest.mark.slow
def test_processes_read_at_once_and_are_counted(data: ModuleType, tmp_path: Path) -> None:
    from data_readers import SYSTEMS
    from data_volume import make_volume, save_nifti

    ct, labels, _ = make_volume(Path("nowhere"), EDGE, SLICES)
    save_nifti(tmp_path / "image.nii.gz", ct)
    save_nifti(tmp_path / "labels.nii.gz", labels)
    SYSTEMS["clnet"].write(tmp_path / "clnet", tmp_path, PATCH)
    rates = data.read_rates(["clnet", "stream"], tmp_path, PATCH, ct.shape, 2, options(data))
    assert all(len(found) == 1 and found[0] > 0 for found in rates.values())
    seconds = data.ingest_seconds(tmp_path, PATCH, 1, peer=False)
    assert seconds["clnet"][0] > 0
    codecs = data.compare_codecs(ct, PATCH, tmp_path, 1, 1)
    assert all(row["own"] > 0 and row["zarr"] > 0 for row in codecs)
    data._show(
        Console(quiet=True),
        ["clnet"],
        {"clnet": 1, "case": 1, "nifti": 1},
        {n: {"clnet": [1.0]} for n in (1, 2)},
        seconds,
        codecs,
    )


def test_a_ratio_is_the_median_of_the_turns(data: ModuleType) -> None:
    rates = {"clnet": [2.0, 10.0, 3.0], "nnunet": [1.0, 1.0, 1.0]}
    assert data.ratio(rates, "clnet", "nnunet") == 3.0
    assert data.ratio({"clnet": [1.0]}, "clnet", "nnunet") is None
