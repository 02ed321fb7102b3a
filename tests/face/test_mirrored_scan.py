"""A scan whose header has left and right exchanged is noticed, with the decoders that ship."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import clnet
from clnet.anatomy.phantom import render
from clnet.starter import RELEASE

pytestmark = pytest.mark.skipif(
    not RELEASE.is_dir(), reason="this checkout ships no starter release"
)


def test_a_mirrored_scan_is_told_and_neither_a_good_one_nor_a_single_slice(tmp_path: Path) -> None:
    spacing = (6.0, 6.0, 6.0)
    ct = render(3, spacing=spacing, field_of_view=(0.3, 0.75)).ct
    scans = {"good": ct, "mirrored": ct[:, :, ::-1], "slice": ct[20:21]}
    warnings = {}
    with clnet.connect(tmp_path / "hub") as hub:
        hub.releases.import_("starter")
        for name, volume in scans.items():
            path = tmp_path / f"{name}.nii.gz"
            image = np.ascontiguousarray(volume.transpose(2, 1, 0))
            nib.save(nib.Nifti1Image(image, np.diag([-6.0, -6.0, 6.0, 1.0])), path)
            result = hub.segment(path, anatomies=["body", "heart", "lung", "hip"])
            warnings[name] = result.statistics()["warnings"]
    assert warnings["good"] == []
    (short,) = warnings["slice"]
    assert "body parts were not recognised" in short
    assert any("heart found on the wrong side" in text for text in warnings["mirrored"])
