"""A tiny release with decoders that see something, and a scan to send."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny_release import add_decoder, add_foundation
from tiny_service import RELEASE, Address, InProcess, make_scan, oblique_affine, scan_bytes

from clnet.model.result import Segmentation
from clnet.serve import load_release


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Address:
    """A registry with release 2026.11: organs, a bone, and an aorta that leans on the liver."""
    folder = tmp_path_factory.mktemp("registry")
    address = Address(f"sqlite:///{folder / 'registry.db'}", str(folder / "artefacts"))
    with address.open() as registry:
        add_foundation(registry)
        liver = add_decoder(registry, "abdomen/liver", ["liver", "spleen"], seed=1)
        add_decoder(registry, "abdomen/kidney", ["kidney_left", "kidney_right"], seed=2)
        add_decoder(registry, "bone/sacrum", ["sacrum"], layer="bone", seed=3)
        add_decoder(
            registry, "abdomen/aorta", ["aorta"], layer="vessel", supporters=[liver.ref], seed=4
        )
        registry.create_release(RELEASE, "production", policy={"notice": "networks of noise"})
    return address


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A scan with a crooked grid, as a file."""
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(scan_bytes())
    return path


@pytest.fixture(scope="session")
def expected(source: Address) -> Segmentation:
    """What the release makes of the scan in this process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with source.open() as registry:
            model = load_release(registry, RELEASE)
        return model.segment(make_scan(), oblique_affine())
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def pipeline(source: Address) -> Iterator[InProcess]:
    """The same release without Ray, computed in this process."""
    threads = torch.get_num_threads()
    yield InProcess(source)
    torch.set_num_threads(threads)
